"""What likelihoods of a kind of data are counted in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unstir.data.spec import DataSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Unit:
    """From nats of whole items, as a network sees them, to what is reported: ``per_nat (nats + shift)``."""

    name: str
    per_nat: float
    shift: float

    @property
    def column(self) -> str:
        """The unit as a word."""
        return self.name.replace("/", "_per_")

    def of(self, nats: Tensor) -> Tensor:
        return self.per_nat * (nats + self.shift)


def unit_of(spec: DataSpec) -> Unit:
    """Bits/dim of 8-bit data, else bits per item, of densities in the data's own units."""
    dims = math.prod(spec.shape)
    if spec.eight_bit:
        return Unit("bits/dim", 1 / (dims * math.log(2)), 0.0)
    # The scaling stretched each of the D coordinates.
    return Unit("bits/item", 1 / math.log(2), dims * math.log(spec.scaling.scale) if spec.scaling else 0.0)
