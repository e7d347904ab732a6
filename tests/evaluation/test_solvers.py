"""Which way of sampling suits a model: what is measured, at which price, and what is chosen from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstir import samplers
from unstir.cli import opening
from unstir.errors import UserError
from unstir.evaluation import solvers
from unstir.evaluation.report import solvers as shown
from unstir.evaluation.sampling import Sampling
from unstir.evaluation.solvers import Trials, Tried, try_ways, ways
from unstir.runs import Model, dataset, load

WAYS = [("ddim", "uniform"), ("heun", "uniform"), ("ancestral", "uniform")]


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


@pytest.fixture(scope="module")
def trials(model: Model) -> Trials:
    return try_ways(model, ways(model, (3, 10), WAYS), dataset(model), seconds=1, pictures=30, batch=32)


def test_each_way_takes_the_most_steps_that_its_calls_allow(model: Model) -> None:
    found = ways(model, (3, 10))
    assert len(found) == len(set(found))
    for how in found:
        solver = samplers.get(how.sampler)
        taken = [solver.calls(n) for n in (how.steps, how.steps + 1)]
        assert None not in taken
        assert any(taken[0] <= most < taken[1] for most in (3, 10)), how  # pyright: ignore[reportOptionalOperand]


def test_what_was_measured_is_what_the_samples_say(model: Model, trials: Trials) -> None:
    """The distance to the solution in grey levels, again from pictures; the Fréchet distance where data is at hand."""
    few, many = trials.pictures
    assert many == 30
    assert trials.level == 2 / 255
    rows = {(each.how.sampler, each.calls): each for each in trials.tried}
    assert set(rows) == {("ddim", 3), ("ddim", 10), ("heun", 3), ("heun", 9), ("ancestral", 3), ("ancestral", 10)}
    truth = model.sample(few, sampler="dpm++3m", steps=50, spacing="log-snr")
    for each in trials.tried:
        assert each.seconds > 0
        assert each.frechet is not None
        assert each.half is not None
        if each.how.sampler == "ancestral":
            assert each.away is None
            continue
        x = model.sample(few, sampler=each.how.sampler, steps=each.how.steps)
        by_pictures = np.sqrt(np.square(x.astype(float) - truth.astype(float)).mean())
        assert each.away is not None
        # Rounding to levels adds 1/12 to each of two variances, and little else.
        assert each.away / (2 / 255) == pytest.approx(by_pictures, rel=0.02, abs=0.5)
    assert rows["ddim", 10].away < rows["ddim", 3].away  # pyright: ignore[reportOptionalOperand]


def _tried(sampler: str, calls: int, away: float | None, frechet: float | None) -> Tried:
    return Tried(Sampling(sampler, calls), calls, 0.1, away, frechet, None if frechet is None else 0.1)


def _trials(*tried: Tried, level: float | None = 2 / 255) -> Trials:
    return Trials(tried, "many steps", 0.0, (8, 64), 100, "f" if tried[0].frechet is not None else "", 0.1, level)


def test_the_winner_is_the_cheapest_as_good_as_the_best() -> None:
    found = _trials(
        _tried("a", 5, 0.5, 2.0), _tried("b", 10, 0.2, 1.04), _tried("c", 20, 0.1, 1.0), _tried("d", 10, 0.2, 1.2)
    )
    assert found.winner.how.sampler == "b"
    near = _trials(_tried("a", 5, 0.5, None), _tried("b", 10, 0.003, None), _tried("c", 20, 0.001, None))
    assert near.winner.how.sampler == "b", "within half a grey level"
    assert replace(near, level=None).winner.how.sampler == "c", "the nearest, where there are no levels"
    exact = _trials(_tried("a", 5, 0.1, None), _tried("b", 10, 0.0, None), level=None)
    assert exact.winner.how.sampler == "b", "nothing is nearer than at the solution itself"
    left = _trials(_tried("a", 5, None, None), _tried("b", 10, 0.1, 2.0))
    assert left.winner.how.sampler == "b", "what has no distance does not win"


def test_the_nearest_few_and_all_with_noise_go_on() -> None:
    names = ("ddim", "heun", "euler", "deis", "pndm", "unipc2")
    found = {each.how: each for each in (_tried(name, 10, i / 10, None) for i, name in enumerate(names))}
    noisy = _tried("ancestral", 10, None, None)
    going = solvers._going(found | {noisy.how: noisy})
    assert [how.sampler for how in going] == [*names[:4], "ancestral"]


def test_the_table_and_the_page_hold_every_way(trials: Trials) -> None:
    text, page = shown.text(trials), shown.page(trials, "digits", "unstir bench solvers runs/digits")
    for each in trials.tried:
        assert f"{each.how.sampler}  " in text
        assert each.way in page
    assert "own noise" in text
    assert f"Best: {trials.winner.how.sampler}" in text
    assert page.count("<svg") >= 2
    json.dumps(trials.to_json(), allow_nan=False)


def test_without_data_only_the_solution_is_the_measure(model: Model) -> None:
    found = try_ways(model, ways(model, (3,), WAYS[:2]), None, seconds=1, batch=32)
    assert found.features == ""
    assert all(each.frechet is None and each.away is not None for each in found.tried)


def test_the_command_stores_its_winner(digits_run: Path, tmp_path: Path, unstir: Callable[..., Any]) -> None:
    run = shutil.copytree(digits_run, tmp_path / "run")
    line = ("bench", "solvers", run, "--seconds", 1, "--calls", "2,4", "--way", "ddim uniform", "--way", "heun uniform")
    ended = unstir(*line, "--pictures", 20, "--store", "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)
    best = facts["tried"][facts["winner"]]
    assert json.loads((run / "sampling.json").read_text()) == {
        key: best[key] for key in ("sampler", "steps", "spacing")
    }
    assert (run / "solvers.html").is_file()
    ended = unstir("sample", run, "-n", 2, "--json", "--out", tmp_path / "x.npz")
    assert {key: json.loads(ended.out)[key] for key in ("sampler", "steps", "spacing")} == json.loads(
        (run / "sampling.json").read_text()
    )


def test_a_run_whose_data_are_gone_is_tried_all_the_same(
    digits_run: Path, tmp_path: Path, unstir: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise UserError("no such folder")

    monkeypatch.setattr(opening, "own_data", gone)
    line = (
        "bench",
        "solvers",
        digits_run,
        "--seconds",
        1,
        "--calls",
        "2",
        "--way",
        "ddim uniform",
        "--out",
        tmp_path / "x.html",
    )
    ended = unstir(*line, "--json")
    assert ended.code == 0
    assert "without held-out data: no such folder" in ended.err
    assert json.loads(ended.out)["features"] == ""
    ended = unstir(*line, "--data", "elsewhere")
    assert (ended.code, ended.out) == (2, ""), "data that were named must be there"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--way", "magic uniform"], "no sampler is called 'magic'"),
        (["--way", "ddim magic"], "no spacing is called 'magic'"),
        (["--way", "ddim"], "--way is a sampler and a spacing"),
        (["--way", "heun uniform", "--calls", "0"], "--calls is a list"),
        (["--calls", "x"], "--calls is a list"),
        (["--way", "dpm++3s uniform", "--calls", "0,1"], "--calls is a list"),
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--out", "x.png"], "a name that ends in .html"),
    ],
    ids=str,
)
def test_bad_input_is_one_line(digits_run: Path, unstir: Callable[..., Any], words: list[str], said: str) -> None:
    ended = unstir("bench", "solvers", digits_run, *words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_networks_of_single_steps_have_no_choice(model: Model) -> None:
    stepwise = replace(model)
    stepwise.denoiser.consecutive = True
    try:
        with pytest.raises(UserError, match="no way of sampling to choose"):
            ways(stepwise)
    finally:
        stepwise.denoiser.consecutive = False
