"""unstir edit interpolate"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def interpolate_(
    run: Path,
    *pictures: Path,
    places: int = 7,
    strength: float | None = None,
    heldout: HeldOut = None,
    asked: Asked = DRAWING,
) -> None:
    """Draw the way from one picture to the next: the first to the second, the third to the fourth, and so on.

    Examples:

        unstir edit interpolate runs/photos one.png other.png

        unstir edit interpolate runs/photos one.png other.png --strength 0.5 -n 3

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, folders of them, or other data; pictures are made the run's size and colour.
    places: int
        How many pictures the way has, both ends included.
    strength: float
        Noise both ends so far, with one noise, and join them there: a share of the chain, to 1. Without it, each end is first
        turned into the very noise that it is made of, without chance, and the noises are joined.
    """
    from typing import Any

    import numpy as np

    from unstir.cli.edit.desk import Desk
    from unstir.errors import UserError

    desk = Desk.opened("interpolate", run, asked, pictures)
    x, names = desk.items(pictures, heldout)
    if len(x) % 2:
        raise UserError(f"a way has two ends, and {len(x)} pictures were given: give an even number")
    a, b = x[0::2], x[1::2]

    def work(**options: Any) -> np.ndarray:
        return desk.model.edit.interpolate(
            a, b, places, strength=strength, label=asked.label, **asked.how, **options
        )  # fmt: skip

    drawn = desk.draws(work)  # (N, n, places, …), one row for each draw
    n = drawn.shape[1]
    drawn = drawn.reshape(len(a) * n, places, *drawn.shape[3:])
    # The ends as they were given stand around what was drawn.
    ends = ([a.repeat(n, 0)], [b.repeat(n, 0)])
    desk.finish(drawn, ends[0], {"items": names, "places": places, "strength": strength}, ends[1])
