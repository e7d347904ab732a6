"""Pictures of one size in one array: transparency, size and channels, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from unstir.data.decode import fit

_PART = 2**24  # bytes worked on at a time

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pixels:
    """Opaque pictures, and the channels they are seen in.

    Args:
        levels: uint8 (N, H, W, 1 or 3), possibly memory-mapped.
        mode: ``"L"`` or ``"RGB"``.
    """

    levels: np.ndarray
    mode: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) as seen."""
        return (1 if self.mode == "L" else 3, *self.levels.shape[1:3])

    def parts(self, index: np.ndarray) -> Iterator[np.ndarray]:
        """The pictures of ``index``, in its order, as uint8 (n, H, W, C), a part at a time."""
        for rows in parts(index, self.levels):
            yield in_mode(self.levels[rows], self.mode)


def parts(index: np.ndarray, levels: np.ndarray) -> Iterator[np.ndarray]:
    """The index cut into pieces for which the pictures fill about 16 MiB."""
    step = max(1, _PART // max(1, levels[0].nbytes))
    for start in range(0, len(index), step):
        yield index[start : start + step]


def in_mode(levels: np.ndarray, mode: str) -> np.ndarray:
    """Pictures of 1 or 3 channels in those of the mode; colours become grey by ITU-R 601 luma, as in Pillow."""
    if mode == "RGB":
        return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels
    if levels.shape[-1] == 1:
        return levels
    weights = np.array([19595, 38470, 7471], np.uint32)  # 0.299, 0.587, 0.114 in units of 2^-16
    return ((levels @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def all_grey(levels: np.ndarray, index: np.ndarray) -> bool:
    """Whether R = G = B in every pixel of the pictures of ``index``."""
    if levels.shape[-1] == 1:
        return True
    for rows in parts(index, levels):
        part = levels[rows]
        if (part[..., :1] != part[..., 1:]).any():
            return False
    return True


def opaque(images: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """uint8 (N, H, W, 1…4) laid over the background: (N, H, W, 1 or 3)."""
    channels = images.shape[-1]
    if channels in (1, 3):
        return images
    laid = np.empty((*images.shape[:-1], 3), np.uint8)
    behind = np.array(background, np.uint16)
    for rows in parts(np.arange(len(images)), images):
        part = images[rows].astype(np.uint16)
        colours, alpha = part[..., :-1], part[..., -1:]
        laid[rows] = (alpha * colours + (255 - alpha) * behind + 127) // 255
    return laid


def resized(levels: np.ndarray, size: tuple[int, int], progress: Progress | None) -> np.ndarray:
    """Each picture brought to ``size`` (width, height) as ``decode.fit`` does."""
    number, channels = len(levels), levels.shape[-1]
    out = np.empty((number, size[1], size[0], channels), np.uint8)
    for i in range(number):
        image = Image.fromarray(levels[i, :, :, 0] if channels == 1 else np.ascontiguousarray(levels[i]))
        out[i] = np.asarray(fit(image, size)).reshape(out.shape[1:])
        if progress:
            progress(i + 1, number)
    return out
