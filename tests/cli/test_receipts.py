"""Receipts as a user meets them: written beside the table, repeated, compared, refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def run(digits_run: Path, tmp_path: Path) -> Path:
    """A copy of the run: receipts are written into it."""
    return Path(shutil.copytree(digits_run, tmp_path / "digits", ignore=shutil.ignore_patterns("receipts")))


@pytest.fixture
def made(run: Path, unstir: Command) -> Path:
    line = ("--metrics", "bound,kernel,frechet", "--images", 4, "--terms", 4, "--samples", 20, "--sample-steps", 2)
    ended = unstir("evaluate", run, *line)
    assert ended.code == 0, ended.err
    (receipt,) = (run / "receipts").iterdir()
    assert f"receipt: {receipt}" in ended.err
    return receipt


def test_it_says_everything_that_decides_the_numbers(made: Path, run: Path) -> None:
    receipt = json.loads(made.read_text())
    assert receipt["run"] == str(run)
    assert receipt["data"]["training"] > receipt["data"]["heldout"] > 0
    assert receipt["data"]["hash"] == receipt["model"]["trained_on"]
    assert receipt["model"]["weights"] == "ema"
    assert receipt["extractor"]["name"] == "random-filters-v2"
    assert len(receipt["extractor"]["hash"]) == len(receipt["model"]["hash"]) == 64
    assert receipt["sampling"] == {
        "number": 20, "sampler": "dpm++2m", "steps": 2, "spacing": "log-snr:last=1", "times": None, "clip": "auto", "label": None,
        "precision": "fp32", "guidance": 1.0, "guidance_interval": None, "rescale": 0.0, "autoguidance": None, "seed": 0,
        "weights": "ema",
    }  # fmt: skip
    assert set(receipt["results"]) == {"bound", "quality"}
    assert set(receipt["made"]["versions"]) == {"python", "unstir", "torch", "numpy", "pillow"}
    assert receipt["made"]["command"].startswith("unstir evaluate ")


def test_repeated_it_agrees_to_the_last_bit(made: Path, run: Path, unstir: Command, tmp_path: Path) -> None:
    ended = unstir("evaluate", "--check", made)
    assert ended.code == 0, ended.err
    assert "agrees: all" in ended.out
    assert "to the last bit" in ended.out
    moved = shutil.move(run, tmp_path / "elsewhere")
    kept = Path(moved) / "receipts" / made.name
    ended = unstir("evaluate", "--check", kept)
    assert ended.code == 2
    assert "name the run too" in ended.err
    assert json.loads(unstir("evaluate", moved, "--check", kept, "--json").out)["identical"]


def test_a_number_that_was_changed_is_found(made: Path, unstir: Command) -> None:
    receipt = json.loads(made.read_text())
    receipt["results"]["bound"]["total"] *= 0.8
    made.write_text(json.dumps(receipt))
    ended = unstir("evaluate", "--check", made)
    assert ended.code == 1
    assert "bound.total" in ended.out
    assert "does not agree: 1 of" in ended.out


def test_other_batches_agree_to_rounding(made: Path, unstir: Command) -> None:
    """Neither the bound nor the distances depend on how many are measured at a time."""
    receipt = json.loads(made.read_text())
    receipt["asked"]["batch"] = 3
    made.write_text(json.dumps(receipt))
    ended = unstir("evaluate", "--check", made)
    assert ended.code == 0, ended.out


@pytest.mark.parametrize(("part", "said"), [("model", "the model here"), ("data", "the data here")])
def test_other_weights_or_data_are_refused(made: Path, unstir: Command, part: str, said: str) -> None:
    receipt = json.loads(made.read_text())
    receipt[part]["hash"] = "0" * 64
    made.write_text(json.dumps(receipt))
    ended = unstir("evaluate", "--check", made)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_the_same_question_has_the_same_place_and_another_another(made: Path, run: Path, unstir: Command) -> None:
    line = ("--images", 4, "--terms", 2, "--metrics", "bound")
    for _ in range(2):
        assert unstir("evaluate", run, *line).code == 0
    assert len(list((run / "receipts").iterdir())) == 2
    assert unstir("evaluate", run, *line, "--seed", 1).code == 0
    assert len(list((run / "receipts").iterdir())) == 3
    elsewhere = run.parent / "kept" / "mine.json"
    assert unstir("evaluate", run, *line, "--receipt", elsewhere).code == 0
    assert json.loads(elsewhere.read_text())["asked"]["terms"] == 2


def test_weights_compare_and_counts_do_not(run: Path, unstir: Command) -> None:
    line = ("evaluate", run, "--metrics", "bound,frechet", "--images", 4, "--terms", 2, "--sample-steps", 1)
    for name, words in {
        "ema": ("--samples", 20),
        "raw": ("--samples", 20, "--weights", "raw"),
        "more": ("--samples", 30),
    }.items():
        ended = unstir(*line, *words, "--receipt", run / f"{name}.json")
        assert ended.code == 0, ended.err
    ended = unstir("compare", run / "ema.json", run / "raw.json")
    assert ended.code == 0, ended.err
    assert "frechet@random-filters-v2" in ended.out
    assert len(json.loads(unstir("compare", run / "ema.json", run / "raw.json", "--json").out)["receipts"]) == 2
    ended = unstir("compare", run / "ema.json", run / "more.json")
    assert (ended.code, ended.out) == (2, "")
    assert "counts of samples: 20 and 30" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        ("[]", "is not a receipt"),
        ('{"receipt": 1}', "is not a receipt"),
        ('{"receipt": 99, "asked": {}, "data": {}, "model": {}, "results": {}, "made": {}}', "newer unstir"),
        ('{"receipt": 1, "asked": {"metrics": ["bound"], "speed": 1}, "data": {}, "model": {}, "results": {}, "made": {}, '
         '"run": "x"}', "asks for speed"),
    ],
)  # fmt: skip
def test_what_is_no_receipt_is_one_line(text: str, said: str, tmp_path: Path, unstir: Command) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(text)
    for line in (("evaluate", "--check", path), ("compare", path, path)):
        if line[0] == "compare" and "speed" in said:
            continue
        ended = unstir(*line)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err
        assert len(ended.err.splitlines()) == 1


def test_a_run_or_a_receipt_must_be_named(unstir: Command, tmp_path: Path) -> None:
    assert "name the run to measure" in unstir("evaluate").err
    ended = unstir("evaluate", "--check", tmp_path / "none.json")
    assert ended.code == 2
    assert "cannot be read" in ended.err


@pytest.mark.parametrize("name", ["folder", "receipt.txt", "file/receipt.json"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    run: Path, unstir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from unstir.evaluation import asked

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(asked, "answer", lambda *_: pytest.fail("was measured"))
    ended = unstir("evaluate", run, "--receipt", tmp_path / name)
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1


def test_a_run_where_nothing_can_be_written_is_measured_all_the_same(run: Path, unstir: Command) -> None:
    (run / "receipts").touch()  # a file where the folder would be
    ended = unstir("evaluate", run, "--images", 2, "--terms", 1, "--metrics", "bound")
    assert ended.code == 0, ended.err
    assert "bits/dim" in ended.out
    assert "no receipt was kept" in ended.err


def test_copies_are_looked_for_beside_the_distances_and_shown(run: Path, unstir: Command) -> None:
    line = ("--metrics", "kernel,memorising", "--samples", 20, "--sample-steps", 1)
    ended = unstir("evaluate", run, *line)
    assert ended.code == 0, ended.err
    (receipt,) = (run / "receipts").glob("*.json")
    assert json.loads(receipt.read_text())["results"]["memorising"]["verdict"] in ended.out
    assert receipt.with_suffix(".copies.png").is_file()
    ended = unstir("evaluate", "--check", receipt)
    assert ended.code == 0, ended.out + ended.err
    ended = unstir("evaluate", run, *line, "--data", "dead-leaves")
    assert ended.code == 2
