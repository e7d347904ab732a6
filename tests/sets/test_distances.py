"""The Fréchet distance and the kernel distance: closed forms, symmetries, other libraries, errors that are honest."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from scipy.stats import binomtest
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from unstir.sets import distances
from unstir.sets.distances import (
    discrepancy,
    extrapolated_frechet,
    frechet_distance,
    kernel_distance,
    moments,
)
from unstir.sets.resampling import halves

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, size=shape))


def covariance(dims: int, seed: int, rank: int | None = None) -> Tensor:
    a = normal(rank or 2 * dims, dims, seed=seed)
    return a.T @ a


def with_moments(n: int, mean: Tensor, cov: Tensor, seed: int = 0) -> Tensor:
    """Features whose own mean and covariance are these, exactly."""
    x = normal(n, len(mean), seed=seed)
    x = x - x.mean(0)
    whitened = torch.linalg.qr(x)[0] * math.sqrt(n - 1)
    return mean + whitened @ torch.linalg.cholesky(cov).T


def by_scipy(a: Tensor, b: Tensor) -> float:
    (m1, c1), (m2, c2) = ((x.mean(0), np.cov(x.T)) for x in (a.numpy(), b.numpy()))
    root = linalg.sqrtm(c1 @ c2)
    return float(((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(root)))


def rotation(dims: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(normal(dims, dims, seed=seed))[0]


# --- Fréchet ----------------------------------------------------------------------------------------------------------


def test_it_is_the_formula_with_scipys_root() -> None:
    m1, m2 = torch.arange(5).double(), torch.ones(5).double()
    c1, c2 = covariance(5, 0), covariance(5, 1)
    root = linalg.sqrtm(c1.numpy() @ c2.numpy())
    expected = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * np.trace(np.real(root))
    assert frechet_distance((m1, c1), (m2, c2)) == pytest.approx(expected, rel=1e-10)
    a, b = with_moments(40, m1, c1), with_moments(60, m2, c2, seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(a, (m2, c2)) == pytest.approx(expected, rel=1e-10)
    assert by_scipy(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dims", [1, 7, 64])
def test_trap_35_normal_features_of_known_moments_have_the_known_distance(dims: int) -> None:
    """Trap row 35, a distance wrong by orders: on axes it is ``sum (m1 - m2)² + (s1 - s2)²``, and 0 of a set to itself."""
    m1, m2 = normal(dims, seed=1), normal(dims, seed=2)
    s1, s2 = uniform(dims, seed=3) + 1.5, uniform(dims, seed=4) + 1.5
    a, b = with_moments(200, m1, s1.square().diag()), with_moments(300, m2, s2.square().diag(), seed=5)
    expected = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(a, a) < 1e-6
    # A scale c of features is c² of distance.
    assert frechet_distance(10 * a, 10 * b) == pytest.approx(100 * expected, rel=1e-10)


def test_moments_are_numpys() -> None:
    x = normal(30, 4)
    mean, found = moments(x)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0))
    np.testing.assert_allclose(found.numpy(), np.cov(x.numpy().T))


def test_moments_without_width_in_some_directions_are_at_no_distance_from_themselves() -> None:
    m, flat = torch.zeros(6, dtype=F64), covariance(6, 2, rank=3)
    assert frechet_distance((m, flat), (m, flat)) < 1e-12
    other = (m + 1, covariance(6, 3))
    assert frechet_distance((m, flat), other) == pytest.approx(frechet_distance(other, (m, flat)))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(n=st.integers(2, 12), m=st.integers(2, 12), dims=st.integers(1, 12), seed=st.integers(0, 1000))
def test_singular_covariances_are_the_limit_of_regular_ones(n: int, m: int, dims: int, seed: int) -> None:
    """Fewer samples than features: what scipy's root says of ``C + e I`` as e goes to 0, off by O(sqrt e) on each side."""
    a, b = normal(n, dims, seed=seed), 1 + 2 * normal(m, dims, seed=seed + 1)
    found, tiny = frechet_distance(a, b), 1e-12
    c1, c2 = (np.atleast_2d(np.cov(x.numpy().T)) + tiny * np.eye(dims) for x in (a, b))
    half = np.real(linalg.sqrtm(c1))
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(half @ c2 @ half), 0, None)).sum()
    limit = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(c1 + c2) - 2 * shared
    assert found == pytest.approx(limit, abs=1e-3)
    assert frechet_distance(a, a) < 1e-12
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(found, abs=1e-5)


