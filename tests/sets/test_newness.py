"""Tests of newness: by enumeration, by scipy, and by how often they cry wolf."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from unstir.sets import newness
from unstir.sets.newness import compare, conformal, rank_test, tail_test


def orders(n: int, m: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """All ways in which n samples stand among m held-out items, as numbers of both."""
    places = np.arange(n + m, dtype=np.float64)
    return [
        (places[list(chosen)], np.delete(places, list(chosen))) for chosen in itertools.combinations(range(n + m), n)
    ]


@pytest.mark.parametrize(("n", "m", "rank"), [(4, 3, 1), (4, 3, 2), (3, 5, 2), (5, 3, 3), (1, 6, 1), (6, 1, 1)])
def test_the_tail_is_what_counting_all_orders_gives(n: int, m: int, rank: int) -> None:
    found = [tail_test(samples, heldout, rank) for samples, heldout in orders(n, m)]
    counts = np.array([count for count, _ in found])
    for count, p in found:
        assert p == pytest.approx((counts >= count).mean(), rel=1e-14)


@pytest.mark.parametrize(("n", "m", "rank"), [(500, 2000, 20), (40, 70, 3), (3000, 100, 1)])
def test_the_tail_is_the_negative_hypergeometric_law(n: int, m: int, rank: int) -> None:
    draws = np.random.default_rng(n)
    for shift in (0, 0.3, 0.6):
        count, p = tail_test(draws.normal(size=n) - shift, draws.normal(size=m), rank)
        assert p == pytest.approx(stats.nhypergeom.sf(count - 1, n + m, n, rank), rel=1e-6)
        assert p == pytest.approx(stats.betabinom.sf(count - 1, n, rank, m - rank + 1), rel=1e-6)


@pytest.mark.parametrize("decimals", [8, 1])
def test_ranks_are_scipys_with_and_without_ties(decimals: int) -> None:
    draws = np.random.default_rng(3)
    for n, m, shift in ((30, 200, 0.0), (200, 25, 0.2), (100, 100, -0.3)):
        samples, heldout = draws.normal(-shift, 1, n).round(decimals), draws.normal(size=m).round(decimals)
        expected = stats.mannwhitneyu(samples, heldout, alternative="less", method="asymptotic")
        share, p = rank_test(samples, heldout)
        assert p == pytest.approx(expected.pvalue, rel=1e-9)
        assert share == pytest.approx(1 - expected.statistic / (n * m), rel=1e-12)


def test_few_ranks_are_counted() -> None:
    """With few of either the p is that of scipy's exact law, to the error of counting 3,999 orders."""
    draws = np.random.default_rng(4)
    for n, m, shift in ((5, 7, 0.5), (3, 40, 1.0), (12, 9, 0.0)):
        samples, heldout = draws.normal(-shift, 1, n), draws.normal(size=m)
        exact = stats.mannwhitneyu(samples, heldout, alternative="less", method="exact").pvalue
        assert rank_test(samples, heldout)[1] == pytest.approx(
            exact, abs=4 * math.sqrt(exact * (1 - exact) / 3999) + 1 / 4000
        )


def test_p_values_are_uniform_where_samples_are_as_new_as_held_out_items() -> None:
    """The whole law of ranks; of the tail, which takes few values, the mean of its middle p: (P(K >= k) + P(K > k)) / 2."""
    draws = np.random.default_rng(5)
    whole, middle = [], []
    for _ in range(800):
        samples, heldout = draws.normal(size=60), draws.normal(size=50)
        whole.append(rank_test(samples, heldout)[1])
        count, p = tail_test(samples, heldout, 5)
        middle.append(p - stats.nhypergeom.pmf(count, 110, 60, 5) / 2)
    assert stats.kstest(whole, "uniform").pvalue > 1e-3
    assert np.mean(middle) == pytest.approx(0.5, abs=3.3 * math.sqrt(1 / 12 / 800))


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9, 0.98])
def test_ties_do_not_cause_false_alarms(monkeypatch: pytest.MonkeyPatch, zeros: float) -> None:
    """A lump of exact copies on both sides, as of bits of few places; unequal numbers of samples and held-out items."""
    monkeypatch.setattr(newness, "_DRAWS", 199)  # any number of random orders makes a valid test
    monkeypatch.setattr(newness, "_AT_ONCE", 199)
    draws, runs = np.random.default_rng(6), 300
    found = []
    for _ in range(runs):
        numbers = np.where(draws.random(150) < zeros, 0.0, draws.integers(1, 9, 150))
        test = compare(numbers[:120], numbers[120:])
        found.append((test.tail_p, test.whole_p))
    for p in np.array(found).T:
        for level in (0.01, 0.05, 0.2):
            assert (p <= level).sum() <= stats.binom.ppf(0.999, runs, level)


def test_equal_numbers_alone_say_nothing() -> None:
    test = compare(np.zeros(50), np.zeros(30))
    assert (test.nearer, test.tail_p, test.share, test.whole_p) == (0, 1, 0.5, 1)


def test_one_new_sample_takes_each_conformal_p_equally_often() -> None:
    found = sorted(float(conformal(samples, heldout)[0]) for samples, heldout in orders(1, 9))
    assert found == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert conformal(np.zeros(1), np.zeros(9))[0] == 1  # as near as all others


def test_all_copies_are_as_sure_as_can_be() -> None:
    test = compare(np.full(300, 0.1), np.linspace(0.5, 1, 400))
    assert (test.rank, test.nearer) == (4, 300)
    assert test.tail_p < 1e-100
    assert test.whole_p < 1e-3


def test_what_cannot_be_compared_is_refused() -> None:
    for call in (
        lambda: tail_test(np.empty(0), np.ones(3), 1),
        lambda: tail_test(np.ones(3), np.ones(3), 4),
        lambda: rank_test(np.ones(3), np.empty(0)),
    ):
        with pytest.raises(ValueError, match=r"takes|compare"):
            call()
