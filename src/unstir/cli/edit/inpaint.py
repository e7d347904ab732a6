"""unstir edit inpaint"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def inpaint_(
    run: Path,
    *pictures: Path,
    mask: Annotated[str, Parameter(allow_leading_hyphen=False)],
    heldout: HeldOut = None,
    method: Literal["repaint", "observed", "constant", "fading", "carried", "renoised"] | None = None,
    jump: int = 5,
    resamplings: int = 5,
    asked: Asked = DRAWING,
) -> None:
    """Draw what a mask hides. White is unknown, and is drawn; black is known, and comes back exactly.

    Examples:

        unstir edit inpaint runs/photos photo.png --mask scratch.png

        unstir edit inpaint runs/photos photos/ --mask right -n 4 --out halves.png

        unstir edit inpaint runs/heartbeat beats.npy --mask right

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, folders of them, or other data; pictures are made the run's size and colour.
    mask: str
        A picture in which white is unknown, transparent too; a folder with one for each picture; an .npy that is true where
        something is unknown; or left, right, top, bottom, middle. Another size is fitted as pictures are.
    method: str
        repaint: the known part is noised anew at every step, and stretches of the walk are walked again. observed: what is known
        also says, through the network's gradients, what the rest is; slower. constant: the product of the 2015 paper. By default
        repaint, and observed for bits and symbols.
    jump: int
        Of repaint: how many steps it goes back.
    resamplings: int
        Of repaint: how often each stretch is walked; 1 is once.
    """
    from typing import Any

    import numpy as np

    from unstir.cli.edit.desk import Desk
    from unstir.runs import pictures as reading

    desk = Desk.opened("inpaint", run, asked, pictures)
    x, names = desk.items(pictures, heldout)
    unknown = reading.masks(desk.model, mask, len(x))

    def work(**options: Any) -> np.ndarray:
        return desk.model.edit.inpaint(
            x, unknown, method=method, jump=jump, resamplings=resamplings, label=asked.label, **asked.how, **options
        )  # fmt: skip

    drawn = desk.draws(work)
    hidden = np.where(unknown[..., None], np.uint8(128), x) if x.ndim == 4 else x
    desk.finish(drawn, (x, hidden), {"items": names, "method": method or "default", "unknown": float(unknown.mean())})
