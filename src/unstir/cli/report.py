"""unstir report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report_(
    run: Path,
    *,
    data: str | None = None,
    images: int = 256,
    samples: int = 500,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Write one self-contained page about a run: samples beside real data, film strips, losses, bits, distances, copies, receipt.

    Parameters
    ----------
    run: Path
        A run's folder.
    data: str
        Where the data that the run was trained on is now; by default where it was.
    images: int
        How many held-out items the bound is measured on.
    samples: int
        How many samples to draw for the distances, for each of several numbers of steps; 0 leaves them out.
    json: bool
        A summary as JSON on stdout.
    """
    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model, own_data
    from unstir.errors import UserError
    from unstir.evaluation import report
    from unstir.runs.files import check_place

    if images < 2:
        raise UserError("--images must be at least 2, for an interval")
    if samples < 0:
        raise UserError("--samples is how many to draw, or 0 for none")
    folder = runs.Run(run)
    model = open_model(run)
    if not run.is_dir():
        raise UserError(f"{run} is one file of weights: a report is about a run's folder")
    check_place(folder.report)
    dataset = own_data(model, data, same=True)
    with console.writing(folder.report):
        report.write(folder, model, dataset, data=data, images=images, samples=samples, bar=console.bar)
    console.say(f"report: {folder.report}")
    if json:
        console.give({"report": str(folder.report)})
