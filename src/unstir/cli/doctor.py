"""unstir doctor"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def doctor_(
    run: Path,
    *,
    data: str | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Say why samples are noise, black, tinted, flat or copies, and what to do: exit code 0 when healthy, 1 when something was found.

    Looks at data, schedule, raw and averaged weights, one-step predictions at several times beside what is known without a
    network, labels, the sampler's grid and samples. Most likely cause first; then the figures.

    Examples:

        unstir doctor runs/digits

        unstir doctor model.safetensors --data photos/ --json

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    data: str
        Where the data that the run was trained on is now, or other data; by default where it was.
    json: bool
        The findings and figures as JSON on stdout.
    """
    import sys

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model, own_data
    from unstir.evaluation import doctor

    model = open_model(run)
    dataset = own_data(model, data)
    with console.bar("looking", "looks") as update:
        found = doctor.examine(model, dataset, runs.Run(run) if run.is_dir() else None, progress=update)
    if json:
        console.give(found.to_json())
    else:
        print(found.table())
    sys.exit(0 if found.healthy else 1)
