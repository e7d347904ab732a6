"""unstir features train: a file of features from the user's own classes, and what it says of itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstir.data import load, to_float
from unstir.evaluation.extractors import find

Command = Callable[..., Any]


def test_a_classifier_is_taught_and_can_be_used(tmp_path: Path, unstir: Command, digits_run: Path) -> None:
    out = tmp_path / "new" / "digits.safetensors"
    ended = unstir("features", "train", "digits", "--out", out, "--images", 2000, "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["features"] == str(out)
    assert (facts["images"], facts["classes"]) == (2000, 10)
    assert f"names {facts['accuracy']:.1%} of {facts['heldout']:,} held-out items rightly" in ended.err
    digits = load("digits")
    extractor = find(str(out), digits.spec)(to_float(digits.train.x[:2]))
    assert extractor.name.startswith("classifier-")
    # The line that it ends with, as it stands.
    program, command, run, *hinted = shlex.split(ended.err.strip().splitlines()[-1].partition("use it with ")[2])
    assert (program, command, run) == ("unstir", "evaluate", "RUN")
    words = ("--samples", 20, "--receipt", tmp_path / "receipt.json", "--json")
    measured = unstir(command, digits_run, *hinted, *words)
    assert measured.code == 0, measured.err
    assert extractor.name in measured.out


def test_the_same_line_makes_the_same_file(tmp_path: Path, unstir: Command) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path in (*paths, paths[0]):  # a classifier may be taught again in its own place
        assert unstir("features", "train", "digits", "--out", path, "--images", 100, "--seed", 4).code == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == paths


LINES = {
    "no labels": ("swiss-roll --out {new}", "has no labels"),
    "no such data": ("{tmp}/none --out {new}", "none"),
    "another form": ("digits --out {tmp}/x.npz", "give a name such as"),
    "a folder": ("digits --out {tmp}/folder.safetensors", "is already there, as a folder"),
    "another file": ("digits --out {tmp}/other.safetensors", "is no classifier"),
    "a run's model": ("digits --out {run}/model.safetensors", "is no classifier"),
    "where nothing can be": ("digits --out /proc/x.safetensors", "/proc does not allow it"),
    "below a file": ("digits --out {tmp}/other.safetensors/x.safetensors", "is not a folder"),
    "both budgets": ("digits --out {new} --images 8 --minutes 1", "not both"),
    "no images": ("digits --out {new} --images 0", "more than 0"),
    "no minutes": ("digits --out {new} --minutes 0", "more than 0"),
    "minutes that are no number": ("digits --out {new} --minutes nan", "more than 0"),
    "endless minutes": ("digits --out {new} --minutes inf", "more than 0"),
    "bad seed": ("digits --out {new} --images 8 --seed -1", "a seed is a whole number"),
    "huge seed": ("digits --out {new} --images 8 --seed 99999999999999999999", "a seed is a whole number"),
    "bad size": ("digits --out {new} --images 8 --size -3", "size"),
    "missing out": ("digits", "--out"),
}


@pytest.mark.parametrize("line", LINES)
def test_bad_input_is_one_line(line: str, tmp_path: Path, unstir: Command, digits_run: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "other.safetensors").write_text("something else")
    words, said = LINES[line]
    before = sorted(tmp_path.rglob("*")), (digits_run / "model.safetensors").read_bytes()
    ended = unstir(
        "features", "train", *words.format(new=tmp_path / "new.safetensors", tmp=tmp_path, run=digits_run).split()
    )
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err.splitlines()[-1]
    assert ended.err.splitlines()[-1].startswith("unstir: ")
    assert (sorted(tmp_path.rglob("*")), (digits_run / "model.safetensors").read_bytes()) == before


def test_one_class_alone_is_refused(tmp_path: Path, unstir: Command) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "one.npz", x, np.zeros(30, np.int64))
    ended = unstir("features", "train", tmp_path / "one.npz", "--out", tmp_path / "new.safetensors")
    assert ended.code == 2
    assert "there is nothing to tell apart" in ended.err
