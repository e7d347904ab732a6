"""Receipts side by side: what counts as the same, and what does not compare."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstir.errors import UserError
from unstir.evaluation.comparison import compared, unlike
from unstir.evaluation.repetition import numbers, repeated

VERSIONS = {"python": "3.12", "torch": "2.13.0"}


def receipt(**changes: Any) -> dict[str, Any]:
    """A whole receipt; changes are laid over its results by dotted name."""
    made = {
        "receipt": 1,
        "run": "runs/a",
        "asked": {"metrics": ["bound", "frechet"], "given_labels": False},
        "data": {"hash": "a" * 64, "rules": "as they are"},
        "model": {"hash": "b" * 64, "weights": "ema", "images": 1000},
        "extractor": {"name": "random-filters-v1", "hash": "c" * 64},
        "results": {
            "bound": {"unit": "bits/dim", "total": 3.0, "half_width": 0.1, "items": 256, "chain": 1000, "per_step": [1.0, 2.0]},
            "quality": {
                "extractor": "random-filters-v1", "samples": 500, "real": 1000, "heldout": 100, "drawn": "ddim",
                "values": {"frechet": 0.01, "frechet_half": 0.004, "kernel": 1e-4, "kernel_error": 5e-4},
            },
        },
        "made": {"device": "cpu", "machine": "x86_64", "threads": 1, "versions": VERSIONS},
    }  # fmt: skip
    for name, value in changes.items():
        place: Any = made
        *path, last = name.split("__")
        for part in path:
            place = place[part]
        place[last] = value
    return made


def test_a_receipt_agrees_with_itself_to_the_last_bit() -> None:
    same = repeated(receipt(), receipt())
    assert same.agrees
    assert "to the last bit" in same.table()
    assert same.to_json()["identical"]
    # total, half_width, items, chain, two entries of per_step as one; samples, real, heldout and four values
    assert same.to_json()["numbers"] == 12


@pytest.mark.parametrize(
    ("name", "value", "agrees"),
    [
        ("results__bound__total", 3.0 + 0.009, True),  # less than a tenth of its interval
        ("results__bound__total", 3.04, False),
        ("results__bound__per_step", [1.001, 2.0], True),
        ("results__bound__per_step", [1.0, 2.5], False),
        ("results__bound__per_step", [1.0], False),
        ("results__quality__values__kernel", 1.4e-4, True),  # within a tenth of its own standard error
        ("results__quality__values__kernel", 3e-4, False),
        ("results__bound__items", 250, False),
        ("results__bound__total", float("nan"), False),
    ],
)
def test_numbers_agree_within_rounding_alone(name: str, value: Any, agrees: bool) -> None:
    found = repeated(receipt(), receipt(**{name: value}, made__machine="another"))
    assert found.agrees == agrees
    assert not repeated(receipt(), receipt(**{name: value})).agrees  # with the same there is nothing to excuse it
    if not agrees:
        assert name.removeprefix("results__").replace("__", ".") in found.table()
        assert "does not agree: 1 of 12" in found.table()


def test_a_number_that_is_missing_does_not_agree() -> None:
    now = receipt()
    del now["results"]["quality"]["values"]["kernel"]
    for found in (repeated(receipt(), now), repeated(now, receipt())):
        assert not found.agrees
        assert "nothing" in found.table()


def test_what_it_was_made_with_is_said() -> None:
    now = receipt(made__threads=2, made__versions=VERSIONS | {"torch": "2.14.0"})
    text = repeated(receipt(), now).table()
    assert "made with threads 1, repeated with 2" in text
    assert "made with torch 2.13.0, repeated with 2.14.0" in text


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.recursive(st.floats(-1e3, 1e3), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)))
def test_every_number_is_found_once(tree: Any) -> None:
    def leaves(node: Any) -> int:
        return sum(map(leaves, node.values())) if isinstance(node, dict) else 1

    found = list(numbers({"root": tree}))
    assert len(found) == len({name for name, _ in found}) == leaves(tree)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("data__hash", "d" * 64, "other data: aaaaaaaaaaaa… and dddddddddddd…"),
        ("data__rules", "resized", "prepared by other rules"),
        ("asked__given_labels", True, "given labels"),
        ("results__bound__items", 100, "items measured: 256 and 100"),
        ("extractor__hash", "e" * 64, "other features: random-filters-v1 cccccccccccc… and random-filters-v1 eeeeeeeeeeee…"),
        ("results__quality__samples", 400, "counts of samples: 500 and 400"),
        ("results__quality__real", 400, "counts of real"),
    ],
)  # fmt: skip
def test_unlike_receipts_are_refused_with_what_differs(name: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=r"one\.json and two\.json do not compare") as refused:
        compared([("one.json", receipt()), ("two.json", receipt(**{name: value}))])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_weights_samplers_and_seeds_do_compare() -> None:
    other = receipt(model__hash="f" * 64, model__weights="raw", results__quality__drawn="heun")
    other["results"]["bound"]["total"] = 2.5
    found = compared([("one.json", receipt()), ("two.json", other)])
    assert found.values["bits/dim (bound)"] == [3.0, 2.5]
    assert "frechet@random-filters-v1" in found.table()
    assert "2.50000 ± 0.10000" in found.table()
    assert "-0.50000 ± 0.14142" in found.table()


def test_only_what_both_have_is_asked() -> None:
    """Of two bounds the features do not matter."""
    one, two = receipt(), receipt(extractor__hash="e" * 64)
    del two["results"]["quality"]
    assert unlike(one, two, ["bound"]) == []
    assert compared([("one", one), ("two", two)]).values == {"bits/dim (bound)": [3.0, 3.0]}
    nothing = copy.deepcopy(two)
    del nothing["results"]["bound"]
    with pytest.raises(UserError, match="no measure in common"):
        compared([("one", one), ("two", nothing)])
    with pytest.raises(UserError, match="two receipts at least"):
        compared([("one", one)])


def test_rows_of_a_table_are_compared_by_name() -> None:
    rows = [{"name": "PNG", "value": 2.8, "half": 0.05}, {"name": "WebP", "value": 2.1, "half": None}]
    then, now = receipt(results__yardsticks={"rows": rows}), receipt(results__yardsticks={"rows": copy.deepcopy(rows)})
    assert repeated(then, now).agrees
    now["results"]["yardsticks"]["rows"][1]["value"] = 2.2
    assert "yardsticks.rows.WebP.value" in repeated(then, now).table()
