"""Pictures side by side."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

_GAP = 2  # pixels between pictures
_GREY = 128  # of the gap: seen between white pictures and between black ones
_LEGIBLE = 64  # pixels: a smaller picture is enlarged towards this


def contact_sheet(images_uint8_nhwc: np.ndarray, columns: int | None = None, scale: int | None = None) -> Image.Image:
    """A grid of the pictures, row by row, on grey.

    Args:
        images_uint8_nhwc: uint8 (N, H, W, C) with C = 1 or 3 and N ≥ 1.
        columns: pictures in a row; by default the least that makes the grid at least as wide as high.
        scale: each pixel becomes a square of scale×scale pixels (nothing is interpolated); by default the largest
            integer that keeps the longer side within 64 pixels, at least 1.

    Returns:
        an image of mode L (C = 1) or RGB.

    Raises:
        ValueError: for another shape or dtype.
    """
    images = images_uint8_nhwc
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(f"expected uint8 (N, H, W, 1 or 3), got {images.dtype} {images.shape}")
    number, height, width, channels = images.shape
    across = min(number, columns or math.ceil(math.sqrt(number)))
    rows = math.ceil(number / across)
    scale = scale or max(1, _LEGIBLE // max(height, width))
    cell_height, cell_width = height * scale + _GAP, width * scale + _GAP
    sheet = np.full((rows * cell_height + _GAP, across * cell_width + _GAP, channels), _GREY, np.uint8)
    for i in range(number):
        top, left = i // across * cell_height + _GAP, i % across * cell_width + _GAP
        enlarged = images[i].repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[top : top + height * scale, left : left + width * scale] = enlarged
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
