"""What ``unstir evaluate`` can be asked for beside the bound of the whole chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import small
from unstir.bound import subchain

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def bits_run(cache_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    toml = (
        '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'
    )
    return small.train(tmp_path_factory.mktemp("runs") / "bits", "heartbeat", 32, toml).path


def test_the_bound_of_the_best_few_steps(points_run: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subchain, "CANDIDATES", 12)
    line = ("evaluate", points_run, "--images", 200, "--batch", 200, "--steps", 4)
    ended = unstir(*line, "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert (facts["chain"], facts["calls"], facts["spacing"]) == (4, 4, "best")
    assert len(facts["times"]) == 4
    assert facts["times"][-1] == 50
    even = json.loads(unstir(*line, "--spacing", "uniform", "--json").out)
    assert even["times"] == pytest.approx([50 * i / 4 for i in range(1, 5)])
    assert facts["total"] < even["total"]
    assert f"t = {', '.join(f'{t:.6g}' for t in facts['times'])}" in unstir(*line).out


def test_a_fitted_variance(points_run: Path, unstir: Command) -> None:
    line = ("evaluate", points_run, "--images", 200, "--batch", 200, "--steps", 4, "--spacing", "uniform", "--json")
    own = json.loads(unstir(*line).out)
    ended = unstir(*line, "--variance", "analytic")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["total"] < own["total"]
    assert "fitted" in facts["variance"]
    assert own["variance"] == ""


def test_all_measures_together(points_run: Path, unstir: Command) -> None:
    line = ("evaluate", points_run, "--images", 20, "--terms", 5, "--metrics", "bound,ode,rate")
    ended = unstir(*line, "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["unit"] == facts["ode"]["unit"] == facts["rate"]["unit"] == "bits/item"
    assert len(facts["rate"]["times"]) == 50
    assert facts["ode"]["total"] < facts["total"] + 1
    shown = unstir(*line).out
    for words in ("95 % interval", "probability-flow ODE", "T - t + 1"):
        assert words in shown


def test_data_of_another_kind_is_named_by_its_kind(
    digits_run: Path, points_run: Path, points_file: Path, unstir: Command, tmp_path: Path
) -> None:
    sized = small.train(tmp_path / "sized", "digits", 8, data={"source": "digits", "size": 6}).path
    for run in (digits_run, sized):
        ended = unstir("evaluate", run, "--data", points_file)
        assert ended.code == 2
        assert ended.err == f"unstir: the run is of pictures, and {points_file} holds points\n"
    ended = unstir("evaluate", points_run, "--data", "digits")
    assert ended.err == "unstir: the run is of points, and digits holds pictures\n"


def test_one_measure_alone(digits_run: Path, unstir: Command) -> None:
    ended = unstir("evaluate", digits_run, "--images", 4, "--metrics", "rate", "--json")
    assert ended.code == 0, ended.err
    assert list(json.loads(ended.out)) == ["rate"]


def test_bits_have_bound_and_rate_and_no_flow(bits_run: Path, unstir: Command) -> None:
    ended = unstir("evaluate", bits_run, "--images", 8, "--metrics", "bound,rate", "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    assert facts["unit"] == "bits/item"
    assert "share" in facts["rate"]["distortion_unit"]
    for words in (("--metrics", "ode"), ("--variance", "analytic")):
        ended = unstir("evaluate", bits_run, *words)
        assert ended.code == 2
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1
        assert "bits" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ("--metrics", "bound,speed"),
        ("--metrics", ""),
        ("--steps", 0),
        ("--steps", 51),
        ("--spacing", "best"),
        ("--spacing", "leading", "--steps", 5),
        ("--steps", 5, "--metrics", "rate"),
        ("--variance", "large"),
        ("--variance", "analytic", "--metrics", "ode"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_line(words: tuple, points_run: Path, unstir: Command) -> None:
    ended = unstir("evaluate", points_run, *words)
    assert ended.code == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("unstir: ")
