"""unstir edit invert"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked, HeldOut


def invert_(
    run: Path,
    *pictures: Path,
    heldout: HeldOut = None,
    asked: Asked = DRAWING,
) -> None:
    """Find the noise that a deterministic sampler makes a picture of, and make the picture of it again.

    The sheet shows the picture, its noise, and the picture made again; x.npy and x.npz hold the noise.

    Examples:

        unstir edit invert runs/photos photo.png

        unstir edit invert runs/photos photo.png --steps 100 --out noise.npy

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        Pictures, folders of them, or other data; pictures are made the run's size and colour.
    """
    import numpy as np

    from unstir.cli import console
    from unstir.cli.edit.desk import Desk
    from unstir.data.codec import Codec
    from unstir.errors import UserError
    from unstir.runs.files import write

    if asked.n != 1:
        raise UserError("there is no chance in an inversion, so one draw is all: leave -n out")
    desk = Desk.opened("invert", run, asked, pictures)
    if not desk.target.suffix:
        raise UserError("an inversion is written as x.png, x.npy or x.npz, not as a folder")
    x, names = desk.items(pictures, heldout)
    edit = desk.model.edit
    with console.bar("encoding", "network calls") as update:
        noise = edit.invert(x, label=asked.label, progress=update, **asked.how)
    with console.bar("decoding", "network calls") as update:
        again = edit.decode(noise, label=asked.label, progress=update, **asked.how | {"steps": asked.steps or 50})
    codec = desk.model.spec.codec
    far = float(np.sqrt(np.square(again.astype(np.float64) - x).mean()))
    console.say(
        f"made again to within {far:.3g} {'levels' if codec.kind == 'image' else ''} (root mean square)".replace(
            "  ", " "
        )
    )
    said = {"items": names, "error": far, "noise_std": float(noise.std())}
    if desk.target.suffix.lower() == ".png":
        seen = np.clip(np.rint((noise / 6 + 0.5) * 255), 0, 255).astype(np.uint8)  # black and white at three deviations
        desk.finish(again[:, None], (x, np.moveaxis(seen, 1, -1)), said)
        return
    with console.writing(desk.target):
        write(noise, desk.target, range(len(noise)), codec=Codec("points"))
    console.say(f"{len(noise)} noises in {desk.target}")
    if asked.json:
        console.give({"out": str(desk.target), "edit": "invert"} | said)
