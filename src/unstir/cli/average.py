"""unstir average"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def average_(
    run: Path,
    *,
    width: float,
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Make a model with another average of the weights, after training; the run must have been trained with --averages.

    Which average draws the best samples is not known before. Try some, and compare:

        unstir average runs/digits --width 0.05 --out narrow.safetensors

        unstir evaluate narrow.safetensors --data digits

    Parameters
    ----------
    run: Path
        A run's folder.
    width: float
        How far the average looks back, as a share of the run, up to 0.28: 0.1 (about the last fifth) is what training keeps.
    out: Path
        The model's file; by default RUN/average-WIDTH.safetensors.
    json: bool
        A summary as JSON on stdout.
    """
    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.runs.averages import reconstruct
    from unstir.runs.files import check_place
    from unstir.runs.folder import Run

    if not (run / "config.toml").is_file():
        raise UserError(f"{run} is not a run: it has no config.toml")
    target = out or run / f"average-{width:g}.safetensors"
    if target.suffix != ".safetensors":
        raise UserError(f"a model is written as x.safetensors, not as {target}")
    own = {(run / name).resolve() for name in ("model.safetensors", "early.safetensors")}
    if target.resolve() in own or {(run / name).resolve() for name in ("averages", "checkpoints")} & set(
        target.resolve().parents
    ):
        raise UserError(f"{target} is the run's own: choose another --out")
    check_place(target)
    left = reconstruct(Run(run), width, target)
    if json:
        console.give({"model": str(target), "width": width, "profile_error": left})
        return
    console.say(
        f"{target}: the average of width {width:g}; its profile differs from the wanted one by {100 * left:.1f} %"
    )
    if left > 0.1:
        console.say(
            "that is much: more places would come nearer (--averages 16 when training), or a width between 0.04 and 0.15"
        )
