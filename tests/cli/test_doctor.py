"""``unstir doctor``: sentences and figures on stdout, exit code 0, 1 or 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Command = Callable[..., Any]


def test_sentences_figures_and_json_of_the_same(points_run: Path, unstir: Command) -> None:
    """Normal points, which the network's beginning already denoises as well as can be."""
    ended = unstir("doctor", points_run, "--json")
    facts = json.loads(ended.out)
    assert ended.code == (0 if facts["healthy"] else 1)
    assert facts["healthy"] == (not facts["findings"])
    for finding in facts["findings"]:
        assert list(finding) == ["name", "text", "advice", "figures"]
    assert {"weights", "learned", "grid"} <= {look["name"] for look in facts["checked"]}
    shown = unstir("doctor", points_run)
    assert shown.code == ended.code
    assert "held-out loss of one step from x_t to x0, ema weights" in shown.out
    for finding in facts["findings"]:
        assert finding["text"] in shown.out
        assert finding["advice"] in shown.out


def test_what_is_wrong_ends_with_1(digits_run: Path, unstir: Command) -> None:
    """Barely trained, and read from its one file."""
    ended = unstir("doctor", digits_run / "model.safetensors")
    assert ended.code == 1, ended.err
    assert ended.out.startswith("1. ")
    assert "train longer" in ended.out


def test_bad_input_is_one_line(points_run: Path, digits_run: Path, unstir: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((9, 3), np.float32))
    for words, said in (
        ((tmp_path / "none",), "there is no run or model"),
        ((tmp_path,), "is not a run"),
        ((points_run, "--data", tmp_path / "x.npy"), "shape (3,)"),
        ((points_run, "--data", "digits"), "the run is of points, and digits holds pictures"),
    ):
        ended = unstir("doctor", *words)
        assert ended.code == 2
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1
        assert said in ended.err


def test_help_says_what_the_exit_codes_mean(unstir: Command) -> None:
    ended = unstir("doctor", "--help")
    assert ended.code == 0
    assert "exit code 0 when healthy, 1 when something was found" in " ".join(ended.out.replace("│", " ").split())
