"""The verdict on records made by hand, and how often it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import small
from unstir.training.verdict import ALARM, EARLY, IMPROVING, LOOKS, MEMORISING, PLATEAU, judge, looks


def run(
    heldout: list[float], train: list[float], n: int = 30, noise: float = 0.01, seed: int = 0
) -> list[dict[str, Any]]:
    """Looks with these means: items differ much, but by the same in each look, and a little by what each learned."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 1, (2, n))
    made = []
    for i, means in enumerate(zip(heldout, train)):
        made.append(small.look(100 * (i + 1), *(m + o + rng.normal(0, noise, n) for m, o in zip(means, own))))
    return made


@pytest.mark.parametrize(
    ("heldout", "train", "word"),
    [
        ([], [], EARLY),
        ([3.0], [3.0], EARLY),
        ([3.0, 2.9], [3.0, 2.9], IMPROVING),
        ([3.0, 2.9, 2.9], [3.0, 2.9, 2.9], PLATEAU),
        ([3.0, 2.9, 2.85], [3.0, 2.6, 2.3], IMPROVING),  # a growing distance is no harm while held-out items gain too
        ([3.0, 2.9, 2.95], [3.0, 2.9, 2.6], MEMORISING),
        ([3.0, 2.9, 3.1, 3.1], [3.0, 2.9, 2.6, 2.6], MEMORISING),  # it does not end because it goes on no further
        ([3.0, 2.9, 3.0, 3.2], [3.0, 2.9, 3.0, 3.2], PLATEAU),  # worse at both is no memory
    ],
)
def test_what_it_says(heldout: list[float], train: list[float], word: str) -> None:
    assert judge(run(heldout, train)).word == word


def test_only_what_is_sure_is_an_alarm_and_it_is_one_sentence_with_advice() -> None:
    assert judge(run([3.0, 3.001], [3.0, 2.999])).word == PLATEAU
    found = judge(run([3.0, 3.1], [3.0, 2.8]))
    assert found.word == MEMORISING
    assert "\n" not in found.alarm
    for word in ("memorising", "0.0982 ± 0.0098 bits/dim", "more data", "--flip", "shorter", "smaller"):
        assert word in found.alarm
    assert judge(run([3.0, 2.9], [3.0, 2.9])).alarm == ""


def test_copies_are_an_alarm_whatever_the_bound_does() -> None:
    first, then = run([3.0, 2.5], [3.0, 2.5])
    for p, word in ((ALARM / 2 / LOOKS / 2, MEMORISING), (ALARM, IMPROVING)):
        then["copies"] = small.look(0, p=p)["copies"]
        found = judge([first, then])
        assert found.word == word
        assert ("40 of 64 samples" in found.reason) == (word == MEMORISING)


def test_one_item_tells_nothing() -> None:
    assert judge([small.look(10, [3.0], [3.0]), small.look(20, [2.0], [2.0])]).word == EARLY


def test_a_look_without_a_finite_bound_is_passed_over() -> None:
    a, b, c = run([3.0, 2.9, 2.8], [3.0, 2.9, 2.8])
    b["bound"] = None
    assert judge([a, b]).word == EARLY
    assert judge([a, b, c]).word == IMPROVING
    assert "since 100" in judge([a, b, c]).reason


def test_where_nothing_is_learned_false_words_are_as_rare_as_stated() -> None:
    """Looks that differ by noise alone: "improving" in 2.5 % of them, "memorising" in at most 1 % of runs."""
    runs = [run([3.0] * LOOKS, [3.0] * LOOKS, n=12, noise=0.1, seed=seed) for seed in range(100)]
    words = [[judge(made[:end]).word for end in range(2, LOOKS + 1)] for made in runs]
    improving = np.mean([word == IMPROVING for each in words for word in each])
    assert abs(improving - 0.025) < 4 * (0.025 * 0.975 / (100 * (LOOKS - 1))) ** 0.5
    assert sum(MEMORISING in each for each in words) <= 5  # of a binomial with p = 0.01, more come in 1 of 2,000 times


def test_what_was_learned_again_counts_once() -> None:
    lines: list[dict[str, Any]] = [{"event": "resume", "images": 0}, {"images": 50, "loss": 1.0}]
    lines += [small.look(100, [3.0], [3.0]), small.look(200, [2.0], [2.0]), small.look(300, [9.0], [9.0])]
    lines += [{"event": "resume", "images": 200}, small.look(300, [1.0], [1.0])]
    assert [(each["images"], each["bound"]["heldout"]) for each in looks(lines)] == [
        (100, [3.0]),
        (200, [2.0]),
        (300, [1.0]),
    ]
    lines += [{"event": "rollback", "images": 150, "reached": 310}]
    assert [each["images"] for each in looks(lines)] == [100]
