"""unstir reproduce"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def reproduce_(
    *names: str,
    all: bool = False,
    quick: bool = False,
    seeds: int | None = None,
    data: str | None = None,
    out: Path = Path("runs/reproduce"),
    jobs: int | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Rebuild the papers' experiments from data to table, ours beside theirs. The same line again continues.

    swiss-roll, heartbeat, dead-leaves, mnist, denoise, inpaint: Sohl-Dickstein et al. 2015. ddpm-table: the ablation of
    Ho et al. 2020. schedules: a figure of how fast each forgets. derivation: the figures of docs/derivation.en.md.

    Examples:

        unstir reproduce swiss-roll --quick

        unstir reproduce mnist --data train-images-idx3-ubyte.gz

        unstir reproduce --all --quick

    Parameters
    ----------
    names: str
        Which experiments.
    all: bool
        All of them; those that need other data than was given are left out, and that is said.
    quick: bool
        Small budgets: all together in half an hour on two cores.
    seeds: int
        How many runs of each model; 3 by default, 1 with --quick.
    data: str
        Data for the experiments that let you choose: MNIST's file for mnist, pictures for denoise, inpaint and ddpm-table.
    out: Path
        Where the runs, tables and figures are kept.
    jobs: int
        How many runs at a time; by default one for each processor.
    json: bool
        The tables as JSON on stdout, one object a line.
    """
    from unstir import reproduce as room
    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.reproduce.experiment import Setting, carry_out

    if all == bool(names):
        raise UserError(f"name experiments, or give --all; there are {', '.join(room.NAMES)}")
    if seeds is not None and not 1 <= seeds <= 10:
        raise UserError(f"--seeds must be 1 to 10, not {seeds}")
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {jobs}")
    chosen = room.NAMES if all else names
    for name in chosen:
        room.get(name)
    setting = Setting(quick, seeds or (1 if quick else 3), data)
    for name in chosen:
        folder = out / (f"{name}-quick" if quick else name)
        try:
            with console.bar(name, "examples") as update:
                table = carry_out(name, setting, folder, jobs=jobs, say=console.say, progress=update)
        except room.DataMissing as error:
            if not all:
                raise
            console.say(f"{name} is left out: {error}")
            continue
        (folder / "table.txt").write_text(table.text() + "\n", encoding="utf-8")
        if json:
            console.give(table.to_json())
        else:
            print(table.text(), flush=True)
        for file in table.files:
            console.say(f"figure: {file}")
