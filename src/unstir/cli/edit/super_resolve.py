"""unstir edit super-resolve"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def super_resolve_(
    run: Path,
    *pictures: Path,
    factor: int = 4,
    noise: float | None = None,
    simulate: bool = False,
    heldout: HeldOut = None,
    asked: Asked = DRAWING,
) -> None:
    """Draw the large picture behind a small one, such that made small again it is the one that was given.

    Examples:

        unstir edit super-resolve runs/photos thumbnail.png --factor 2

        unstir edit super-resolve runs/photos photo.png --factor 4 --simulate -n 4

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Small pictures, or folders of them; they are made the run's size divided by the factor, and of its colour.
    factor: int
        How much larger each side becomes; the run's size is a multiple of it.
    noise: float
        Standard deviation of noise in the small picture, in levels; by default none.
    simulate: bool
        What is given is large: make it small first, as a trial. Held-out items always are.
    """
    from typing import Any

    import numpy as np

    from unstir.cli.edit.desk import Desk, enlarged

    desk = Desk.opened("super-resolve", run, asked, pictures)
    edit = desk.model.edit
    operator = edit.downscaling(factor)
    whole = simulate or heldout is not None
    size = None if whole else (desk.model.spec.shape[2] // factor, desk.model.spec.shape[1] // factor)
    x, names = desk.items(pictures, heldout, size)
    small = edit.measured(x, operator, noise or 0.0, asked.seed) if whole else x

    def work(**options: Any) -> np.ndarray:
        return edit.restore(small, operator, noise, label=asked.label, **asked.how, **options)

    seen = enlarged(small, factor)
    desk.finish(desk.draws(work), (x, seen) if whole else (seen,), {"items": names, "factor": factor})
