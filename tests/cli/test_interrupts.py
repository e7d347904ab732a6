"""Ctrl-C outside the training loop is one line that says what it left, and exit code 130."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import small
from unstir import runs
from unstir.data import Inspection
from unstir.evaluation import likelihood
from unstir.reproduce import experiment
from unstir.training import engine

Command = Callable[..., Any]


def interrupt(*_: Any, **__: Any) -> None:
    """Ctrl-C comes while this is called."""
    raise KeyboardInterrupt


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path: Path, digits_run: Path) -> Path:
    return shutil.copytree(digits_run, tmp_path / "run")


@pytest.mark.parametrize(
    ("line", "where", "name"),
    [
        ("sample {run}", runs.Model, "sample"),
        ("evaluate {run}", likelihood, "measure"),
        ("report {run}", likelihood, "measure"),
        ("inspect digits --out {run}/sheet.png", Inspection, "sheet"),
    ],
)
def test_nothing_was_written(
    run: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch, line: str, where: Any, name: str
) -> None:
    before = everything(run)
    monkeypatch.setattr(where, name, interrupt)
    ended = unstir(*(word.format(run=run) for word in line.split()))
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "unstir: stopped; nothing was written\n"
    assert everything(run) == before


@pytest.mark.parametrize("name", ["folder", "x.npy", "x.png"])
def test_samples_that_were_begun_go_on_to_the_same_bytes(
    run: Path, tmp_path: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    line = ("sample", run, "-n", 5, "--batch", 2, "--steps", 1, "--out")
    assert unstir(*line, tmp_path / "whole" / name).code == 0
    true, asked = runs.Model.sample, []

    def twice(self: runs.Model, n: int, **options: Any) -> np.ndarray:
        asked.append(list(options["indices"]))
        return interrupt() if len(asked) == 2 else true(self, n, **options)

    monkeypatch.setattr(runs.Model, "sample", twice)
    ended = unstir(*line, tmp_path / name)
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "unstir: stopped; the same line continues"
    ended = unstir(*line, tmp_path / name)
    assert ended.code == 0
    assert "2 of them from before" in ended.err
    assert asked == [[0, 1], [2, 3], [2, 3], [4]]
    both = [tmp_path / name, tmp_path / "whole" / name]
    if "." in name:
        assert both[0].read_bytes() == both[1].read_bytes()
    else:
        found = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in both]
        assert found[0] == found[1]
    assert {path.name for path in tmp_path.iterdir()} == {"run", "whole", name}, "nothing is left beside it"


def test_training_continues_though_it_had_not_begun(
    tmp_path: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "small.toml"
    settings.write_text(small.TOML)
    line = ("train", "digits", "--out", tmp_path / "new", "--images", 8, "--config", settings)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "fastest", interrupt)
        ended = unstir(*line)
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "unstir: stopped; the same line continues"
    assert unstir(*line).code == 0


def test_an_experiment_continues(tmp_path: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "carry_out", interrupt)
    ended = unstir("reproduce", "schedules", "--out", tmp_path)
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "unstir: stopped; the same line continues\n"
