"""What a data set is: its description, its two splits, and what was done to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unstir.data.convert import to_float

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scaling:
    """``z = (x - offset) / scale``: points in their own units, and centred with mean square 1 as a network sees them.

    Args:
        offset: (D,). scale: one positive number for all coordinates, so that shapes are kept.
    """

    offset: tuple[float, ...]
    scale: float

    @classmethod
    def of(cls, x: np.ndarray) -> Scaling:
        """The scaling that suits points (N, D)."""
        offset = x.mean(0, dtype=np.float64)
        scale = float(np.sqrt(np.square(x - offset).mean())) or 1.0
        return cls(tuple(offset.tolist()), scale)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Float32 points as a network sees them."""
        return ((x - np.asarray(self.offset)) / self.scale).astype(np.float32)

    def outside(self, z: np.ndarray) -> np.ndarray:
        """The inverse: float32 points in their own units."""
        return (z * self.scale + np.asarray(self.offset)).astype(np.float32)


@dataclass(frozen=True)
class DataSpec:
    """The data description that travels with a run.

    Args:
        kind: ``"image"`` or ``"points"``.
        shape: the event's shape: (C, H, W) of images, (D,) of points.
        eight_bit: the data are levels 0…255, so that bits/dim of the mass has a meaning.
        classes: class names; a label is an index into them. Empty when there are no labels.
        source: the data as the user named them.
        rules: one sentence: what was done to each picture.
        hash: SHA-256 (hex) of the arrays and labels of both splits.
        scaling: of points; None for images.
    """

    kind: str
    shape: tuple[int, ...]
    eight_bit: bool
    classes: tuple[str, ...]
    source: str
    rules: str
    hash: str
    scaling: Scaling | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; ``from_json`` is its inverse."""
        return asdict(self) | {"shape": list(self.shape), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DataSpec:
        """The description that ``to_json`` wrote."""
        scaling = fields.get("scaling")
        scaling = scaling and Scaling(tuple(scaling["offset"]), scaling["scale"])
        tuples = {"shape": tuple(fields["shape"]), "classes": tuple(fields["classes"])}
        return cls(**{**fields, **tuples, "scaling": scaling})


@dataclass
class Split:
    """One side of the data, kept as stored.

    Args:
        x: images uint8 (N, H, W, C), possibly memory-mapped; points float32 (N, D).
        labels: int64 (N,), or None.
        scaling: of points; None for images.
    """

    x: np.ndarray
    labels: np.ndarray | None
    scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.x)

    def spread(self, limit: int) -> np.ndarray:
        """Indices of at most ``limit`` rows, evenly spaced: data often comes class by class."""
        return np.linspace(0, len(self) - 1, min(limit, len(self))).astype(np.int64)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """The rows of ``index`` (B,), ready for a network.

        Returns:
            images float32 (B, C, H, W) in [-1, 1] or scaled points float32 (B, D), and labels int64 (B,) or None.
        """
        import torch

        rows = self.x[index]
        x = torch.from_numpy(self.scaling.inside(rows)) if self.scaling else to_float(rows)
        return x, None if self.labels is None else torch.from_numpy(np.array(self.labels[index]))


@dataclass
class Dataset:
    """Data ready for training: a description, two disjoint splits and a log.

    Args:
        spec: what the data are.
        train: what is learned from.
        heldout: what is measured on, never trained on.
        log: plain sentences: what was done with odd files.
    """

    spec: DataSpec
    train: Split
    heldout: Split
    log: list[str]
