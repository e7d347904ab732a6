"""unstir edit restore"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def restore_(
    run: Path,
    *pictures: Path,
    blur: float | None = None,
    grey: bool = False,
    noise: float | None = None,
    simulate: bool = False,
    heldout: HeldOut = None,
    asked: Asked = DRAWING,
) -> None:
    """Draw the picture behind a blurred one, or the colours behind a grey one.

    Examples:

        unstir edit restore runs/photos blurred.png --blur 1.5

        unstir edit restore runs/photos photo.png --blur 2 --noise 2 --simulate

        unstir edit restore runs/photos grey.png --grey -n 4

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, or folders of them; they are made the run's size and colour.
    blur: float
        They are blurred by a Gaussian of this standard deviation, in pixels of the run's size.
    grey: bool
        They are grey, and the run's are coloured.
    noise: float
        Standard deviation of noise besides, in levels; by default 1 of blurred pictures and none of grey ones.
    simulate: bool
        What is given is a good picture: blur it first, as a trial. Held-out items always are.
    """
    from typing import Any

    import numpy as np

    from unstir import editing
    from unstir.cli.edit.desk import Desk
    from unstir.errors import UserError

    if (blur is None) == (not grey):
        raise UserError("say what was done to the pictures: --blur 1.5, or --grey")
    desk = Desk.opened("restore", run, asked, pictures)
    edit, shape = desk.model.edit, desk.model.spec.shape
    if desk.model.spec.kind != "image":
        raise UserError(f"only pictures are restored, and this run is of {desk.model.spec.kind}")
    if grey and shape[0] != 3:
        raise UserError("this run's pictures are grey themselves, so there are no colours to draw")
    try:
        operator = editing.Grey() if grey else editing.blur(shape[1], shape[2], blur or 0.0)
    except ValueError as error:
        raise UserError(str(error)) from None
    x, names = desk.items(pictures, heldout)
    whole = simulate or heldout is not None
    y = edit.measured(x, operator, noise or 0.0, asked.seed) if whole or grey else x

    def work(**options: Any) -> np.ndarray:
        return edit.restore(y, operator, noise, label=asked.label, **asked.how, **options)

    seen = y.repeat(3, -1) if grey else y
    desk.finish(desk.draws(work), (x, seen) if whole else (seen,), {"items": names, "blur": blur, "grey": grey})
