"""The area under the ROC curve against scipy, closed forms and the promise of its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from unstir.sets.auroc import auroc


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_rank_sum_of_mann_and_whitney(ties: bool) -> None:
    rng = np.random.default_rng(0)
    for m, n in ((2, 3), (40, 25), (7, 300)):
        strange, usual = rng.normal(0.5, 1, m), rng.normal(0, 1, n)
        if ties:
            strange, usual = np.round(strange), np.round(usual)
        witness = stats.mannwhitneyu(strange, usual).statistic / (m * n)
        assert auroc(strange, usual).value == pytest.approx(witness, rel=1e-12)


def test_the_other_way_round_it_is_the_rest() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.3, 1, 30), rng.normal(0, 1, 50)
    one, other = auroc(a, b), auroc(b, a)
    assert one == pytest.approx((1 - other.value, 1 - other.high, 1 - other.low), rel=1e-12)
    assert auroc(np.exp(a), np.exp(b)) == pytest.approx(one)  # the order alone matters


def test_the_variance_is_that_of_the_two_samples_placements() -> None:
    """DeLong's own sums, term by term, on tied data."""
    rng = np.random.default_rng(2)
    a, b = np.round(rng.normal(0.8, 1, 23), 1), np.round(rng.normal(0, 1, 31), 1)
    psi = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    error = math.sqrt(psi.mean(1).var(ddof=1) / len(a) + psi.mean(0).var(ddof=1) / len(b))
    value, low, high = auroc(a, b, z=1.0)
    assert value == pytest.approx(psi.mean())
    logit = lambda p: math.log(p / (1 - p))  # noqa: E731
    half = (logit(high) - logit(low)) / 2 / stats.t.ppf(stats.norm.cdf(1), 22)
    assert half * value * (1 - value) == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
def test_of_two_normals_it_is_in_closed_form_and_within_the_interval(apart: float) -> None:
    """``Phi(d / sqrt 2)`` for N(d, 1) against N(0, 1), inside 95 % of the intervals."""
    truth, rng, inside, values, trials = stats.norm.cdf(apart / math.sqrt(2)), np.random.default_rng(3), 0, [], 1000
    for _ in range(trials):
        value, low, high = auroc(rng.normal(apart, 1, 50), rng.normal(0, 1, 70))
        inside += low <= truth <= high
        values.append(value)
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / math.sqrt(trials))
    assert 0.93 < inside / trials < 0.975


def test_few_items_against_many_keep_the_promise() -> None:
    """Five against 200: with the normal's quantile 91 % of the intervals would hold the area."""
    truth, rng, inside, trials = stats.norm.cdf(1 / math.sqrt(2)), np.random.default_rng(4), 0, 1000
    for _ in range(trials):
        _, low, high = auroc(rng.normal(1, 1, 5), rng.normal(0, 1, 200))
        inside += low <= truth <= high
    assert inside / trials > 0.94


def test_nothing_is_surer_than_no_overlap() -> None:
    """Of 5 strange items against 60 the low end never falls as one after the other they rise above the last of the usual ones; and
    a value near 1 is never held for surer than 1 itself."""
    usual, perfect = np.arange(60.0), auroc(np.arange(60.0, 65.0), np.arange(60.0))
    for place in range(30, 60):
        near = auroc(np.arange(5.0) / 10 + place + 0.01, usual)
        assert near.low <= perfect.low < perfect.value
        mirrored = auroc(-np.arange(5.0) / 10 - place - 0.01, -usual)
        assert mirrored == pytest.approx((1 - near.value, 1 - near.high, 1 - near.low))


def test_no_overlap_is_not_certainty() -> None:
    """The interval's lower end p is where ``p^k``, of k separate pairs all in order, is as rare as 1 in 20."""
    value, low, high = auroc(np.arange(10, 20), np.arange(5))
    assert (value, high) == (1, 1)
    assert low**5 == pytest.approx(0.05, abs=1e-4)
    assert auroc(np.arange(5), np.arange(10, 20)) == pytest.approx((0, 0, 1 - low))


def test_equal_scores_tell_nothing() -> None:
    value, low, high = auroc(np.zeros(5), np.zeros(6))
    assert value == 0.5
    assert (low, high) == pytest.approx((0.5 * 0.05**0.2, 1 - 0.5 * 0.05**0.2), abs=1e-4)  # nor are they sure of it


def test_infinity_is_a_score() -> None:
    assert auroc(np.array([np.inf, 1.0, 0.5]), np.array([0.0, 0.7])).value == pytest.approx(5 / 6)


@pytest.mark.parametrize(("strange", "usual"), [([1.0], [0.0, 2.0]), ([1.0, 2.0], [0.0]), ([1.0, np.nan], [0.0, 1.0])])
def test_what_has_no_area(strange: list[float], usual: list[float]) -> None:
    with pytest.raises(ValueError, match=r"two items|not a number"):
        auroc(np.array(strange), np.array(usual))
