"""Receipts side by side, and receipts that are damaged: what is shown, what is refused and in which words."""

from __future__ import annotations

import copy
import json
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_repetition import receipt
from unstir.cli.evaluate import evaluate_
from unstir.errors import UserError
from unstir.evaluation import receipt as receipts
from unstir.evaluation.asked import CHOICES, Asked
from unstir.evaluation.comparison import compared

Command = Callable[..., Any]
GONE = "(gone)"


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """A whole receipt with some values replaced, by dotted name, or taken out where they are GONE."""
    made = copy.deepcopy(receipt(asked__data=None))
    for name, value in changes:
        place: Any = made
        *path, last = name.split(".")
        for part in path:
            place = place[part]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return made


def kept(folder: Path, name: str, *changes: tuple[str, Any]) -> Path:
    path = folder / name
    path.write_text(json.dumps(changed(*changes)))
    return path


def test_a_whole_receipt_is_read(tmp_path: Path) -> None:
    assert receipts.read(kept(tmp_path, "whole.json")) == changed()
    for path in (Path(__file__).parents[2] / "docs" / "receipts").glob("*.json"):
        receipts.read(path)


DAMAGES = [
    ("run", GONE, "run is missing"),
    ("run", 5, "run must be text, not 5"),
    ("model.weights", GONE, "model.weights is missing"),
    ("model.weights", "magic", 'model.weights must be one of ema, raw, not "magic"'),
    ("model.weights", ["ema"], "model.weights must be one of"),
    ("model.images", "many", "model.images must be a whole number"),
    ("model.images", True, "model.images must be a whole number, not true"),
    ("model.hash", GONE, "model.hash is missing"),
    ("data.hash", GONE, "data.hash is missing"),
    ("data.hash", 7, "data.hash must be text"),
    ("data.rules", None, "data.rules must be text, not null"),
    ("asked.metrics", GONE, "asked.metrics is missing"),
    ("asked.metrics", 5, "asked.metrics must be a list, each text, not 5"),
    ("asked.metrics", "bound", "asked.metrics must be a list"),
    ("asked.metrics", [5], "asked.metrics must be a list"),
    ("asked.images", None, "asked.images must be a whole number, not null"),
    ("asked.images", "64", 'asked.images must be a whole number, not "64"'),
    ("asked.images", 64.5, "asked.images must be a whole number, not 64.5"),
    ("asked.images", 10**30, "asked.images must be a whole number"),
    ("asked.terms", "x", "asked.terms must be a whole number"),
    ("asked.within", "x", "asked.within must be a number or null"),
    ("asked.given_labels", 1, "asked.given_labels must be true or false, not 1"),
    ("asked.data", 5, "asked.data must be text or null, not 5"),
    ("asked.spacing", "magic", "--spacing is one of best; uniform; trailing; log-snr: not 'magic'"),
    ("asked.variance", "magic", "--variance is one of analytic"),
    ("asked.sampler", "magic", "--sampler: no sampler is called"),
    ("asked.sample_spacing", "magic", "--sample-spacing is one of"),
    ("asked.input_range", "magic", "--input-range is one of"),
    ("made.versions", None, "made.versions must be an object, not null"),
    ("results.bound", None, "results.bound must be an object, not null"),
    ("results.bound", [], "results.bound must be an object, not []"),
    ("results.bound.unit", GONE, "results.bound.unit is missing"),
    ("results.bound.total", "low", "results.bound.total must be a number or null"),
    ("results.quality.values", {"frechet": []}, "results.quality.values must be an object, each a number or null"),
    ("results.yardsticks", {"items": 3}, "results.yardsticks.rows is missing"),
    ("extractor", None, "extractor must be an object, not null"),
    ("receipt", True, "is not a receipt"),
]


@pytest.mark.parametrize(("name", "value", "said"), DAMAGES, ids=lambda each: str(each)[:30])
def test_what_is_damaged_is_named_in_one_line(name: str, value: Any, said: str, tmp_path: Path) -> None:
    path = kept(tmp_path, "damaged.json", (name, value))
    with pytest.raises(UserError) as refused:
        receipts.read(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [("run", GONE), ("asked.images", None), ("results.bound", []), None], ids=str)
def test_commands_refuse_what_is_damaged(change: tuple[str, Any] | None, tmp_path: Path, unstir: Command) -> None:
    path = kept(tmp_path, "damaged.json", *([change] if change else []))
    if change is None:
        path.write_text("[" * 100_000)
    for line in (("evaluate", "--check", path), ("compare", path, kept(tmp_path, "whole.json"))):
        ended = unstir(*line)
        assert (ended.code, ended.out) == (2, "")
        assert len(ended.err.splitlines()) == 1
        assert str(path) in ended.err


def test_a_folder_is_answered_with_its_newest_receipts(tmp_path: Path, unstir: Command) -> None:
    ended = unstir("compare", tmp_path, tmp_path)
    assert (ended.code, "holds no receipts" in ended.err) == (2, True)
    (tmp_path / "receipts").mkdir()
    for i in range(4):
        path = kept(tmp_path / "receipts", f"{i}.json")
        os.utime(path, (1000 + i, 1000 + i))
    ended = unstir("compare", tmp_path, tmp_path)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    places = [ended.err.find(str(tmp_path / "receipts" / f"{i}.json")) for i in (3, 2, 1)]
    assert places == sorted(places)
    assert places[0] > 0
    assert "0.json" not in ended.err


