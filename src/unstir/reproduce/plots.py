"""Figures of the experiments, drawn by matplotlib, which only they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unstir.errors import UserError


@contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (3.2, 2.6)) -> Iterator[Any]:
    """A figure of rows × columns plots, saved as a picture when the block ends.

    Yields:
        the axes, an array (rows, columns).
    """
    try:
        import matplotlib
    except ImportError:
        raise UserError("the figures need matplotlib: pip install 'unstir[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(
        rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, layout="constrained"
    )
    try:
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(path, dpi=110)
    finally:
        pyplot.close(drawn)


def cloud(axis: Any, points: Any, title: str = "", *, extent: float = 2.6) -> None:
    """Points (N, 2) as a scatter on fixed axes."""
    axis.scatter(points[:, 0], points[:, 1], s=2, alpha=0.35, linewidths=0, color="#2b5d8a")
    axis.set(xlim=(-extent, extent), ylim=(-extent, extent), xticks=[], yticks=[], aspect="equal", title=title)


def raster(axis: Any, bits: Any, title: str = "") -> None:
    """Sequences (N, D) of bits as rows of a picture, 1 dark."""
    axis.imshow(bits, cmap="Greys", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axis.set(xticks=[], yticks=[], title=title)


def strips(axis: Any, frames: Any, names: Sequence[str], places: Sequence[str]) -> None:
    """Rows of pictures (R, N, H, W), 0 black and 1 white: names beside the rows, places below the columns; NaN stays blank."""
    import numpy as np

    rows, columns, height, width = frames.shape
    sheet = np.full((rows * (height + 1), columns * (width + 1)), np.nan)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + 1), c * (width + 1)
            sheet[top : top + height, left : left + width] = frames[r, c]
    axis.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xticks([c * (width + 1) + (width - 1) / 2 for c in range(columns)], places)
    axis.set_yticks([r * (height + 1) + (height - 1) / 2 for r in range(rows)], names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
