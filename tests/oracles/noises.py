"""Noise made for exact expectations and exact chains, in place of random draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unstir.noise import NoiseSource


class OneStepOnly(NoiseSource):
    """Row i draws 1 at step ``at[i]`` and 0 at every other: what an affine chain makes of it is that step's share."""

    def __init__(self, at: Tensor) -> None:
        super().__init__(0, range(len(at)))
        self.at = at

    def normal(
        self, shape: Sequence[int], purpose: str, step: int | Tensor = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        hit = (self.at == torch.as_tensor(step)).to(dtype)
        return hit.reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()