def test_far_fewer_samples_than_features() -> None:
    """Sets in subspaces that share nothing: the covariances' traces add, and the roots have no part."""
    a, b = torch.zeros(20, 500, dtype=F64), torch.zeros(30, 500, dtype=F64)
    a[:, :250], b[:, 250:] = normal(20, 250), normal(30, 250, seed=1)
    expected = float((a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, a) < 1e-10
    assert frechet_distance(moments(a), moments(a)) < 1e-10
    # Of moments, rounding in the 481 directions without width must not be taken for width where the other set is wide.
    few, wide = normal(20, 500, seed=2), (torch.zeros(500, dtype=F64), torch.eye(500, dtype=F64))
    assert frechet_distance(moments(few), wide) == pytest.approx(frechet_distance(few, wide), abs=1e-8)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(n=st.integers(4, 30), m=st.integers(4, 30), dims=st.integers(1, 10), seed=st.integers(0, 1000))
def test_neither_distance_depends_on_order_axes_or_which_comes_first(n: int, m: int, dims: int, seed: int) -> None:
    a, b, turn = normal(n, dims, seed=seed), 0.5 + normal(m, dims, seed=seed + 1), rotation(dims, seed)
    changed = [
        (b, a),
        (a.flip(0), b[torch.randperm(m, generator=torch.Generator().manual_seed(0))]),
        (a @ turn, b @ turn),
    ]
    for x, y in changed:
        assert frechet_distance(x, y) == pytest.approx(frechet_distance(a, b), rel=1e-9, abs=1e-9)
        assert kernel_distance(x, y) == pytest.approx(kernel_distance(a, b), rel=1e-9, abs=1e-9)
    assert frechet_distance(a + 3, b + 3) == pytest.approx(frechet_distance(a, b), rel=1e-9, abs=1e-9)


def test_trap_34_few_samples_are_far_from_their_own_law() -> None:
    """Trap row 34, a distance from one batch: two halves of one law, and the fewer they are the further apart; the line
    through growing counts ends near the truth, which is 0."""
    law = normal(4000, 16)
    floors = [frechet_distance(*halves(law[:n])) for n in (50, 200, 800, 4000)]
    assert floors == sorted(floors, reverse=True)
    assert floors[0] > 40 * floors[-1] > 0
    assert floors[1] / floors[3] == pytest.approx(20, rel=0.35)  # as 1/N
    assert abs(extrapolated_frechet(law[:2000], law[2000:], both=True)) < floors[-1] / 4


# --- extrapolation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [False, True])
def test_the_line_takes_most_of_the_bias_away(both: bool) -> None:
    """The mean over 40 pairs of sets against the closed form, beside that of the distance itself."""
    dims, n, shift, scale = 8, 400, 0.05, 1.05
    truth = dims * (shift**2 + (scale - 1) ** 2)
    plain, ended = [], []
    for seed in range(40):
        b = shift + scale * normal(n, dims, seed=2 * seed)
        a = normal(n, dims, seed=2 * seed + 1) if both else (torch.zeros(dims, dtype=F64), torch.eye(dims, dtype=F64))
        plain.append(frechet_distance(a, b) - truth)
        ended.append(extrapolated_frechet(a, b, points=8, both=both, seed=seed) - truth)
    error = np.std(ended) / math.sqrt(40)
    assert np.mean(plain) > 6 * np.std(plain) / math.sqrt(40)
    assert abs(np.mean(ended)) < 3.3 * error
    assert abs(np.mean(ended)) < np.mean(plain) / 4


def test_a_distance_that_is_a_line_in_one_over_n_ends_where_the_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact: whatever parts are taken, 2 + 7/N gives 2; and the reference's part grows in proportion only when asked."""
    seen: list[tuple[int, int]] = []

    def rooted(of: Tensor) -> Tensor:
        return of

    def between(a: Tensor, b: Tensor) -> float:
        seen.append((len(a), len(b)))
        return 2 + 7 / len(b)

    monkeypatch.setattr(distances, "_rooted", rooted)
    monkeypatch.setattr(distances, "_between", between)
    a, b = normal(50, 3), normal(100, 3)
    assert extrapolated_frechet(a, b, points=5) == pytest.approx(2, rel=1e-9)
    assert seen == [(50, n) for n in (10, 32, 55, 78, 100)]
    seen.clear()
    assert extrapolated_frechet(a, b, points=3, smallest=20, both=True) == pytest.approx(2, rel=1e-9)
    assert seen == [(10, 20), (30, 60), (50, 100)]


# --- kernel -----------------------------------------------------------------------------------------------------------


def brute_force(a: Tensor, b: Tensor) -> float:
    """The double sums as they are written."""

    def k(x: list[float], y: list[float]) -> float:
        return (sum(p * q for p, q in zip(x, y)) / len(x) + 1) ** 3

    x, y = a.tolist(), b.tolist()
    within = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
        for s in (x, y)
    ]
    return sum(within) - 2 * sum(k(p, q) for p in x for q in y) / (len(x) * len(y))


