"""The normal law that suits data: against its dense formula, draws, exact masses of bins, and the law of the data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from unstir.denoisers.oracles import GaussianMixtureDenoiser
from unstir.evaluation.gaussian_fit import GaussianFit, Spectrum
from unstir.processes import Gaussian
from unstir.schedules import LinearBeta


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def skewed(n: int, dims: int, seed: int = 0) -> Tensor:
    return normal(n, dims, seed=seed) @ normal(dims, dims, seed=99) + 3


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    n=st.integers(3, 30),
    dims=st.integers(1, 20),
    seed=st.integers(0, 99),
    rank=st.integers(0, 19),
    width=st.sampled_from([0.0, 0.5]),
)
def test_it_is_the_dense_formula_with_fewer_items_or_fewer_dimensions(
    n: int, dims: int, seed: int, rank: int, width: float
) -> None:
    """The covariance with divisor N, its bins' variance added, all but the leading variances replaced by their mean."""
    rank = min(rank, dims - 1, n - 2)
    x, other = skewed(n, dims, seed), skewed(7, dims, seed + 1)
    fit = GaussianFit.of(x, rank, width)
    covariance = torch.cov(x.T, correction=0).reshape(dims, dims) + width**2 / 12 * torch.eye(dims, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    values[: dims - rank] = values[: dims - rank].mean()
    covariance = vectors @ torch.diag(values) @ vectors.T
    law = torch.distributions.MultivariateNormal(x.mean(0), covariance)
    spread = float(torch.linalg.inv(covariance).trace()) * width**2 / 24
    assert fit.nats(other).numpy() == pytest.approx((spread - law.log_prob(other)).numpy(), rel=1e-6)


def test_of_full_rank_it_is_the_covariance() -> None:
    """scipy's normal law of the sample's own mean and covariance, of which N is far above D."""
    x = skewed(2000, 5)
    law = stats.multivariate_normal(x.mean(0).numpy(), np.cov(x.T.numpy(), ddof=0))
    assert GaussianFit.of(x, 4).nats(x[:50]).numpy() == pytest.approx(-law.logpdf(x[:50].numpy()), rel=1e-9)
    assert GaussianFit.chosen(x).rank == 4  # type: ignore[union-attr]


def test_the_spread_over_bins_is_what_draws_give() -> None:
    x, width = skewed(200, 6), 1.5
    fit = GaussianFit.of(x, 3, width)
    u = torch.from_numpy(np.random.default_rng(1).uniform(-width / 2, width / 2, (200_000, 6)))
    density = GaussianFit(fit.middle, fit.axes, fit.leading, fit.rest)
    drawn = density.nats(x[0] + u)
    error = float(drawn.std()) / math.sqrt(len(u))
    assert float(fit.nats(x[:1])) == pytest.approx(float(drawn.mean()), abs=4 * error)
    assert abs(float(fit.nats(x[:1]) - density.nats(x[:1]))) > 20 * error  # which the mere density is not


@pytest.mark.parametrize("width", [0.1, 1.0, 4.0])
def test_it_is_above_what_the_mass_of_a_bin_costs(width: float) -> None:
    """In one dimension the mass is a difference of two values of Φ."""
    x = normal(500, 1)
    fit = GaussianFit.of(x, 0, width)
    at = torch.linspace(-3, 3, 41, dtype=torch.float64)[:, None]
    middle, sd = float(fit.middle), math.sqrt(fit.rest)
    z = (at[:, 0].numpy() - middle) / sd
    mass = stats.norm.cdf(z + width / 2 / sd) - stats.norm.cdf(z - width / 2 / sd)
    above = fit.nats(at).numpy() - math.log(width) + np.log(mass)
    assert (above > -1e-12).all()
    if width < 0.5:  # half the variance that u brings into the exponent, z u / sd
        assert above == pytest.approx(z**2 * width**2 / 24 / sd**2, rel=0.03, abs=1e-5)


@pytest.mark.parametrize(("n", "dims"), [(40, 12), (15, 30)])
@pytest.mark.parametrize("width", [0.0, 0.3])
def test_the_rank_is_the_one_that_suits_every_tenth_item_best(n: int, dims: int, width: float) -> None:
    x = skewed(n, dims) * torch.linspace(0.1, 2, dims)
    checked = torch.arange(n) % (10 if n > 20 else 2) == 0
    most = min(dims - 1, int((~checked).sum()) - 1)
    ranks = [r for r in range(most + 1) if width or GaussianFit.of(x[~checked], r).rest > 1e-9]
    scores = [float(GaussianFit.of(x[~checked], r, width).nats(x[checked]).mean()) for r in ranks]
    assert GaussianFit.chosen(x, width).rank == ranks[int(np.argmin(scores))]  # type: ignore[union-attr]


@pytest.mark.parametrize(("n", "dims"), [(40, 12), (15, 30)])
def test_the_scores_of_all_ranks_at_once_are_those_of_each(n: int, dims: int) -> None:
    x, other = skewed(n, dims), skewed(9, dims, 5)
    scores = Spectrum(x, 2.0).nats(other)
    assert len(scores) >= min(n, dims) - 1
    for rank, score in enumerate(scores.tolist()):
        assert score == pytest.approx(float(GaussianFit.of(x, rank, 2.0).nats(other).mean()), rel=1e-9)


def test_a_few_factors_and_noise_are_found_to_be_that() -> None:
    """Three axes of 5, the rest of 0.1, from fewer items than dimensions: the entropy of the law comes out, up to what is learned."""
    dims, draws = 400, np.random.default_rng(0)
    axes = np.linalg.qr(draws.normal(size=(dims, 3)))[0]
    x = torch.from_numpy(5 * draws.normal(size=(700, 3)) @ axes.T + 0.1 * draws.normal(size=(700, dims)))
    fit = GaussianFit.chosen(x[:300])
    assert fit is not None
    assert fit.rank == 3
    law = math.log(2 * math.pi * math.e) / 2 * dims + 3 * math.log(25.01) / 2 + (dims - 3) * math.log(0.01) / 2
    # Each of about 4 D learned numbers (three axes and the mean) costs half a nat over N.
    assert float(fit.nats(x[300:]).mean()) - law == pytest.approx(4 * dims / 600, abs=1.5)


def test_what_has_no_width_has_no_density_unless_it_has_levels() -> None:
    assert GaussianFit.chosen(torch.ones(30, 4)) is None
    assert GaussianFit.chosen(normal(3, 4)) is None
    fit = GaussianFit.chosen(torch.ones(30, 4), 0.5)
    assert fit is not None
    # A normal law of the uniform's variance in place of the uniform law of 4 coordinates.
    assert float(fit.nats(torch.ones(1, 4))) == pytest.approx(4 * math.log(2 * math.pi * math.e / 48) / 2)
    line = GaussianFit.chosen(normal(50, 1) @ torch.ones(1, 3, dtype=torch.float64))
    assert line is not None
    assert line.rest > 1e-3  # a line in space is no density, and a ball around it is


@pytest.mark.parametrize("rank", [0, 2, 4])
def test_what_a_fit_says_of_noised_items_is_the_exact_denoiser_s_answer(rank: int) -> None:
    fit = GaussianFit.of(skewed(50, 5), rank, bin_width=0.1)
    projector = fit.axes @ fit.axes.T
    covariance = fit.axes @ torch.diag(fit.leading) @ fit.axes.T + fit.rest * (
        torch.eye(5, dtype=torch.float64) - projector
    )
    process = Gaussian(LinearBeta())
    exact = GaussianMixtureDenoiser(process, torch.ones(1), fit.middle[None], covariance[None])
    x_t = normal(7, 5, seed=1)
    for t in (1, 300, 1000):
        alpha, sigma = float(process.schedule.alpha(t)), float(process.schedule.sigma(t))
        torch.testing.assert_close(fit.denoised(x_t, alpha, sigma), exact.predict(x_t, t).x0, rtol=1e-9, atol=1e-9)


def test_the_share_that_stays_unknown_is_the_denoiser_s_mean_error() -> None:
    """On draws of the law itself, within five standard errors; and it rises from 0 to 1."""
    fit = GaussianFit.of(skewed(50, 5), 2)
    free = torch.linalg.qr(torch.cat([fit.axes, normal(5, 3)], 1))[0][:, 2:]
    along = normal(20_000, 5, seed=2) * torch.cat([fit.leading, torch.full((3,), fit.rest, dtype=torch.float64)]).sqrt()
    x0 = fit.middle + along @ torch.cat([fit.axes, free], 1).T
    for ratio in (0.3, 1.0, 5.0):
        x_t = x0 + ratio * normal(20_000, 5, seed=3)
        errors = (fit.denoised(x_t, 1.0, ratio) - x0).square().sum(1) / fit.variance
        assert float(errors.mean()) == pytest.approx(fit.unknown(ratio), abs=5 * float(errors.std()) / 20_000**0.5)
    shares = [fit.unknown(ratio) for ratio in (1e-4, 0.1, 1.0, 10.0, 1e4)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-4))
