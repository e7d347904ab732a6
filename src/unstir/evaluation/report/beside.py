"""What is no picture, drawn to be compared: clouds of points on the same axes, bits and symbols as rows of colour."""

from __future__ import annotations

import colorsys
from html import escape

import numpy as np
from PIL import Image

Window = tuple[np.ndarray, np.ndarray]
"""The lower left and the upper right corner of a plane that is looked at, (2,) each."""

NAMED = 20  # symbols up to which a key can be read
_SIDE, _LEFT, _BOTTOM = 300.0, 52.0, 20.0
_MARGIN = 1.1  # of a window, over half of what it must show
_RASTER = 320  # pixels each way that a raster fills, unless it is longer
_BITS = ((226, 223, 215), (43, 93, 138))  # 0 is seen on white and on black paper, 1 is darker
_UNKNOWN = (0, 0, 0)


def plane(points: np.ndarray) -> np.ndarray:
    """Points (N, D) as they are drawn, (N, 2): the first two coordinates; of one alone, each value and the share up to it."""
    if points.shape[1] > 1:
        return points[:, :2].astype(np.float64)
    return np.stack([np.sort(points[:, 0].astype(np.float64)), np.arange(1, len(points) + 1) / len(points)], 1)


def window(points: np.ndarray) -> Window:
    """Where all of these points (N, D) are seen, with room around them; of planes as long one way as the other: shapes are kept."""
    drawn = plane(points)
    low, high = drawn.min(0), drawn.max(0)
    half, middle = (high - low) / 2 * _MARGIN, (low + high) / 2
    if points.shape[1] > 1:
        half[:] = half.max()
    half[half == 0] = 1.0
    low, high = middle - half, middle + half
    if points.shape[1] == 1:
        low[1], high[1] = 0, 1
    return low, high


def cloud(points: np.ndarray, seen: Window, title: str, style: str) -> tuple[str, int]:
    """Points (N, D) as a scatter in SVG, and how many of them lie outside the window and are not drawn.

    Args:
        title: for those who do not see it. style: a or b, the page's two colours.
    """
    low, high = seen
    drawn = plane(points)
    inside = ((drawn >= low) & (drawn <= high)).all(1)  # asked this way round, NaN is outside
    share = (drawn[inside] - low) / (high - low)
    across, up = _LEFT + share[:, 0] * _SIDE, (1 - share[:, 1]) * _SIDE
    width, height = _LEFT + _SIDE, _SIDE + _BOTTOM
    parts = [
        f'<svg viewBox="0 -6 {width + 6:g} {height + 6:g}" role="img" aria-label="{escape(title)}">',
        f'<rect class="axis" x="{_LEFT:g}" y="0" width="{_SIDE:g}" height="{_SIDE:g}" fill="none"/>',
    ]
    for at, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x, y = low + at * (high - low)
        parts.append(
            f'<text x="{_LEFT + at * _SIDE:g}" y="{height - 4:g}" text-anchor="{anchor}">{x:.3g}</text>'
            f'<text x="{_LEFT - 6:g}" y="{(1 - at) * _SIDE + 4:g}" text-anchor="end">{y:.3g}</text>'
        )
    dots = "".join(f'<path d="M{x:.1f} {y:.1f}h0"/>' for x, y in zip(across, up))
    return f'{"".join(parts)}<g class="dots {style}">{dots}</g></svg>', int((~inside).sum())


def colours(symbols: int | None) -> np.ndarray:
    """Uint8 (K + 1, 3): one for each of K symbols and black for one that is not known; of bits (None) one for 0 and one for 1."""
    if symbols is None:
        return np.array(_BITS, np.uint8)
    # Neighbours on the wheel differ in brightness too.
    wheel = [colorsys.hsv_to_rgb(k / symbols, 0.6, 0.9 - 0.25 * (k % 2)) for k in range(symbols)]
    return np.array([*(tuple(round(255 * part) for part in colour) for colour in wheel), _UNKNOWN], np.uint8)


def raster(rows: np.ndarray, symbols: int | None = None) -> Image.Image:
    """Bits, or symbols 0 … K-1, (N, D), as a picture: a row for each, every value a patch of its colour.

    Args:
        symbols: K, or None for bits.
    """
    number, length = rows.shape
    high, wide = max(1, _RASTER // number), max(1, _RASTER // length)
    drawn = colours(symbols)[rows.astype(np.int64)].repeat(high, axis=0).repeat(wide, axis=1)
    if high > 4:
        drawn[high - 1 :: high] = 255  # equal rows one below the other are still seen to be several
    return Image.fromarray(drawn)


def key(symbols: int | None = None) -> str:
    """Which colour is which value, as HTML; nothing where there are more than can be told apart."""
    number = 2 if symbols is None else symbols
    if number > NAMED:
        return ""
    patches = zip(range(number), colours(symbols).tolist())
    return " ".join(f'<span style="color:rgb({r},{g},{b})">■</span> {k}' for k, (r, g, b) in patches)