FRECHET, KERNEL = {"frechet": 0.01, "frechet_half": 0.004}, {"kernel": 1e-4, "kernel_error": 5e-4}


def test_nothing_measured_in_common_is_refused(tmp_path: Path, unstir: Command) -> None:
    one = kept(tmp_path, "one.json", ("results.bound", GONE), ("results.quality.values", FRECHET))
    two = kept(tmp_path, "two.json", ("results.bound", GONE), ("results.quality.values", KERNEL))
    for words in ((), ("--json",)):
        ended = unstir("compare", one, two, *words)
        assert (ended.code, ended.out) == (2, "")
        assert len(ended.err.splitlines()) == 1
        assert f"{one} has frechet; {two} has kernel" in ended.err


def test_features_do_not_matter_where_no_distance_is_in_common() -> None:
    one = changed(("results.quality.values", FRECHET))
    two = changed(("results.quality.values", KERNEL), ("extractor.hash", "e" * 64))
    assert list(compared([("one", one), ("two", two)]).values) == ["bits/dim (bound)"]


def test_what_only_one_has_is_named() -> None:
    both = changed()
    less = changed(("results.quality.values", FRECHET), ("results.rate", {}))
    text = compared([("a.json", both), ("b.json", less)]).table()
    assert text.splitlines()[-1] == "only in a.json: kernel; only in b.json: rate"
    assert "only in a.json, c.json: kernel" in compared([("a.json", both), ("b.json", less), ("c.json", both)]).table()
    assert "only in" not in compared([("a.json", both), ("b.json", both)]).table()


def test_null_is_infinite(tmp_path: Path, unstir: Command) -> None:
    one = kept(tmp_path, "one.json", ("results.bound.half_width", None))
    two = kept(tmp_path, "two.json", ("results.bound.total", None), ("results.bound.half_width", None))
    shown = unstir("compare", one, two).out
    assert "3.00000 ± inf" in shown
    assert "inf ± inf" in shown
    assert "unknown" in unstir("compare", two, two).out  # inf less inf
    assert json.loads(unstir("compare", one, two, "--json").out)["values"]["bits/dim (bound)"] == [3.0, None]


def test_yardsticks_stand_beneath_where_both_have_them() -> None:
    rows = [{"name": "PNG", "value": 2.8, "half": 0.05}, {"name": "Gaussian", "value": None, "half": None}]
    one = changed(("results.yardsticks", {"unit": "bits/dim", "items": 256, "rows": rows}))
    two = changed(("results.yardsticks", {"unit": "bits/dim", "items": 256, "rows": rows[:1]}))
    found = compared([("one", one), ("two", two)])
    assert [row for row in found.rows if "yardstick" in row[0]] == [("PNG (yardstick)", ("2.80000", "2.80000", ""))]
    two["results"]["yardsticks"]["items"] = 100
    assert "PNG" not in compared([("one", one), ("two", two)]).table()


SURER = "the same items: the difference is surer than ± says"


@pytest.mark.parametrize(
    "change", [("asked.seed", 1), ("asked.images", 300), ("asked.terms", 7), ("results.bound.chain", 20)], ids=str
)
def test_the_same_items_with_the_same_noise_are_said_to_be(change: tuple[str, Any]) -> None:
    other = changed(("results.bound.total", 2.9), ("model.hash", "f" * 64))
    assert SURER in compared([("one", changed()), ("two", other)]).notes
    assert SURER not in compared([("one", changed()), ("two", changed(change))]).notes
    samples_alone = changed(("results.bound", GONE))
    assert SURER not in compared([("one", changed()), ("two", samples_alone)]).notes


def test_a_metric_is_asked_once() -> None:
    assert Asked(metrics=("bound", " rate ", "bound")) == Asked(metrics=("bound", "rate"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", "components"), ("input_range", "0,1"), ("sampler", "heun"), ("sample_steps", 5),
        ("sample_spacing", "leading"), ("sample_times", (9.0, 0.0)), ("clip", "none"), ("label", "3"), ("guidance", 2.0),
        ("guidance_interval", (0.1, 2.0)), ("rescale", 0.5), ("autoguidance", "runs/weak"),
    ],
)  # fmt: skip
def test_what_is_about_samples_takes_a_metric_of_samples(name: str, value: Any) -> None:
    with pytest.raises(UserError, match="add frechet, kernel, overlap or memorising to --metrics") as refused:
        Asked(**{name: value})
    assert str(refused.value).startswith(f"--{name.replace('_', '-')} is ")
    assert getattr(Asked(metrics=("memorising",), **{name: value}), name) == value


def test_the_command_offers_the_same_choices() -> None:
    offered = typing.get_type_hints(evaluate_)
    for name, choices in CHOICES.items():
        literals = [offered[name], *typing.get_args(offered[name])]
        (found,) = [typing.get_args(each) for each in literals if typing.get_origin(each) is typing.Literal]
        assert set(found) == set(choices), name
