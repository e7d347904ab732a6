from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.gaussian import coefficients
from unstir.distributions import Normal
from unstir.processes import Gaussian
from unstir.schedules import FromBetas, InverseTime, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=80)
F64 = torch.float64
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


@st.composite
def chains(draw: st.DrawFn) -> tuple[Schedule, float, float, float]:
    """Any schedule and any real s < u < t with a little room between them."""
    betas = draw(st.lists(st.floats(1e-4, 0.9), min_size=1, max_size=12))
    schedule = draw(st.sampled_from([FromBetas(torch.tensor(betas, dtype=F64)), *SCHEDULES.values()]))
    places = st.floats(0, 1)
    s, u, t = sorted((draw(places), draw(places), draw(places)))
    s, u, t = 0.9 * s, 0.9 * u + 0.05, 0.9 * t + 0.1
    return schedule, s * schedule.T, u * schedule.T, t * schedule.T


def _push(first: Normal, a: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
    """The law of a x + noise for x of ``first``."""
    return a * first.mean, a**2 * first.variance + added


@LAW
@given(chains())
def test_kernels_compose_to_the_marginal(chain: tuple[Schedule, float, float, float]) -> None:
    """q(x_t|x_s) after q(x_s|x0) is q(x_t|x0), and q(x_t|x_u) after q(x_u|x_s) is q(x_t|x_s), to 1e-12."""
    schedule, s, u, t = chain
    process, x = Gaussian(schedule), torch.tensor([[1.0], [-2.5]], dtype=F64)
    unit = torch.ones(1, 1, dtype=F64)
    for low, first in ((0.0, process.marginal(x, u)), (s, process.step(x, s, u))):
        step = process.step(unit, u, t)  # its mean is the factor a
        mean, variance = _push(first, step.mean, step.variance)
        direct = process.marginal(x, t) if low == 0 else process.step(x, s, t)
        torch.testing.assert_close(mean, direct.mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance.expand_as(mean), direct.variance.expand_as(mean), rtol=1e-12, atol=1e-12)


@every
def test_all_single_steps_compose_to_the_marginal(schedule: Schedule) -> None:
    process = Gaussian(schedule)
    mean, variance = torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64)
    for t in range(1, schedule.T + 1):
        step = process.step(torch.ones(1, 1, dtype=F64), t - 1, t)
        mean, variance = step.mean * mean, step.mean**2 * variance + step.variance
        marginal = process.marginal(torch.ones(1, 1, dtype=F64), t)
        torch.testing.assert_close(mean, marginal.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(variance, marginal.variance, rtol=1e-12, atol=1e-12)


@every
def test_a_single_step_is_the_chains(schedule: Schedule) -> None:
    """s = t - 1 gives N(sqrt(1 - beta_t) x, beta_t) [HO20 eq. 2]."""
    process, t = Gaussian(schedule), torch.arange(1, schedule.T + 1)
    step = process.step(torch.ones(schedule.T, 1, dtype=F64), t - 1, t)
    torch.testing.assert_close(step.variance[:, 0], schedule.betas, rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(step.mean[:, 0], (1 - schedule.betas).sqrt(), rtol=1e-12, atol=1e-15)


@every
def test_the_chains_posterior_is_the_papers(schedule: Schedule) -> None:
    """mu-tilde and beta-tilde [HO20 eqs. 6, 7], written with beta_t and the table alone."""
    process, t = Gaussian(schedule), torch.arange(1, schedule.T + 1)
    ab, before, beta = schedule.alpha_bar[1:], schedule.alpha_bar[:-1], schedule.betas
    x_t, x0 = torch.randn(2, schedule.T, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    posterior = process.posterior(x_t, x0, t - 1, t)
    mean = before.sqrt() * beta / (1 - ab) * x0[:, 0] + (1 - beta).sqrt() * (1 - before) / (1 - ab) * x_t[:, 0]
    torch.testing.assert_close(posterior.mean[:, 0], mean, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(posterior.variance[:, 0], (1 - before) / (1 - ab) * beta, rtol=1e-9, atol=1e-15)


@LAW
@given(chains(), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_bayes_holds_pointwise(chain: tuple[Schedule, float, float, float], x0: float, x_s: float, x_t: float) -> None:
    """log q(x_t|x_s) + log q(x_s|x0) == log q(x_s|x_t,x0) + log q(x_t|x0), the chain being Markov."""
    schedule, _, s, t = chain
    process = Gaussian(schedule)
    a, b, c = (torch.tensor([[value]], dtype=F64) for value in (x0, x_s, x_t))
    forward = process.step(b, s, t).log_prob(c) + process.marginal(a, s).log_prob(b)
    backward = process.posterior(c, a, s, t).log_prob(b) + process.marginal(a, t).log_prob(c)
    torch.testing.assert_close(forward, backward, rtol=1e-9, atol=1e-9)


@every
def test_bayes_holds_at_the_chains_own_steps(schedule: Schedule) -> None:
    process, t = Gaussian(schedule), torch.arange(2, schedule.T + 1)
    x0, x_s, x_t = torch.randn(3, schedule.T - 1, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    x_s = process.marginal(x0, t - 1).sample(x_s)  # where the chain goes, not in a tail of 1e4 sigmas
    x_t = process.step(x_s, t - 1, t).sample(x_t)
    forward = process.step(x_s, t - 1, t).log_prob(x_t) + process.marginal(x0, t - 1).log_prob(x_s)
    backward = process.posterior(x_t, x0, t - 1, t).log_prob(x_s) + process.marginal(x0, t).log_prob(x_t)
    torch.testing.assert_close(forward, backward, rtol=1e-8, atol=1e-8)


@every
def test_posterior_at_zero_is_a_point_at_x0(schedule: Schedule) -> None:
    process, t = Gaussian(schedule), torch.linspace(1e-3, schedule.T, 9, dtype=F64)
    x_t, x0 = torch.randn(2, 9, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    posterior = process.posterior(x_t, x0, 0, t)
    torch.testing.assert_close(posterior.mean, x0, rtol=1e-15, atol=0)
    assert not posterior.variance.any()


@every
def test_marginal_at_zero_is_a_point_at_x0(schedule: Schedule) -> None:
    x0 = torch.tensor([[0.25]], dtype=F64)
    marginal = Gaussian(schedule).marginal(x0, 0)
    assert torch.equal(marginal.mean, x0)
    assert not marginal.variance.any()


@LAW
@given(chains(), st.floats(-2, 2), st.floats(0, 9))
def test_posterior_averages_over_a_distribution_of_x0(
    chain: tuple[Schedule, float, float, float], m: float, v: float
) -> None:
    """Law of total mean and variance; x0 of variance 0 is x0 itself."""
    schedule, _, s, t = chain
    process = Gaussian(schedule)
    x_t = torch.tensor([[0.4]], dtype=F64)
    zero, one = (process.posterior(x_t, torch.tensor([[value]], dtype=F64), s, t) for value in (0.0, 1.0))
    slope = one.mean - zero.mean
    averaged = process.posterior(x_t, Normal(torch.tensor([[m]], dtype=F64), torch.tensor([[v]], dtype=F64)), s, t)
    torch.testing.assert_close(averaged.mean, zero.mean + slope * m, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(averaged.variance, zero.variance + slope**2 * v, rtol=1e-9, atol=1e-12)


def test_posterior_marginalised_over_the_true_x0_is_the_reverse_of_gaussian_data() -> None:
    """For x0 ~ N(m, v) the pair (x_s, x_t) is jointly normal: condition it directly."""
    process, m, v, s, t = Gaussian(LinearBeta()), 0.4, 0.0625, 200.0, 350.5
    x_t = torch.tensor([[0.9]], dtype=F64)
    alpha_s, alpha_t = (float(process.schedule.alpha(u)) for u in (s, t))
    var_s, var_t = (a**2 * v + 1 - a**2 for a in (alpha_s, alpha_t))
    cov = alpha_t / alpha_s * var_s
    mean = alpha_s * m + cov / var_t * (0.9 - alpha_t * m)
    k1 = alpha_t * v / var_t
    x0 = Normal(m + k1 * (x_t - alpha_t * m), torch.tensor([[v - k1**2 * var_t]], dtype=F64))
    reverse = process.posterior(x_t, x0, s, t)
    assert float(reverse.mean) == pytest.approx(mean, rel=1e-12)
    assert float(reverse.variance) == pytest.approx(var_s - cov**2 / var_t, rel=1e-12)


@LAW
@given(chains())
def test_variances_are_the_posteriors_and_the_steps(chain: tuple[Schedule, float, float, float]) -> None:
    schedule, _, s, t = chain
    curve = Curve(schedule)
    like = torch.zeros(2, 3, 4, 4)
    small, large = Gaussian(schedule).variances(s, t, like)
    assert small.dtype == large.dtype == F64
    assert (small * large * like.double()).shape == like.shape
    expected = coefficients(curve(t), curve(s))
    torch.testing.assert_close(small.flatten()[0], torch.tensor(expected[2], dtype=F64), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(large.flatten()[0], torch.tensor(expected[3], dtype=F64), rtol=1e-9, atol=1e-13)
    assert bool((small <= large).all())


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_neighbouring_times_keep_the_steps_variance(gap: float) -> None:
    """s2 = 1 - alpha_bar_t/alpha_bar_s for times however close: right to rounding of sigma², and never negative."""
    schedule = LinearBeta()
    t = torch.linspace(0.5, 1000, 500, dtype=F64)
    small, large = Gaussian(schedule).variances(t - gap, t, torch.zeros(500, 1))
    exact = -torch.expm1(schedule.log_alpha_bar(t) - schedule.log_alpha_bar(t - gap))
    torch.testing.assert_close(large[:, 0], exact, rtol=0, atol=1e-15)
    assert bool((large >= 0).all())
    assert bool((small >= 0).all())


@every
def test_every_kernel_is_finite_at_every_pair_of_times(schedule: Schedule) -> None:
    """Also where the chain ends at alpha_bar_T = 0."""
    process = Gaussian(schedule)
    marks = torch.linspace(0, schedule.T, 41, dtype=F64)
    i, j = torch.tril_indices(41, 41, -1)
    t, s = marks[i], marks[j]
    x = torch.randn(len(t), 2, generator=torch.Generator().manual_seed(3))
    for law in (process.step(x, s, t), process.marginal(x, t), process.posterior(x, x, s, t)):
        assert bool(torch.isfinite(law.mean).all())
        assert bool(torch.isfinite(law.variance).all())
        assert bool((law.variance >= 0).all())
        assert law.mean.dtype == torch.float32


def test_zero_terminal_signal_makes_the_last_step_forget_everything() -> None:
    process, x = Gaussian(InverseTime(10)), torch.tensor([[5.0]], dtype=F64)
    last = process.step(x, 9, 10)
    assert float(last.mean) == 0
    assert float(last.variance) == 1
    posterior = process.posterior(torch.tensor([[9.0]], dtype=F64), x, 9, 10)
    marginal = process.marginal(x, 9)
    torch.testing.assert_close(posterior.mean, marginal.mean)
    torch.testing.assert_close(posterior.variance, marginal.variance)


def test_times_are_numbers_or_one_for_each_row() -> None:
    process = Gaussian(LinearBeta())
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    s, t = torch.tensor([10, 20, 30]), torch.tensor([11, 500, 30.5], dtype=F64)
    together = process.posterior(x, x, s, t)
    for i in range(3):
        alone = process.posterior(x[i : i + 1], x[i : i + 1], int(s[i]), float(t[i]))
        assert torch.equal(alone.mean, together.mean[i : i + 1])
        assert torch.equal(alone.variance, together.variance[i : i + 1])


def test_coefficients_are_combined_in_float64() -> None:
    """A float32 x is scaled by the float64 coefficient rounded once."""
    process = Gaussian(LinearBeta())
    x = torch.ones(1, 1)
    expected = (process.schedule.alpha(700) / process.schedule.alpha(650)).float()
    assert torch.equal(process.step(x, 650, 700).mean[0, 0], expected)
    assert process.step(x, 650, 700).variance.dtype == F64


def test_prior_is_standard_normal_of_any_shape() -> None:
    prior = Gaussian(LinearBeta()).prior((2, 3, 4), dtype=F64)
    assert prior.mean.shape == (2, 3, 4)
    assert prior.mean.dtype == F64
    x = torch.randn(2, 3, 4, dtype=F64, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(prior.log_prob(x), torch.distributions.Normal(0, 1).log_prob(x).double())


def test_no_call_edits_its_inputs() -> None:
    process = Gaussian(InverseTime(20))
    x, x0, s, t = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 2, 3]), torch.tensor([4, 5, 6, 20])
    kept = [tensor.clone() for tensor in (x, x0, s, t)]
    process.step(x, s, t)
    process.marginal(x0, t)
    process.posterior(x, x0, s, t)
    process.posterior(x, Normal(x0, torch.ones_like(x0)), s, t)
    process.variances(s, t, x)
    for before, after in zip(kept, (x, x0, s, t)):
        assert torch.equal(before, after)
