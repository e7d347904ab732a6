"""unstir evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def evaluate_(
    run: Path,
    *,
    data: str | None = None,
    images: int = 256,
    terms: int = 100,
    given_labels: bool = False,
    seed: int = 0,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a run on held-out data: the variational bound in bits/dim, its three parts, and a confidence interval.

    Examples:

        unstir evaluate runs/digits

        unstir evaluate runs/digits --images 512 --terms 0 --json

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    data: str
        Data whose held-out part to use; by default the run's own.
    images: int
        How many held-out items; the interval narrows with their square root.
    terms: int
        Network calls for each item, an unbiased estimate; 0 for all T terms of the bound.
    given_labels: bool
        Bound -log p(x | class) with each item's class, instead of -log p(x).
    seed: int
        Of the noise in the bound.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time.
    json: bool
        The result as JSON on stdout.
    """
    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model
    from unstir.errors import UserError
    from unstir.evaluation import likelihood

    if images < 2 or batch < 1 or terms < 0:
        raise UserError("--images must be at least 2, for an interval, --batch at least 1, --terms at least 0")
    model = open_model(run, weights=weights)
    heldout = runs.heldout(model, data)
    with console.bar("measuring", "network calls") as update:
        result = likelihood.measure(
            model,
            heldout,
            images=images,
            terms=terms or None,
            given_labels=given_labels,
            seed=seed,
            batch=batch,
            progress=update,
        )
    if json:
        console.give(result.to_json())
    else:
        print(result.table())
