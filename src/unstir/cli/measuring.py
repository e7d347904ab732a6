"""An evaluation as commands run it: the model opened, the data read, progress shown, a receipt made; and one repeated."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

from unstir.cli import console
from unstir.cli.opening import open_model, own_data
from unstir.errors import UserError
from unstir.evaluation import receipt, repetition
from unstir.evaluation.asked import Answers, Asked, answer
from unstir.runs.checkpoint import write_aside
from unstir.runs.files import check_apart, check_place


def measured(
    asked: Asked, run: Path, data: str | None, weights: str, target: Path | None
) -> tuple[Answers, receipt.Receipt]:
    """All answers, and their receipt.

    Args:
        target: where the receipt is to lie, if that was named.
    """
    began = time.perf_counter()
    model = open_model(run, weights=weights)
    asked.check(model)
    asked = asked.settled(model)
    if target is not None:
        check_target(target, data or model.config.data.source)
    dataset = own_data(model, data)
    answers = answer(asked, model, dataset, console.bar)
    seconds = time.perf_counter() - began
    return answers, receipt.of(asked, answers, model, dataset, run=str(run), data=data, seconds=seconds)


def keep(answers: Answers, made: receipt.Receipt, target: Path, *, asked_for: bool) -> None:
    """Writes the receipt, and beside it the sheet of nearest training pictures where copies were looked for.

    Args:
        asked_for: whether the place was named. A run that lies where nothing can be written is measured all the same.
    """
    try:
        receipt.write(made, target)
        console.say(f"receipt: {target}")
        if answers.sheet is not None:
            content = io.BytesIO()
            answers.sheet.save(content, "PNG")
            write_aside(_sheet(target), content.getvalue())
            console.say(f"samples beside the training pictures nearest to them: {_sheet(target)}")
    except OSError as error:
        if asked_for:
            raise UserError(f"the receipt could not be written to {target}: {error.strerror}") from None
        console.say(
            f"no receipt was kept, since {target} cannot be written ({error.strerror}): name a place with --receipt"
        )


def check_target(target: Path, data: str) -> None:
    """Refuses a place for a receipt before anything is measured: among the data, or where another file would be lost."""
    if target.is_dir() or target.suffix.lower() != ".json":
        raise UserError(f"a receipt is a .json file, and {target} is not: give --receipt x.json")
    check_place(target)
    check_apart(target, data, "the data that are measured on")
    if target.exists():
        try:
            receipt.read(target)
        except UserError:
            raise UserError(f"{target} is already there, and is no receipt: choose another --receipt") from None
    elif _sheet(target).exists():
        raise UserError(f"{_sheet(target)} is already there, without its receipt: choose another --receipt")


def _sheet(target: Path) -> Path:
    return target.with_suffix(".copies.png")


def repeat(path: Path, run: Path | None, data: str | None) -> repetition.Repeated:
    """What a receipt says, measured again.

    Args:
        run, data: where these are now, when not where the receipt says.

    Raises:
        UserError: when weights or data are not those of the receipt.
    """
    then = receipt.read(path)
    asked, named = receipt.question(then)
    run = run or Path(then["run"])
    if not run.exists():
        raise UserError(
            f"{path} is of {run}, which is not here: name the run too, as in unstir evaluate RUN --check {path}"
        )
    # What the run chose since is not what was asked then; receipts from before there was a choice leave it open.
    model = replace(open_model(run, weights=then["model"]["weights"]), defaults={})
    asked.check(model)
    dataset = own_data(model, data or named)
    repetition.check_same(then, model, dataset)
    began = time.perf_counter()
    answers = answer(asked, model, dataset, console.bar)
    repetition.check_same_features(then, answers.reference)
    now = receipt.of(
        asked, answers, model, dataset, run=str(run), data=data or named, seconds=time.perf_counter() - began
    )
    return repetition.repeated(then, now)
