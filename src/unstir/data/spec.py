"""What a data set is: its description, its two splits, and what was done to make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unstir.data.codec import LEVELS, Codec, Scaling
from unstir.data.names import Names
from unstir.data.vectors import Vectors

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """The data description that travels with a run.

    Args:
        kind: ``"image"``, ``"points"``, ``"bits"`` or ``"symbols"``.
        shape: the event's shape: (C, H, W) of images, else (D,).
        eight_bit: the data are levels 0…255, so that bits/dim of the mass has a meaning.
        classes: class names; a label is an index into them. Empty when there are no labels.
        source: the data as the user named them.
        rules: one sentence: what was done to each picture.
        hash: SHA-256 (hex) of the arrays and labels of both splits.
        scaling: of points and of real-valued images; None for the rest.
        symbols: K, how many symbols there are; None for other kinds.
        vectors: the numbers that go with each item, and their scaling; None where there are none.
    """

    kind: str
    shape: tuple[int, ...]
    eight_bit: bool
    classes: tuple[str, ...]
    source: str
    rules: str
    hash: str
    scaling: Scaling | None = None
    symbols: int | None = None
    vectors: Vectors | None = None

    @property
    def codec(self) -> Codec:
        """What takes this data across the border."""
        return Codec(self.kind, self.scaling, self.symbols)

    def inside(self, x: np.ndarray) -> Tensor:
        """Data as users hold it, as a network sees it: see ``codec.Codec.inside``."""
        return self.codec.inside(x)

    def outside(self, x: Tensor) -> np.ndarray:
        """What a network sees, as users hold it: see ``codec.Codec.outside``."""
        return self.codec.outside(x)

    def levels(self, x: np.ndarray) -> np.ndarray:
        """Images as uint8 (N, H, W, C), to be looked at: see ``codec.Codec.levels``."""
        return self.codec.levels(x)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; ``from_json`` is its inverse."""
        return asdict(self) | {"shape": list(self.shape), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> DataSpec:
        """The description that ``to_json`` wrote, now or when there were fewer fields."""
        scaling = fields.get("scaling")
        scaling = scaling and Scaling(tuple(scaling["offset"]), scaling["scale"])
        vectors = fields.get("vectors")
        vectors = vectors and Vectors.from_json(vectors)
        tuples = {"shape": tuple(fields["shape"]), "classes": tuple(fields["classes"])}
        return cls(**{**fields, **tuples, "scaling": scaling, "vectors": vectors})


_COLOURS = {1: ("brightness",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "opacity")}


def channel_names(kind: str, channels: int) -> list[str]:
    """What the channels of a kind of data are called in words: of pictures their colours, of symbols each of these."""
    if kind == "image" and channels in _COLOURS:
        return list(_COLOURS[channels])
    if kind == "symbols":
        return [f"symbol {i}" for i in range(channels)]
    return [f"{'channel' if kind == 'image' else 'coordinate'} {i + 1}" for i in range(channels)]


@dataclass
class Split:
    """One side of the data, kept as stored.

    Args:
        x: as users hold it: see ``codec``. Images are possibly memory-mapped.
        labels: int64 (N,), or None.
        codec: takes rows of x across the border.
        rows: int64 (N,), each one's position in the source, from 0; None: the split stands for itself, and they lie as they do here.
        files: the names of all of the source's files, where items are files.
        vectors: float32 (N, V), the numbers that go with each item as a network sees them, or None.
    """

    x: np.ndarray
    labels: np.ndarray | None
    codec: Codec = LEVELS
    rows: np.ndarray | None = None
    files: Sequence[str] | None = None
    vectors: np.ndarray | None = None

    @property
    def names(self) -> Sequence[str]:
        """What the user calls each item: its file's path inside the source, or ``#17``, its position there."""
        return Names(np.arange(len(self)) if self.rows is None else self.rows, self.files)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> Split:
        """The items of ``index`` alone, each still known by its name."""
        rows = index if self.rows is None else self.rows[index]
        beside = {
            name: None if array is None else array[index]
            for name, array in (("labels", self.labels), ("vectors", self.vectors))
        }
        return replace(self, x=self.x[index], rows=rows, **beside)

    def spread(self, limit: int) -> np.ndarray:
        """Indices of at most ``limit`` rows, evenly spaced: data often comes class by class."""
        return np.linspace(0, len(self) - 1, min(limit, len(self))).astype(np.int64)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """The rows of ``index`` (B,), ready for a network.

        Returns:
            what ``codec`` makes of them, and labels int64 (B,) or None.
        """
        import torch

        x = self.codec.inside(self.x[index])
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
