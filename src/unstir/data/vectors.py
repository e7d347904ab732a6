"""Numbers that go with each item: ages, measurements, positions in an embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Vectors:
    """``z = (v - mean) / std`` of each column, mean and standard deviation those of the training items.

    Args:
        names: of the V columns. mean, std: (V,), in the columns' own units; std 1 where a column never changes.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str], values: np.ndarray) -> Vectors:
        """The scaling that suits training items' vectors (N, V)."""
        std = [float(each) or 1.0 for each in values.std(0, dtype=np.float64)]
        return cls(tuple(names), tuple(values.mean(0, dtype=np.float64).tolist()), tuple(std))

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Vectors (N, V) in their own units, as a network sees them: float32."""
        return ((np.asarray(values, np.float64) - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Vectors:
        """What ``dataclasses.asdict`` made of one."""
        return cls(**{name: tuple(value) for name, value in fields.items()})
