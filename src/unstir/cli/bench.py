"""unstir bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

app = App(name="bench", help="Measure on this machine, with your own model.")


@app.command(name="solvers")
def solvers_(
    run: Path,
    *,
    seconds: float = 120.0,
    calls: str | None = None,
    way: list[str] | None = None,
    pictures: int | None = None,
    data: str | None = None,
    features: str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    batch: int = 64,
    store: bool = False,
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Try ways of sampling on a run: samplers and spacings at several numbers of network calls, and what they give.

    Each deterministic way starts from the same noise as a solution of many steps and is held against it; the nearest, and those
    with noise of their own, are then held against held-out data. Prints a table and writes a page with plots.

    Examples:

        unstir bench solvers runs/digits --seconds 60

        unstir bench solvers runs/digits --calls 10 --store

        unstir bench solvers runs/digits --way "ddim uniform" --way "dpm++2m log-snr" --calls 5,10,20 --pictures 2000

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    seconds: float
        About how long; more samples are drawn where there is more time.
    calls: str
        Network calls for a sample to compare ways at, such as 5,10,20; by default 5 to 50.
    way: list[str]
        A sampler and a spacing, such as "dpm++2m log-snr", instead of the usual ones; may be given several times.
    pictures: int
        How many samples are held against held-out data, for every way, instead of as many as the time allows.
    data: str
        Where the data that the run was trained on is now; by default where it was. Where it is gone, ways are held against the
        many-step solution alone.
    features: str
        What samples are compared in, as for unstir evaluate.
    precision: str
        Of the network's products, see unstir sample.
    batch: int
        How many at a time.
    store: bool
        Make the best way the run's own: unstir sample uses it from now on unless told otherwise.
    out: Path
        Where the page is written; by default solvers.html in the run's folder.
    json: bool
        The figures as JSON on stdout.
    """
    import shlex
    import sys
    from dataclasses import replace

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model, own_data
    from unstir.errors import UserError
    from unstir.evaluation import solvers
    from unstir.evaluation.report import solvers as shown
    from unstir.runs.checkpoint import write_aside

    if not seconds > 0 or batch < 1 or (pictures is not None and pictures < 20):
        raise UserError("--seconds must be above 0, --batch at least 1, --pictures at least 20")
    if store and not run.is_dir():
        raise UserError(f"{run} is one file of weights, and a choice is stored in a run's folder: leave --store out")
    model = open_model(run)
    page = out or (run if run.is_dir() else run.parent) / "solvers.html"
    if page.suffix.lower() != ".html":
        raise UserError(f"{page} is to be a page: give --out a name that ends in .html")
    runs.check_place(page)
    chosen = solvers.ways(model, _calls(calls) or solvers.CALLS, [_way(each) for each in way or []] or None)
    try:
        dataset = own_data(model, data, same=True)
    except UserError as error:
        if data is not None:
            raise
        dataset = None
        console.say(f"without held-out data: {error}")
    chosen = [replace(how, precision=precision or how.precision) for how in chosen]
    trials = solvers.try_ways(
        model, chosen, dataset, seconds=seconds, pictures=pictures, features=features, batch=batch, bar=console.bar
    )
    command = shlex.join(["unstir", *sys.argv[1:]])
    page.parent.mkdir(parents=True, exist_ok=True)
    write_aside(page, shown.page(trials, run.resolve().name, command).encode())
    if json:
        console.give(trials.to_json())
    else:
        print(shown.text(trials))
    console.say(f"plots: {page}")
    best = trials.winner.how
    if store:
        own = {"sampler": best.sampler, "steps": best.steps, "spacing": best.spacing}
        runs.Run(run).choose_sampling(own | ({"precision": precision} if precision else {}))
        console.say(f"stored: {run} samples with {best.walked} from now on")


def _calls(text: str | None) -> list[int]:
    from unstir.cli.listing import whole_numbers
    from unstir.errors import UserError

    found = whole_numbers(text, "--calls") if text else []
    if any(n < 1 for n in found):
        raise UserError(f"--calls is a list of whole numbers from 1 up, such as 5,10,20, not {text!r}")
    return found


def _way(text: str) -> tuple[str, str]:
    from unstir.errors import UserError

    parts = text.split()
    if len(parts) != 2:
        raise UserError(f'--way is a sampler and a spacing, such as "dpm++2m log-snr", not {text!r}')
    return parts[0], parts[1]
