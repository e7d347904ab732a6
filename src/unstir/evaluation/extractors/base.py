"""What every extractor of features says of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from torch import Tensor

from unstir.data.split import content_hash


class Extractor(Protocol):
    """Data as a network sees them, (N, *E), to features (N, F) in float64 on the processor.

    A row's features do not depend on its neighbours, nor on how many there are, but for rounding.
    """

    @property
    def name(self) -> str:
        """What stands behind every number, with the version of what is computed."""
        ...

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of all that decides the features: the rule, the weights, and of fitted ones what was fitted."""
        ...

    @property
    def rule(self) -> str:
        """One sentence: how data reach it, and what is taken from it."""
        ...

    def __call__(self, x: Tensor) -> Tensor: ...


Fit = Callable[[Tensor], Extractor]
"""Real data as a network sees them, (N, *E), to the extractor: fitted to them, or from a file and the same for all."""


def identity(said: str, tensors: Iterable[Tensor]) -> str:
    """SHA-256 (hex) of a text and of the types, shapes and values of tensors, each with at least one dimension."""
    text = np.frombuffer(said.encode(), np.uint8)
    return content_hash([text, *(tensor.detach().cpu().numpy() for tensor in tensors)])
