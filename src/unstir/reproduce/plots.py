"""Figures of the experiments, drawn by matplotlib, which only they need."""

from __future__ import annotations

from collections.abc import Iterator
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
