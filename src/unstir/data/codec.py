"""The border between data as users hold it and data as a network sees it, for every kind of data.

| kind    | users hold                                    | a network sees                                        |
|---------|-----------------------------------------------|-------------------------------------------------------|
| image   | uint8 (N, H, W, C), levels 0…255              | float32 (N, C, H, W), level k at 2k/255 - 1           |
| image   | float32 (N, H, W, C), with a scaling          | float32 (N, C, H, W), scaled                          |
| points  | float32 (N, D)                                | float32 (N, D), scaled                                |
| bits    | bool (N, D)                                   | float32 (N, D), 0 or 1                                |
| symbols | uint8 (N, D), 0 … K-1                         | int64 (N, D)                                          |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unstir.data.convert import to_float, to_uint8
from unstir.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 2.0  # real pictures are shown black at 2 root mean squares below their mean, white at 2 above


@dataclass(frozen=True)
class Scaling:
    """``z = (x - offset) / scale``: real data in their own units, and centred with mean square 1 as a network sees them.

    Args:
        offset: (D,) of points, (C,) of pictures. scale: one positive number for all of them, so that shapes are kept.
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
        """Float32 points (N, D), or pictures (N, H, W, C), as a network sees them."""
        return ((x - np.asarray(self.offset)) / self.scale).astype(np.float32)

    def outside(self, z: np.ndarray) -> np.ndarray:
        """The inverse: float32 in their own units."""
        return (z * self.scale + np.asarray(self.offset)).astype(np.float32)


_AS_IT_IS = Scaling((0.0,), 1.0)


@dataclass(frozen=True)
class Codec:
    """``inside`` and ``outside``, each the other's inverse on data of its kind.

    Args:
        kind: ``"image"``, ``"points"``, ``"bits"`` or ``"symbols"``.
        scaling: of points and of real pictures; None for pictures of levels 0…255, bits and symbols.
        symbols: K, the size of the alphabet; None for other kinds.
    """

    kind: str = "image"
    scaling: Scaling | None = None
    symbols: int | None = None

    def inside(self, x: np.ndarray) -> Tensor:
        """Data as users hold it (N, …), as a network sees it: a tensor on the processor.

        Raises:
            UserError: for bits other than 0 and 1, and for symbols outside the alphabet.
            ValueError: for pictures of another type or number of dimensions.
        """
        import torch

        if self.kind == "bits":
            return torch.from_numpy(_bits(x).astype(np.float32))
        if self.kind == "symbols":
            return torch.from_numpy(self._in_alphabet(x).astype(np.int64))
        if self.kind == "points":
            return torch.from_numpy((self.scaling or _AS_IT_IS).inside(x))
        if self.scaling is None:
            return to_float(x)
        return torch.from_numpy(self.scaling.inside(x)).permute(0, 3, 1, 2).contiguous()

    def outside(self, x: Tensor) -> np.ndarray:
        """What a network sees, or a sampler ends with, as users hold it.

        Levels are rounded and clamped; bits are true above 1/2; symbols get the smallest unsigned type that holds the alphabet,
        or the mask that stands for an unknown symbol where it occurs.
        """
        if self.kind == "image" and self.scaling is None:
            return to_uint8(x)
        values = x.detach().cpu()
        if self.kind == "symbols":
            symbols = values.long().numpy()
            return symbols.astype(np.min_scalar_type(max(self.symbols or 1, int(symbols.max(initial=0)) + 1) - 1))
        z = values.float().numpy()
        if self.kind == "bits":
            return z > 0.5
        scaling = self.scaling or _AS_IT_IS
        return scaling.outside(z if self.kind == "points" else np.moveaxis(z, 1, -1))

    def rows(self, x: Tensor) -> Tensor:
        """What a network sees as rows of numbers (N, F) to measure distances between: of bits and symbols, ``|x - y|²`` counts the
        places that differ."""
        import torch

        if self.kind == "symbols":  # one-hot rows differ twice where symbols do: half a square each
            x = torch.nn.functional.one_hot(x, self.symbols or -1) * 0.5**0.5
        return x.flatten(1)

    def levels(self, x: np.ndarray) -> np.ndarray:
        """Pictures as uint8 (N, H, W, C), to be looked at or saved: levels as they are; real pictures from black at 2 root mean
        squares below the mean to white at 2 above.

        Raises:
            UserError: for data of another kind.
        """
        if self.kind != "image":
            raise UserError(f"these are {self.kind}, of which no picture can be made")
        if self.scaling is None:
            return x
        shown = (self.scaling.inside(x) / _SHOWN + 1) * 127.5
        return np.clip(np.rint(shown), 0, 255).astype(np.uint8)

    def _in_alphabet(self, x: np.ndarray) -> np.ndarray:
        x, size = np.asarray(x), self.symbols or 0
        if x.dtype.kind not in "iub" or (x.size and (x.min() < 0 or x.max() >= size)):
            found = f"values from {x.min()} to {x.max()}" if x.size and x.dtype.kind in "iub" else f"{x.dtype}"
            raise UserError(f"symbols are whole numbers 0…{size - 1} here, not {found}")
        return x


LEVELS = Codec()  # of pictures as they are commonly stored


def _bits(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype != np.bool_ and not np.isin(x, (0, 1)).all():
        raise UserError(f"bits are 0 or 1, not {x[~np.isin(x, (0, 1))].flat[0]}")
    return x
