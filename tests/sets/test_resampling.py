"""Halves that share nothing, and intervals that hold what they say as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from unstir.sets.distances import frechet_distance, kernel_distance
from unstir.sets.manifold import precision_recall
from unstir.sets.resampling import bootstrap_interval, halves


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_halves_are_equal_and_share_no_row(n: int) -> None:
    rows = torch.arange(n)[:, None]
    first, second = halves(rows, 3)
    assert len(first) == len(second) == n // 2
    both = torch.cat([first, second]).flatten().tolist()
    assert len(set(both)) == len(both)
    assert torch.equal(first, halves(rows, 3)[0])
    if n > 10:
        assert not torch.equal(first, halves(rows, 4)[0])
        assert first.flatten().tolist() != sorted(first.flatten().tolist())


def test_each_row_is_in_the_first_half_half_of_the_time() -> None:
    counts = torch.stack([torch.bincount(halves(torch.arange(8), seed)[0], minlength=8) for seed in range(400)]).sum(0)
    assert all(binomtest(int(c), 400, 0.5).pvalue > 1e-4 for c in counts)


@pytest.mark.parametrize("n", [40, 41])
def test_of_a_mean_the_spread_over_halves_is_its_standard_error(n: int) -> None:
    """``sd / sqrt(n)``, up to the draws' own number: the half's own mean varies by just that around the whole's."""
    x = normal(n, 1)
    value, half = bootstrap_interval(lambda x: float(x.mean()), x, draws=2000, z=1)
    assert value == float(x.mean())
    assert half == pytest.approx(float(x.std()) / math.sqrt(n), rel=0.05)


def test_of_few_draws_the_interval_is_wider_by_students_t() -> None:
    x, draws = normal(50, 1), 3
    wide = np.mean([bootstrap_interval(lambda x: float(x.mean()), x, draws=draws, seed=i)[1] for i in range(300)])
    error = float(x.std()) / math.sqrt(50)
    assert wide / error == pytest.approx(
        4.303 * math.sqrt(math.pi) / 2, rel=0.1
    )  # E of a sd of three is sqrt(pi)/2 of it


def said_rate(hits: int, trials: int) -> None:
    """95 % within the binomial's own chance, one in a thousand."""
    assert binomtest(hits, trials, 0.95).pvalue > 1e-3, f"{hits} of {trials} intervals hold the truth"


def test_intervals_of_distances_hold_their_expectation_at_their_rate() -> None:
    """Laws apart by half a width. The expectation at these counts is that of 1000 other pairs of sets."""
    dims, n, m, shift, trials = 4, 100, 120, 0.5, 120

    def measure(a: Tensor, b: Tensor) -> tuple[float, float]:
        return frechet_distance(a, b), kernel_distance(a, b)[0]

    def sets(seed: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng(seed)
        a, b = generator.uniform(-1, 1, (n, dims)), shift + generator.uniform(-1, 1, (m, dims))
        return torch.from_numpy(a), torch.from_numpy(b)

    others = np.array([measure(*sets(10_000 + i)) for i in range(1000)])
    found = np.array([bootstrap_interval(measure, *sets(i), draws=12, seed=i) for i in range(trials)])
    for which in range(2):
        held = np.abs(found[:, which, 0] - others[:, which].mean()) <= found[:, which, 1]
        said_rate(int(held.sum()), trials)


def test_intervals_of_neighbours_hold_their_expectation_no_less_often() -> None:
    """Radii shrink with counts, so halves spread a little more: never less than is said, nor twice as wide."""
    n, dims, trials = 60, 3, 120

    def sets(seed: int) -> tuple[Tensor, Tensor]:
        return normal(n, dims, seed=2 * seed), 0.6 + 0.8 * normal(n, dims, seed=2 * seed + 1)

    others = np.array([precision_recall(*sets(10_000 + i)) for i in range(600)])
    found = np.array([bootstrap_interval(precision_recall, *sets(i), draws=15, seed=i) for i in range(trials)])
    for which in range(4):
        held = int((np.abs(found[:, which, 0] - others[:, which].mean()) <= found[:, which, 1]).sum())
        assert binomtest(held, trials, 0.95, alternative="less").pvalue > 1e-3, (which, held)
    width = found[:, :, 1].mean(0) / 2.145 / others.std(0)
    assert (width > 0.85).all(), width
    assert (width < 2).all(), width


def test_what_gives_no_interval_is_refused_with_a_sentence() -> None:
    x = normal(10, 3)
    for call, words in [
        (lambda: bootstrap_interval(frechet_distance, x, x, draws=1), "two draws"),
        (lambda: bootstrap_interval(frechet_distance, x, x[:3]), "at least 4"),
        (lambda: bootstrap_interval(frechet_distance), "at least 4"),
        (lambda: halves(x[:1]), "two samples"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
