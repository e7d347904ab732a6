"""unstir edit mix"""

from __future__ import annotations

from pathlib import Path

from unstir.cli.edit.asked import DRAWING, Asked


def mix_(
    run: Path,
    first: str,
    second: str,
    *,
    places: int = 7,
    asked: Asked = DRAWING,
) -> None:
    """Draw the way from one class to another: the same noise all along, and what the model says of both, mixed.

    Examples:

        unstir edit mix runs/digits 3 8 -n 4

        unstir edit mix runs/photos cat dog --guidance 2

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors, of labelled data.
    first: str
        A class, by name or number.
    second: str
        Another.
    places: int
        How many pictures the way has, both ends included.
    """
    import numpy as np

    from unstir.cli import console
    from unstir.cli.edit.desk import Desk

    desk = Desk.opened("mix", run, asked)
    with console.bar("mix", "network calls") as update:
        drawn: np.ndarray = desk.model.edit.mix(
            first, second, places, n=asked.n, seed=asked.seed, label=asked.label, progress=update, **asked.how
        )  # fmt: skip
    desk.finish(drawn, (), {"first": first, "second": second, "places": places})
