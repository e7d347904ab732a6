"""unstir features"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(name="features", help="Make features for unstir evaluate to compare data in.")


@app.command(name="train")
def train_(
    data: str,
    *,
    out: Path,
    size: int | None = None,
    mode: Literal["auto", "L", "RGB"] | None = None,
    minutes: float | None = None,
    images: int | None = None,
    seed: int = 0,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Teach a small classifier your labelled data: the 64 numbers that it decides by are features.

    Examples:

        unstir features train photos/ --out photos.safetensors --size 32

        unstir features train train-images-idx3-ubyte.gz --out mnist.safetensors --images 60000

        unstir evaluate runs/mnist --metrics frechet --features mnist.safetensors

    Parameters
    ----------
    data: str
        Labelled data, as for unstir train: class subfolders, .npz with arr_1, an idx .gz with its labels beside it.
    out: Path
        The file of features: a name that ends in .safetensors.
    size: int
        Side of the pictures in pixels; the same as that of the run to be measured.
    mode: str
        L (grey) or RGB; the same as that of the run to be measured.
    minutes: float
        Budget in minutes (default 1); turned into a number of images once the speed is known.
    images: int
        Budget in training images, instead of minutes: then the same line makes the same file again.
    seed: int
        Everything random follows from it.
    json: bool
        A summary as JSON on stdout.
    """
    import math
    import shlex

    from unstir import data as reading
    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.evaluation.extractors import classifier
    from unstir.training.engine import default_device

    if minutes is not None and images is not None:
        raise UserError("a budget is minutes or images, not both")
    if (images is not None and images < 1) or (minutes is not None and not 0 < minutes < math.inf):
        raise UserError("a budget must be more than 0, and end")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"a seed is a whole number from 0 to 2^63 - 1, not {seed}")
    classifier.check_place(out)
    with console.bar("reading", "files") as update:
        dataset = reading.load(data, size=size, mode=None if mode == "auto" else mode, progress=update)
    for sentence in dataset.log:
        console.say(sentence)
    classifier.check(dataset)
    spec = dataset.spec
    console.say(
        f"{len(dataset.train):,} to learn from, {len(dataset.heldout):,} held out, each {'×'.join(map(str, spec.shape))}, "
        f"{len(spec.classes)} classes"
    )
    with console.bar("teaching", "images") as update:
        taught = classifier.teach(
            dataset,
            minutes=(minutes or 1.0) if images is None else None,
            images=images,
            seed=seed,
            device=default_device(),
            progress=update,
        )
    taught.save(out)
    if json:
        console.give(
            {
                "features": str(out),
                "images": taught.images,
                "classes": len(spec.classes),
                "accuracy": taught.accuracy,
                "heldout": taught.heldout,
            }
        )
    console.say(
        f"{out}: names {taught.accuracy:.1%} of {taught.heldout:,} held-out items rightly, after {taught.images:,} images; "
        f"use it with unstir evaluate RUN --metrics frechet,kernel --features {shlex.quote(str(out))}"
    )
