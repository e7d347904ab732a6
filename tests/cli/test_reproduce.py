"""``unstir reproduce``: what it refuses, what it leaves out, what it says on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.reproduce import tiny
from unstir import reproduce
from unstir.errors import UserError
from unstir.reproduce import experiment, swiss_roll
from unstir.reproduce.experiment import run_path
from unstir.reproduce.table import Table

Command = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name experiments, or give --all; there are swiss-roll, heartbeat"),
        (("swiss-roll", "--all"), "name experiments, or give --all"),
        (("swiss-rol",), "there is no experiment called 'swiss-rol'; there are swiss-roll, heartbeat"),
        (("schedules", "swiss-rol"), "there is no experiment called 'swiss-rol'"),
        (("swiss-roll", "--seeds", 0), "--seeds must be 1 to 10, not 0"),
        (("swiss-roll", "--jobs", 0), "--jobs must be at least 1, not 0"),
        (("mnist",), "mnist needs MNIST's files: give --data train-images-idx3-ubyte.gz"),
        (("mnist", "--data", "swiss-roll"), "mnist is about grey pictures of 8 bits, and swiss-roll is not"),
        (("ddpm-table", "--data", "swiss-roll"), "ddpm-table is about pictures of 8 bits, and swiss-roll is not"),
        (("denoise", "--data", "swiss-roll"), "only pictures are denoised and inpainted, and swiss-roll holds none"),
        (("inpaint", "--data", "no-such-folder"), "no-such-folder"),
    ],
)
def test_what_it_cannot_do_is_one_line(tmp_path: Path, unstir: Command, words: tuple[object, ...], said: str) -> None:
    ended = unstir("reproduce", *words, "--out", tmp_path / "out")
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert ended.out == ""
    assert not (tmp_path / "out").exists(), "nothing is half-written"


def test_a_table_is_printed_kept_and_given_as_json(tmp_path: Path, unstir: Command) -> None:
    ended = unstir("reproduce", "schedules", "--out", tmp_path)
    assert ended.code == 0
    assert ended.out == (tmp_path / "schedules/table.txt").read_text()
    assert f"figure: {tmp_path / 'schedules/schedules.png'}" in ended.err
    again = unstir("reproduce", "schedules", "--out", tmp_path, "--json")
    assert json.loads(again.out)["title"] in ended.out


def test_all_leaves_out_what_lacks_data(tmp_path: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "NAMES", ("mnist", "schedules"))
    ended = unstir("reproduce", "--all", "--quick", "--out", tmp_path)
    assert ended.code == 0
    assert "mnist is left out: mnist needs MNIST's files" in ended.err
    assert (tmp_path / "schedules-quick/table.txt").exists()
    assert not (tmp_path / "mnist-quick").exists()


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, int, str]]]:
    """What is shown while the swiss roll's runs are made, without its figures."""
    monkeypatch.setattr(swiss_roll, "report", lambda *_: Table("swiss-roll", "", (), []))

    def carried_out(folder: Path, jobs: int) -> list[tuple[int, int, str]]:
        seen: list[tuple[int, int, str]] = []
        experiment.carry_out("swiss-roll", tiny.QUICK, folder, jobs=jobs, progress=lambda *now: seen.append(now))
        return seen

    return carried_out


def test_progress_is_shown_inside_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Callable[..., list[tuple[int, int, str]]]
) -> None:
    tiny.shorten(monkeypatch, swiss_roll)
    monkeypatch.setattr(swiss_roll, "measure", lambda *_: {"short of the truth (bits)": 1.0})
    seen = progress(tmp_path, 1)
    assert [done for done, _, _ in seen] == [8, 16, 16, 24, 32, 32]
    assert {total for _, total, _ in seen} == {32}
    assert [note for _, _, note in seen] == ["0 of 2 runs measured"] * 3 + ["1 of 2 runs measured"] * 3
    again = progress(tmp_path, 1)
    assert [done for done, _, _ in again] == [16, 32], "what was done in an earlier sitting counts as done"


def test_progress_is_shown_from_other_processes(
    tmp_path: Path, progress: Callable[..., list[tuple[int, int, str]]]
) -> None:
    for variant in swiss_roll.variants(tiny.QUICK):
        kept = run_path(tmp_path, variant, 0) / "measured.json"
        kept.parent.mkdir()
        asked = {"facts": variant.facts, "quick": True, "rules": swiss_roll.RULES}
        kept.write_text(json.dumps({"asked": asked, "measured": {"short of the truth (bits)": 1.0}}))
    total = sum(variant.images for variant in swiss_roll.variants(tiny.QUICK))
    seen = progress(tmp_path, 2)
    assert seen[-1][0] <= total
    assert {all for _, all, _ in seen} == {total}
    assert max(done for done, _, _ in seen) > 0


def test_a_run_in_another_process_ends_when_the_one_that_waits_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saves and ends as at Ctrl-C, and the same line continues it."""
    tiny.shorten(monkeypatch, swiss_roll)
    monkeypatch.setattr(experiment, "_shared", [0.0])
    monkeypatch.setattr(experiment, "_stop", SimpleNamespace(value=1))
    job = experiment.Job("swiss-roll", 1, 0, tmp_path, tiny.QUICK)
    with pytest.raises(UserError, match="the same line continues"):
        experiment._carry_out_aside(0, job)
    assert experiment._shared == [8.0], "after the update that was under way"
    monkeypatch.setattr(swiss_roll, "measure", lambda *_: {"short of the truth (bits)": 1.0})
    assert experiment.carry_out_job(job) == {"short of the truth (bits)": 1.0}


def test_what_was_measured_by_other_rules_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.shorten(monkeypatch, swiss_roll)
    job = experiment.Job("swiss-roll", 1, 0, tmp_path, tiny.QUICK)
    figures = iter([{"K": 1.0}, {"K": 2.0}])
    monkeypatch.setattr(swiss_roll, "measure", lambda *_: next(figures))
    assert experiment.carry_out_job(job) == experiment.carry_out_job(job) == {"K": 1.0}
    monkeypatch.setattr(swiss_roll, "RULES", swiss_roll.RULES + 1)
    assert experiment.carry_out_job(job) == {"K": 2.0}