@pytest.mark.parametrize(
    ("n", "m", "dims", "block"), [(4, 4, 1, 1 << 20), (13, 9, 5, 1 << 20), (13, 9, 5, 20), (9, 13, 3, 1)]
)
def test_it_is_the_double_sum_whatever_the_blocks(
    n: int, m: int, dims: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = 2 + normal(n, dims), 1 - normal(m, dims, seed=1)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(distances, "BLOCK", block)
    found = kernel_distance(a, b)
    assert found[0] == pytest.approx(brute_force(a, b), rel=1e-10)
    assert found == pytest.approx(whole, rel=1e-10)


def test_value_and_variance_have_no_bias_exactly() -> None:
    """Every set of 5 and of 4 draws of two laws on a few points, each with its probability: no sampling at all."""
    points = torch.tensor([[0.0, 0.0], [1.0, -0.5], [0.5, 2.0]], dtype=F64)
    p, q = ([0.3, 0.7, 0.0], [0.2, 0.3, 0.5])
    n, m = 5, 4
    kernel = (points @ points.T / 2 + 1) ** 3
    difference = torch.tensor(p, dtype=F64) - torch.tensor(q, dtype=F64)
    truth = float(difference @ kernel @ difference)
    weights, values, variances = [], [], []
    for i in itertools.combinations_with_replacement(range(2), n):  # the order changes nothing: count it instead
        for j in itertools.combinations_with_replacement(range(3), m):
            weight = 1.0
            for chosen, law in ((i, p), (j, q)):
                orders = math.factorial(len(chosen)) / math.prod(math.factorial(chosen.count(c)) for c in set(chosen))
                weight *= orders * math.prod(law[c] for c in chosen)
            value, slope, spread = discrepancy(points[list(i)], points[list(j)])
            assert spread >= 0
            weights.append(weight)
            values.append(value)
            variances.append(slope + spread)
    w, v = np.array(weights), np.array(values)
    assert w.sum() == pytest.approx(1)
    assert w @ v == pytest.approx(truth, rel=1e-12)
    assert w @ np.array(variances) == pytest.approx(w @ (v - truth) ** 2, rel=1e-10)


def test_the_mean_over_two_samples_of_one_law_is_zero_within_its_error() -> None:
    values = [kernel_distance(uniform(20, 6, seed=2 * i), uniform(15, 6, seed=2 * i + 1))[0] for i in range(800)]
    assert abs(np.mean(values)) < 3.3 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0  # what has no bias is sometimes below


def said_rate(hits: int, trials: int) -> None:
    """95 % within the binomial's own chance, one in a thousand."""
    assert binomtest(hits, trials, 0.95).pvalue > 1e-3, f"{hits} of {trials} intervals hold the truth"


def cube_of(dims: int, shift: float) -> float:
    """The exact distance of the uniform law on a cube from itself moved by shift along every axis: sums over moments.

    ``E (x·y/F + 1)³`` needs ``E s^p`` of ``s = x·y``, a sum of F independent products: from each product's own moments.
    """
    u = [1, 0, 1 / 3, 0]
    v = [1, shift, shift**2 + 1 / 3, shift**3 + shift]

    def mean_kernel(a: list[float], b: list[float]) -> float:
        m1, m2, m3 = (a[p] * b[p] for p in (1, 2, 3))
        s1 = dims * m1
        s2 = dims * m2 + dims * (dims - 1) * m1**2
        s3 = dims * m3 + 3 * dims * (dims - 1) * m2 * m1 + dims * (dims - 1) * (dims - 2) * m1**3
        return s3 / dims**3 + 3 * s2 / dims**2 + 3 * s1 / dims + 1

    return mean_kernel(u, u) + mean_kernel(v, v) - 2 * mean_kernel(u, v)


@pytest.mark.parametrize(("n", "m", "shift"), [(120, 120, 0.5), (80, 200, 0.3)])
def test_the_standard_error_holds_the_truth_at_its_rate(n: int, m: int, shift: float) -> None:
    truth = cube_of(8, shift)
    found = [kernel_distance(uniform(n, 8, seed=2 * i), shift + uniform(m, 8, seed=2 * i + 1)) for i in range(500)]
    said_rate(sum(abs(value - truth) <= 1.96 * error for value, error in found), len(found))


def test_between_equal_laws_the_error_is_no_smaller_than_the_truth_and_not_much_larger() -> None:
    found = np.array([kernel_distance(uniform(60, 8, seed=2 * i), uniform(60, 8, seed=2 * i + 1)) for i in range(500)])
    held = int((np.abs(found[:, 0]) <= 1.96 * found[:, 1]).sum())
    assert binomtest(held, 500, 0.95, alternative="less").pvalue > 1e-3, held
    assert 0.9 < math.sqrt((found[:, 1] ** 2).mean()) / found[:, 0].std() < 1.5


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_disjoint_subsets_hold_the_truth_at_their_rate(shift: float) -> None:
    """With Student's t of as many values as there are subsets."""
    truth, t = cube_of(8, shift), 2.2622  # 97.5 % of 9 degrees of freedom
    found = [
        kernel_distance(uniform(200, 8, seed=2 * i), shift + uniform(210, 8, seed=2 * i + 1), size=20, seed=i)
        for i in range(150)
    ]
    said_rate(sum(abs(value - truth) <= t * error for value, error in found), len(found))


def test_subsets_share_no_sample_and_depend_on_the_seed_alone() -> None:
    a, b = uniform(24, 4), 0.5 + uniform(30, 4, seed=1)
    assert kernel_distance(a, b, subsets=6) == kernel_distance(a, b, size=4) == kernel_distance(a, b, subsets=6, size=4)
    assert kernel_distance(a, b, subsets=6, seed=1) != kernel_distance(a, b, subsets=6)
    ones = torch.ones(24, 4, dtype=F64)
    assert kernel_distance(ones, ones, subsets=12) == (0, 0)
    for wrong in (
        {"subsets": 100, "size": 1000},
        {"subsets": 1},
        {"size": 1},
        {"size": 13},
        {"subsets": 0},
        {"size": 0},
    ):
        with pytest.raises(ValueError, match="disjoint"):
            kernel_distance(a, b, **wrong)


# --- another library --------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """The features are the input."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.num_features = dims

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(("n", "m", "dims"), [(100, 100, 5), (300, 200, 32), (60, 60, 48)])
def test_torchmetrics_says_the_same_of_the_same_features(n: int, m: int, dims: int) -> None:
    a, b = normal(n, dims), 0.2 + 1.3 * normal(m, dims, seed=1) @ rotation(dims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps all features
        kernel = KernelInceptionDistance(feature=Given(dims), subsets=1, subset_size=min(n, m)).set_dtype(F64)
        frechet = FrechetInceptionDistance(feature=Given(dims)).set_dtype(F64)
    for metric in (kernel, frechet):
        metric.update(a, real=True)
        metric.update(b, real=False)
    assert frechet_distance(a, b) == pytest.approx(float(frechet.compute()), rel=1e-6, abs=1e-6)
    if n == m:  # it takes as many of each
        assert kernel_distance(a, b)[0] == pytest.approx(float(kernel.compute()[0]), rel=1e-6, abs=1e-6)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_cannot_be_measured_is_refused_with_a_sentence() -> None:
    a = normal(10, 3)
    for call, words in [
        (lambda: frechet_distance(a, normal(10, 4)), "one extractor"),
        (lambda: kernel_distance(a, normal(10, 4)), "one extractor"),
        (lambda: frechet_distance(a[:1], a), "at least 2"),
        (lambda: kernel_distance(a[:3], a), "at least 4"),
        (lambda: frechet_distance(a[0], a), r"\(N, F\)"),
        (lambda: frechet_distance(a.log(), a), "not finite"),
        (lambda: frechet_distance(a, (a[0], a.log()[:3])), "not finite"),
        (lambda: frechet_distance(a, (a[0], torch.eye(4))), "covariance of as many"),
        (lambda: frechet_distance(a, (a[0], -torch.eye(3))), "negative"),
        (lambda: extrapolated_frechet(a, a, points=2), "three points"),
        (lambda: extrapolated_frechet(a, a, smallest=10), "from at least 2"),
        (lambda: extrapolated_frechet(moments(a), a, both=True), "no parts"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_single_precision_and_whole_numbers_are_measured_in_double() -> None:
    a, b = (1000 * normal(20, 3)).round(), (1000 * normal(30, 3, seed=1)).round()
    assert frechet_distance(a.float(), b.int()) == frechet_distance(a, b)
    assert kernel_distance(a.float(), b.int()) == kernel_distance(a, b)
