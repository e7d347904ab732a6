"""What is no picture, drawn to be compared: clouds of points on the same axes, bits and symbols as rows of colour."""

from __future__ import annotations

import colorsys
from html import escape

import numpy as np
from PIL import Image

from unstir.evaluation.report.axes import Scale, label

Window = tuple[np.ndarray, np.ndarray]
"""The lower left and the upper right corner of a plane that is looked at, (2,) each."""

NAMED = 20  # symbols up to which a key can be read
_SIDE, _LEFT, _BOTTOM, _SMALL = 300.0, 48.0, 22.0, 120.0
_MARGIN = 1.1  # of a window, over half of what it must show
_RASTER = 320
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
    for axis in (0, 1):
        scale = Scale([float(low[axis]), float(high[axis])], log=False)
        for value in scale.ticks(4):
            at = scale.share(value) * _SIDE
            if axis == 0:
                parts.append(f'<path class="axis" d="M{_LEFT + at:.1f} {_SIDE:g}v4"/>')
                parts.append(
                    f'<text x="{_LEFT + at:.1f}" y="{height - 2:g}" text-anchor="middle">{label(value)}</text>'
                )
            else:
                parts.append(f'<path class="axis" d="M{_LEFT:g} {_SIDE - at:.1f}h-4"/>')
                parts.append(
                    f'<text x="{_LEFT - 8:g}" y="{_SIDE - at + 4:.1f}" text-anchor="end">{label(value)}</text>'
                )
    return f"{''.join(parts)}{_dots(across, up, style)}</svg>", int((~inside).sum())


def small_cloud(points: np.ndarray, seen: Window, title: str, style: str = "b") -> str:
    """Points (N, D) as a scatter in SVG without axes, twice as far as the window goes: a frame of a film."""
    low, high = seen
    middle, half = (low + high) / 2, high - low
    share = (plane(points) - middle + half) / (2 * half)
    share = share[((share >= 0) & (share <= 1)).all(1)]
    return (
        f'<svg viewBox="0 0 {_SMALL:g} {_SMALL:g}" role="img" aria-label="{escape(title)}">'
        f'<rect class="axis" x="0" y="0" width="{_SMALL:g}" height="{_SMALL:g}" fill="none"/>'
        f"{_dots(share[:, 0] * _SMALL, (1 - share[:, 1]) * _SMALL, style)}</svg>"
    )


def _dots(across: np.ndarray, up: np.ndarray, style: str) -> str:
    dots = "".join(f'<path d="M{x:.1f} {y:.1f}h0"/>' for x, y in zip(across, up))
    return f'<g class="dots {style}">{dots}</g>'


def colours(symbols: int | None) -> np.ndarray:
    """Uint8 (K + 1, 3): one for each of K symbols and black for one that is not known; of bits (None) one for 0 and one for 1."""
    if symbols is None:
        return np.array(_BITS, np.uint8)
    # Neighbours on the wheel differ in brightness too.
    wheel = [colorsys.hsv_to_rgb(k / symbols, 0.6, 0.9 - 0.25 * (k % 2)) for k in range(symbols)]
    return np.array([*(tuple(round(255 * part) for part in colour) for colour in wheel), _UNKNOWN], np.uint8)


def raster(rows: np.ndarray, symbols: int | None = None, *, across: int = _RASTER, down: int = _RASTER) -> Image.Image:
    """Bits, or symbols 0 … K-1, (N, D), as a picture: a row for each, every value a patch of its colour.

    Args:
        symbols: K, or None for bits. across, down: pixels that it fills, unless it is longer.
    """
    number, length = rows.shape
    high, wide = max(1, down // number), max(1, across // length)
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
