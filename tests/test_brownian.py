"""Brownian paths: the covariance min(a, b) by algebra, from what each draw weighs, and the draws themselves by their law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from unstir.noise import NoiseSource, brownian_weights

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=60)


def _covariance(times: Tensor) -> Tensor:
    nodes, weights = brownian_weights(times)
    _, columns = nodes.unique(return_inverse=True)
    table = torch.zeros(len(times), int(columns.max()) + 1, dtype=F64).scatter_(1, columns, weights)
    return table @ table.T


@LAW
@given(st.lists(st.floats(-9.5, 9.5), min_size=2, max_size=30), st.lists(st.integers(-32, 32), max_size=4))
def test_the_covariance_of_the_path_is_the_earlier_time(decades: list[float], octaves: list[int]) -> None:
    """``E W(a) W(b) = min(a, b)``, which is all there is to a Brownian motion: times of 19 decades, and the tree's own knots."""
    times = sorted({round(10**d, 15) for d in decades} | {2.0**k for k in octaves} | {0.0})
    apart = [b for a, b in zip([-1.0, *times], times) if b > a * 1.01]  # no two in one leaf
    t = torch.tensor(apart, dtype=F64)
    earlier = torch.minimum(t[:, None], t)
    later = torch.maximum(t[:, None], t)
    assert bool(((_covariance(t) - earlier).abs() <= 1e-12 * (earlier * later).sqrt()).all())


def test_increments_are_independent_and_of_their_own_variance() -> None:
    """As they are used, with the two ends of a step near each other: by algebra, without rounding of large covariances."""
    t = torch.logspace(-9, 9, 700, dtype=F64)
    nodes, weights = brownian_weights(t)
    _, columns = nodes.unique(return_inverse=True)
    table = torch.zeros(len(t), int(columns.max()) + 1, dtype=F64).scatter_(1, columns, weights)
    steps = table.diff(dim=0) / t.diff().sqrt()[:, None]
    torch.testing.assert_close(steps @ steps.T, torch.eye(len(t) - 1, dtype=F64), rtol=0, atol=1e-9)


def test_every_single_time_has_its_own_variance_also_within_a_leaf_and_beyond_the_span() -> None:
    t = torch.cat([torch.linspace(1, 1.01, 400, dtype=F64), torch.tensor([1e-40, 1e-12, 1e11, 1e30], dtype=F64)])
    torch.testing.assert_close(brownian_weights(t)[1].square().sum(1), t, rtol=1e-12, atol=0)


@pytest.mark.parametrize("at", [0.5, 3.0, 2.0**-32, 1e-25, 2.0**32, 1e22])
def test_the_path_has_no_jumps(at: float) -> None:
    """Also where leaves, octaves and the span end: close times are close in value."""
    source = NoiseSource(0, range(200))
    left, right = (source.brownian((5,), "p", at * (1 + e), dtype=F64) for e in (-1e-9, 1e-9))
    # 4e-5 is the size of the increment if the two share a leaf or not, 6 times that is not reached by 1000 draws
    assert float((left - right).abs().max()) < 6 * math.sqrt(at) * 4e-5


def test_what_is_drawn_is_what_the_weights_say() -> None:
    source, times = NoiseSource(4, [3, 0, 9]), torch.tensor([0.7, 1e-6, 300.0], dtype=F64)
    nodes, weights = brownian_weights(times)
    expected = torch.zeros(3, 2, 5, dtype=F64)
    for node, weight in zip(nodes.T, weights.T):
        expected += weight[:, None, None] * source.normal((2, 5), "p", node, dtype=F64)
    drawn = source.brownian((2, 5), "p", times, dtype=F64)
    torch.testing.assert_close(drawn, expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(source.brownian((2, 5), "p", times), drawn.float())


def test_increments_add_up() -> None:
    source = NoiseSource(0, range(6))
    a, b, c = (torch.tensor(t, dtype=F64).expand(6) for t in (0.02, 0.5, 40.0))
    whole, first, second = (source.brownian((7,), "p", u, t, dtype=F64) for t, u in ((a, c), (a, b), (b, c)))
    torch.testing.assert_close(whole, first + second, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(whole, -source.brownian((7,), "p", a, c, dtype=F64), rtol=0, atol=0)
    assert not source.brownian((7,), "p", 0).any()
    assert not source.brownian((7,), "p", b, b).any()


def test_increments_are_normal_along_every_axis() -> None:
    """Over samples, elements and times; and neighbours along each do not know each other."""
    source = NoiseSource(0, range(60))
    times = torch.logspace(-7, 7, 41, dtype=F64)
    path = torch.stack([source.brownian((50,), "p", float(t), dtype=F64) for t in times])
    z = path.diff(dim=0) / times.diff().sqrt()[:, None, None]
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3
    # by interval: 40 variances of 3000 draws, the sum of squares chi-square distributed
    sums = z.square().sum((1, 2)).numpy()
    assert float(stats.kstest(sums, stats.chi2(3000).cdf).pvalue) > 1e-3
    neighbours = {"times": (z[:-1], z[1:]), "samples": (z[:, :-1], z[:, 1:]), "elements": (z[..., :-1], z[..., 1:])}
    for name, (a, b) in neighbours.items():
        r = float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
        assert abs(r) < 4 / math.sqrt(a.numel()), name


@LAW
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40), st.integers(1, 3000), st.data())
def test_a_row_has_the_same_path_alone_and_in_any_batch(indices: list[int], size: int, data: st.DataObject) -> None:
    """To the bit, though small batches draw many nodes at once and large ones few."""
    times = torch.tensor([data.draw(st.floats(0, 100)) for _ in indices], dtype=F64)
    whole = NoiseSource(1, indices).brownian((size,), "p", times, dtype=F64)
    alone = NoiseSource(1, indices[-1:]).brownian((size,), "p", float(times[-1]), dtype=F64)
    assert torch.equal(whole[-1:], alone)


def test_paths_of_seeds_samples_and_purposes_differ() -> None:
    paths = [
        NoiseSource(seed, [index]).brownian((4,), purpose, 2.0)
        for seed in (0, 1)
        for index in (0, 1)
        for purpose in ("a", "b")
    ]
    values = torch.cat(paths).flatten()
    assert len(values.unique()) == len(values)


@pytest.mark.parametrize("time", [-1.0, math.inf, math.nan])
def test_impossible_times_are_refused(time: float) -> None:
    with pytest.raises(ValueError, match="times from 0 on"):
        NoiseSource(0, [0]).brownian((2,), "p", time)
    with pytest.raises(ValueError, match="times from 0 on"):
        NoiseSource(0, [0]).brownian((2,), "p", 1.0, time)


def test_a_wrapped_generator_has_no_path() -> None:
    with pytest.raises(ValueError, match=r"NoiseSource\(seed, indices\)"):
        NoiseSource.wrap(torch.Generator(), 3).brownian((2,), "p", 1.0)
