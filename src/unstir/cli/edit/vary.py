"""unstir edit vary"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def vary_(
    run: Path,
    *pictures: Path,
    strength: str = "0.5",
    heldout: HeldOut = None,
    asked: Asked = DRAWING,
) -> None:
    """Draw something like a picture: it is noised a part of the way, and brought back.

    Examples:

        unstir edit vary runs/photos photo.png --strength 0.4 -n 6

        unstir edit vary runs/photos photo.png --strength 0.2,0.4,0.6,0.8

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, folders of them, or other data; pictures are made the run's size and colour.
    strength: str
        How far to noise, as a share of the chain: near 0 nothing changes, at 1 nothing stays. Several with commas give a column
        each.
    """
    from typing import Any

    import numpy as np

    from unstir.cli.edit.desk import Desk
    from unstir.errors import UserError

    try:
        strengths = [float(part) for part in strength.split(",")]
    except ValueError:
        raise UserError(f"--strength is a number, or several such as 0.2,0.4,0.6, not {strength!r}") from None
    desk = Desk.opened("vary", run, asked, pictures)
    x, names = desk.items(pictures, heldout)

    def work(**options: Any) -> np.ndarray:
        drawn = [desk.model.edit.vary(x, s, label=asked.label, **asked.how, **options) for s in strengths]
        return np.stack(drawn, 1)

    drawn = desk.draws(work)  # (N, n, strengths, …)
    drawn = drawn.reshape(len(x), -1, *drawn.shape[3:])
    desk.finish(drawn, (x,), {"items": names, "strength": strengths})
