"""unstir edit denoise"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def denoise_(
    run: Path,
    *pictures: Path,
    noise: float | None = None,
    heldout: HeldOut = None,
    method: Literal["matched", "observed", "constant", "fading", "carried"] | None = None,
    simulate: bool = False,
    asked: Asked = DRAWING,
) -> None:
    """Draw the clean picture behind a noisy one. With --steps 1 it is the mean of all that it could be: smooth, and nearest.

    Examples:

        unstir edit denoise runs/photos noisy.png

        unstir edit denoise runs/photos noisy.png --noise 40 -n 4

        unstir edit denoise runs/photos --heldout 0-3 --noise 40 --simulate

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, folders of them, or other data; pictures are made the run's size and colour.
    noise: float
        The noise's standard deviation in levels (0 to 255) of pictures, in the data's own units of points; the probability that a
        bit was flipped or a symbol replaced. Without it, estimated for each picture.
    method: str
        matched: begin where the chain's own noise is as strong. observed: multiply by what the noise allows, at every step.
        constant, fading, carried: the products of the 2015 paper. By default matched, and observed for bits and symbols.
    simulate: bool
        What is given is clean: noise it first, as a trial.
    """
    from typing import Any

    import numpy as np

    from unstir.cli import console
    from unstir.cli.edit.desk import Desk
    from unstir.errors import UserError

    if simulate and noise is None:
        raise UserError("--simulate adds the noise that --noise says: give both")
    desk = Desk.opened("denoise", run, asked, pictures)
    x, names = desk.items(pictures, heldout)
    edit = desk.model.edit
    y = edit.measured(x, None, noise or 0.0, asked.seed) if simulate else x
    levels = edit.noise_of(y) if noise is None else np.full(len(y), noise)
    if noise is None:
        console.say(f"noise found: {', '.join(f'{level:.1f}' for level in levels[:8])} levels")

    def work(**options: Any) -> np.ndarray:
        return edit.denoise(y, levels, method=method, label=asked.label, **asked.how, **options)

    desk.finish(
        desk.draws(work),
        (x, y) if simulate else (y,),
        {"items": names, "noise": levels.tolist(), "simulated": simulate},
    )
