"""The second half of the derivation, from a step's loss to the flow without noise, held to its laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles import gaussian as closed
from tests.oracles.curves import SCHEDULES
from tests.oracles.denoisers import Constant, gaussian_denoiser
from unstir import derivation
from unstir.bound import entropy_bounds, rate_distortion, step_nats, variational_bound
from unstir.denoisers import Denoiser, GaussianMixtureDenoiser
from unstir.denoisers.analytic import analytic_variance, score_error
from unstir.denoisers.variance import rule
from unstir.distributions import Bernoulli, Normal
from unstir.noise import TwoPoint
from unstir.processes import Binomial, Gaussian
from unstir.schedules import FromBetas, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=40)
F64 = torch.float64
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def _t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def _chain(*betas: float) -> Gaussian:
    return Gaussian(FromBetas(_t(*betas)))


M, V = 0.4, 0.3


def _mixture(process: Gaussian) -> GaussianMixtureDenoiser:
    covariances = _t(0.09, 0.25).reshape(2, 1, 1)
    return GaussianMixtureDenoiser(process, _t(0.3, 0.7), _t(-1.0, 0.6).reshape(2, 1), covariances)


# --- the road to the simple loss --------------------------------------------------------------------------------------


PAIRS = (_t(1, 1, 99, 300, 500, 999), _t(2, 7, 100, 700, 501, 1000))


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_step_costs_the_same_in_mean_x0_and_eps(name: str) -> None:
    """The KL of a step is its part of the variance plus a weight times an error, whichever error is taken."""
    process, (s, t) = Gaussian(LinearBeta()), PAIRS
    x0, guess, eps = torch.randn(3, len(t), 4, dtype=F64, generator=torch.Generator().manual_seed(2))
    x_t = process.marginal(x0, t).sample(eps)
    small, large = process.variances(s, t, x_t)
    variance = {"small": small, "large": large}[name]
    posterior, off = process.posterior(x_t, x0, s, t), process.posterior(x_t, guess, s, t)
    from_variance = 4 * derivation.wrong_variance_nats(small / variance).squeeze(1)

    prediction = Constant(process, guess, name).predict(x_t, t)
    whole = step_nats(prediction, x0, s)
    in_mean = (posterior.mean - off.mean).square().sum(1) / (2 * variance.squeeze(1))
    torch.testing.assert_close(whole, from_variance + in_mean, rtol=1e-8, atol=1e-10)
    in_x0 = derivation.x0_weight(process, s, t, variance.squeeze(1)) * (x0 - guess).square().sum(1)
    torch.testing.assert_close(in_mean, in_x0, rtol=1e-8, atol=1e-10)
    alpha, sigma = process.schedule.alpha(t)[:, None], process.schedule.sigma(t)[:, None]
    eps_guess = (x_t - alpha * guess) / sigma
    in_eps = derivation.eps_weight(process, s, t, variance.squeeze(1)) * (eps - eps_guess).square().sum(1)
    torch.testing.assert_close(in_mean, in_eps, rtol=1e-7, atol=1e-9)


@every
def test_the_weights_are_the_papers(schedule: Schedule) -> None:
    """With betas: alpha_bar_{t-1} beta² / (2 Sigma (1 - alpha_bar)²) and beta² / (2 Sigma (1 - beta)(1 - alpha_bar))."""
    process, t = Gaussian(schedule), torch.arange(2, schedule.T, dtype=F64)
    beta, ab, before = schedule.betas[1:-1], schedule.alpha_bar[2:-1], schedule.alpha_bar[1:-2]
    variance = torch.full_like(t, 0.37)
    torch.testing.assert_close(
        derivation.x0_weight(process, t - 1, t, variance),
        before * beta**2 / (2 * variance * (1 - ab) ** 2),
        rtol=1e-9,
        atol=0,
    )
    torch.testing.assert_close(
        derivation.eps_weight(process, t - 1, t, variance),
        beta**2 / (2 * variance * (1 - beta) * (1 - ab)),
        rtol=1e-9,
        atol=0,
    )


def test_the_weight_of_x0_is_half_the_fall_of_snr() -> None:
    for schedule in SCHEDULES.values():
        process, t = Gaussian(schedule), torch.linspace(1.5, schedule.T, 30, dtype=F64)
        for s in (t - 0.5, t / 2, torch.full_like(t, 0.25)):
            small = process.variances(s, t, t)[0]
            expected = derivation.x0_weight(process, s, t, small)
            torch.testing.assert_close(derivation.snr_weight(schedule, s, t), expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("t", [1.0, 3.0, 4.0])
@pytest.mark.parametrize("delta", [torch.ones_like, torch.sin, lambda x: 0.3 * x**2 - x], ids=["one", "sine", "curve"])
def test_any_other_prediction_costs_its_square_distance_from_the_mean(
    t: float, delta: Callable[[Tensor], Tensor]
) -> None:
    """E|x0 - f|² = E|x0 - E[x0|x_t]|² + E|delta|² for f = E[x0|x_t] + delta(x_t), on a grid of both; data in two lumps."""
    process = _chain(0.05, 0.1, 0.2, 0.3)
    exact = _mixture(process)
    x0, x_t = torch.linspace(-5, 5, 601, dtype=F64)[:, None], torch.linspace(-8, 8, 801, dtype=F64)[:, None]
    log_joint = exact.log_prob(x0, 0)[:, None] + process.marginal(x0, t).log_prob(x_t.T.expand(len(x0), -1))
    weights = log_joint.exp() / log_joint.exp().sum()

    def mean_square(error: Tensor) -> float:
        return float((weights * error**2).sum())

    best, off = exact.predict(x_t, t).x0, delta(x_t)
    extra = mean_square(off.T)
    assert extra > 0.05
    assert mean_square(x0 - (best + off).T) == pytest.approx(mean_square(x0 - best.T) + extra, rel=1e-9)


@every
def test_the_mean_written_with_eps_is_the_posteriors(schedule: Schedule) -> None:
    """Also as the paper writes it, with betas."""
    process, t = Gaussian(schedule), torch.arange(2, schedule.T)
    x0, eps = torch.randn(2, len(t), 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    x_t = process.marginal(x0, t).sample(eps)
    mean = derivation.mean_from_eps(process, x_t, eps, t - 1, t)
    torch.testing.assert_close(mean, process.posterior(x_t, x0, t - 1, t).mean, rtol=1e-8, atol=1e-8)
    beta, ab = schedule.betas[1:-1, None], schedule.alpha_bar[2:-1, None]
    torch.testing.assert_close(mean, (x_t - beta / (1 - ab).sqrt() * eps) / (1 - beta).sqrt(), rtol=1e-8, atol=1e-8)


# --- the variance -----------------------------------------------------------------------------------------------------


@LAW
@given(st.floats(0.05, 20), st.floats(0.05, 5))
def test_a_wrong_variance_costs_half_of_r_minus_one_minus_log_r(ratio: float, variance: float) -> None:
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(
        normal(_t(0.3), _t(ratio * variance).sqrt()), normal(_t(0.3), _t(variance).sqrt())
    )
    torch.testing.assert_close(derivation.wrong_variance_nats(_t(ratio)), divergence, rtol=1e-9, atol=1e-12)


@LAW
@given(st.floats(-8, 8), st.floats(0.01, 0.95), st.floats(0.01, 0.95))
def test_a_free_variance_is_a_sigmoid_around_the_steps(z: float, first: float, second: float) -> None:
    """logit(variance) = z + logit(beta_t): z = 0 gives the step's, and whatever z is, it stays between 0 and 1."""
    process, x = _chain(first, second), torch.zeros(1, 1, dtype=F64)
    variance = rule("free", process, x, torch.full_like(x, z))(_t(1.0), _t(2.0))
    assert 0 < float(variance) < 1
    assert float(torch.logit(variance)) == pytest.approx(z + math.log(second / (1 - second)), rel=1e-9, abs=1e-9)
    assert float(rule("free", process, x, x)(_t(1.0), _t(2.0))) == pytest.approx(second, rel=1e-12)


def test_a_gated_mean_shares_the_free_variance() -> None:
    """mu = (x - z)(1 - Sigma) + z, in the reverse step that the denoiser makes, for any z and any spread."""
    process, t = Gaussian(LinearBeta.rescaled(20)), _t(2, 7, 20)
    x, z, spread = torch.randn(3, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(5))

    class Says(torch.nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
            return torch.cat([z, spread], 1)

    step = Denoiser(Says(), process, "gated_mean", "free").predict(x, t).reverse(t - 1)
    variance = torch.sigmoid(spread + torch.logit(process.schedule.betas[t.long() - 1])[:, None])
    torch.testing.assert_close(step.variance, variance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.mean, (x - z) * (1 - variance) + z, rtol=1e-8, atol=1e-8)


def test_small_loses_half_eulers_constant() -> None:
    """The sum over t = 2 … n of the cost of t/(t-1) tends to gamma/2, with 1/(4n) still to come."""
    n = 100_000
    t = torch.arange(2, n + 1, dtype=F64)
    total = float(derivation.wrong_variance_nats(t / (t - 1)).sum())
    assert total + 1 / (4 * n) == pytest.approx(closed.EULER_GAMMA / 2, abs=1e-9)


@pytest.mark.parametrize(("s", "t"), [(0.0, 2.0), (1.0, 2.0), (0.5, 4.0)])
def test_of_all_gaussians_the_one_with_the_true_moments_is_best(s: float, t: float) -> None:
    """KL(q(x_s | x_t) ‖ N) on a grid, data in two lumps: another mean or variance adds what it costs between two Gaussians."""
    process, x_t = _chain(0.05, 0.1, 0.2, 0.3), _t(0.1)[:, None]
    exact, x = _mixture(process), torch.linspace(-6, 6, 24_001, dtype=F64)[:, None]

    def log_weights(time: float) -> Tensor:
        return (exact.log_prob(x, time)[:, None] + process.step(x, time, t).log_prob(x_t.expand_as(x))).log_softmax(0)

    of_x0, log_true = log_weights(0).exp(), log_weights(s)
    mean = (of_x0 * x).sum(0, keepdim=True)
    best = process.posterior(x_t, Normal(mean, (of_x0 * (x - mean) ** 2).sum(0, keepdim=True)), s, t)

    def divergence(model: Normal) -> Tensor:
        return (log_true.exp() * (log_true - (x[1] - x[0]).log() - model.log_prob(x))).sum()

    assert float(divergence(best)) > 1e-3  # the true step is no Gaussian
    for shift, factor in [(0.3, 1.0), (-0.3, 1.0), (0.0, 0.6), (0.0, 1.7), (0.1, 0.9)]:
        other = Normal(best.mean + shift * best.variance.sqrt(), factor * best.variance)
        extra = best.kl(other).squeeze()
        assert float(extra) > 1e-3
        torch.testing.assert_close(divergence(other) - divergence(best), extra, rtol=1e-7, atol=1e-9)


def _corners(m: float, v: float) -> tuple[Tensor, TwoPoint]:
    """x0 at m ± sqrt(v) and eps at ±1 in all pairs: over these, the mean of any quadratic is its expectation."""
    x0 = m + math.sqrt(v) * _t(1, 1, -1, -1)[:, None]
    return x0, TwoPoint(_t(1, -1, 1, -1))


@pytest.mark.parametrize(("believed", "v"), [(V, V), (2.0, 0.1), (0.05, 0.6)])
def test_the_best_single_variance_has_the_error_of_x0_in_it(believed: float, v: float) -> None:
    """For a right denoiser and for wrong ones: of all variances the rule's makes a step's expected KL least."""
    process = Gaussian(LinearBeta.rescaled(12))
    x0, noise = _corners(M, v)
    measured = analytic_variance(gaussian_denoiser(process, M, believed), x0, times=_t(3, 7, 12), noise=noise)
    for s, t in ((1.0, 3.0), (6.0, 7.0), (2.0, 12.0)):
        best = measured(_t(s), _t(t)).reshape(())

        def expected(variance: Tensor, s: float = s, t: float = t) -> float:
            denoiser = gaussian_denoiser(process, M, believed, lambda a, b: variance.expand(a.shape))
            x_t = process.marginal(x0, t).sample(_t(1, -1, 1, -1)[:, None])
            return float(step_nats(denoiser.predict(x_t, t), x0, torch.full((4,), s, dtype=F64)).mean())

        least = expected(best)
        assert all(expected(best * factor) > least + 1e-6 for factor in (0.5, 0.9, 1.1, 2.0))
        assert abs(expected(best * (1 + 1e-4)) - expected(best * (1 - 1e-4))) < 1e-6
        if believed == v:
            ab_s, ab_t = (float(process.schedule.alpha(u) ** 2) for u in (s, t))
            assert float(best) == pytest.approx(closed.exact_variance(ab_t, ab_s, v), rel=1e-9)


def test_the_error_of_x0_can_be_read_off_the_predicted_noise() -> None:
    """sigma²/alpha² (1 - E|E[eps|x_t]|²) is Var[x0 | x_t], for Gaussian data."""
    process = Gaussian(LinearBeta())
    x0, _ = _corners(M, V)
    for t in (1.0, 40.0, 500.0, 1000.0):
        x_t = process.marginal(x0, t).sample(_t(1, -1, 1, -1)[:, None])
        found = score_error(gaussian_denoiser(process, M, V).predict(x_t, t))
        assert float(found) == pytest.approx(closed.left_over(float(process.schedule.alpha(t) ** 2), V), rel=1e-8)


# --- entropies --------------------------------------------------------------------------------------------------------


def _entropy(masses: Tensor) -> float:
    return -float(torch.special.xlogy(masses, masses).sum())


TWO_BITS = _t(*[bit for pair in product((0, 1), repeat=2) for bit in pair]).reshape(4, 2)


def _masses(law: Bernoulli) -> Tensor:
    """The masses of all four next states, from each of the four."""
    return torch.stack([law.log_prob(state.expand(4, 2)).sum(1).exp() for state in TWO_BITS], 1)


def _joint(process: Binomial, data: Tensor, t: int) -> Tensor:
    """q(x_{t-1}, x_t) of two bits, (4, 4), by enumeration."""
    before = data @ _masses(process.marginal(TWO_BITS, t - 1))
    return before[:, None] * _masses(process.step(TWO_BITS, t - 1, t))


@LAW
@given(st.lists(st.floats(0.05, 0.9), min_size=1, max_size=4), st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_the_true_reverse_step_is_as_uncertain_as_the_bounds_say(betas: list[float], counts: list[int]) -> None:
    """Two bits with any joint distribution, pi = 1/2: H(x_{t-1} | x_t) by enumeration lies between the two."""
    counts = counts if any(counts) else [1, 0, 0, 1]
    process, data = Binomial(FromBetas(_t(*betas))), torch.tensor(counts, dtype=F64) / sum(counts)
    lower, upper = entropy_bounds(process, TWO_BITS.repeat_interleave(torch.tensor(counts), 0))
    for t in range(1, len(betas) + 1):
        joint = _joint(process, data, t)
        uncertain = _entropy(joint) - _entropy(joint.sum(0))
        assert float(lower[t - 1]) - 1e-10 <= uncertain <= float(upper[t - 1]) + 1e-10


@LAW
@given(st.lists(st.floats(0.05, 0.9), min_size=1, max_size=4), st.floats(0.05, 0.95), st.integers(0, 99))
def test_a_step_back_is_as_uncertain_as_the_step_and_what_entropy_it_gained(
    betas: list[float], pi: float, seed: int
) -> None:
    """H(x_{t-1} | x_t) = H(x_t | x_{t-1}) + H(x_{t-1}) - H(x_t), for two bits with any joint distribution and any pi."""
    process = Binomial(FromBetas(_t(*betas)), pi)
    data = torch.rand(4, dtype=F64, generator=torch.Generator().manual_seed(seed)).softmax(0)
    for t in range(1, len(betas) + 1):
        joint = _joint(process, data, t)
        before, after = _entropy(joint.sum(1)), _entropy(joint.sum(0))
        backwards = -float((joint * (joint / joint.sum(0)).log()).sum())
        step = float(data @ process.step_entropy(TWO_BITS, t - 1, t).sum(1))
        assert backwards == pytest.approx(step + before - after, rel=1e-9, abs=1e-12)


@every
def test_the_bounds_are_the_two_variances(schedule: Schedule) -> None:
    """D/2 log(2 pi e v), v = beta-tilde_t below and beta_t above; the truth for Gaussian data lies between."""
    lower, upper = entropy_bounds(Gaussian(schedule), torch.zeros(1, 3, dtype=F64))
    beta, ab, before = schedule.betas, schedule.alpha_bar[1:], schedule.alpha_bar[:-1]
    torch.testing.assert_close(upper, 1.5 * (2 * math.pi * math.e * beta).log(), rtol=1e-9, atol=1e-9)
    small = (1 - before) / (1 - ab) * beta
    torch.testing.assert_close(lower[1:], 1.5 * (2 * math.pi * math.e * small[1:]).log(), rtol=1e-7, atol=1e-7)
    assert float(lower[0]) == -math.inf
    for t in {2, (schedule.T + 2) // 2, schedule.T}:
        exact = 3 * closed.entropy(
            closed.exact_variance(float(schedule.alpha_bar[t]), float(schedule.alpha_bar[t - 1]), V)
        )
        assert float(lower[t - 1]) - 1e-7 <= exact <= float(upper[t - 1]) + 1e-7


# --- rate and distortion ----------------------------------------------------------------------------------------------


def test_the_rate_is_the_bound_as_far_as_it_was_sent() -> None:
    """R(t) from the terms of the bound itself: prior, and the steps from T down to t."""
    process = Gaussian(LinearBeta.rescaled(9))
    x0 = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(6))
    denoiser = Constant(process, torch.zeros(3, dtype=F64))
    bound = variational_bound(denoiser, x0, decoder="normal")
    curve = rate_distortion(denoiser, x0)
    for t, rate in zip(curve.times.long().tolist(), curve.rate.tolist()):
        sent = bound.prior + bound.steps[:, t - 1 :].sum(1)  # bound.steps[:, i] is the step from t = i + 2
        assert rate == pytest.approx(float(sent.mean()) / (3 * math.log(2)), rel=1e-9)


def test_the_distortion_is_the_rms_on_levels() -> None:
    process = Gaussian(LinearBeta.rescaled(4))
    levels, guess = torch.tensor([[0.0, 100.0], [255.0, 7.0]], dtype=F64), _t(128, 50)
    curve = rate_distortion(Constant(process, guess * 2 / 255 - 1), levels * 2 / 255 - 1)
    expected = float((levels - guess).square().mean().sqrt())
    torch.testing.assert_close(curve.rmse, torch.full((4,), expected, dtype=F64))


# --- between two pictures ---------------------------------------------------------------------------------------------


@every
def test_what_is_mixed_between_two_pictures_has_less_noise(schedule: Schedule) -> None:
    """Mean and variance over both noises at ±1 in all pairs; at the ends it is one of the two."""
    process, t = Gaussian(schedule), schedule.T / 3 + 0.5
    first, second = (process.marginal(_t(x).expand(4)[:, None], t) for x in (0.7, -0.4))
    noises = _t(1, 1, -1, -1)[:, None], _t(1, -1, 1, -1)[:, None]
    x, y = first.sample(noises[0]), second.sample(noises[1])
    assert torch.equal(derivation.interpolated(x, y, 0.0), x)
    assert torch.equal(derivation.interpolated(x, y, 1.0), y)
    for share in (0.2, 0.5, 0.9):
        mixed = derivation.interpolated(x, y, share)
        mean, variance = mixed.mean(), mixed.var(correction=0)
        torch.testing.assert_close(mean, schedule.alpha(t) * (0.7 * (1 - share) - 0.4 * share), rtol=1e-9, atol=1e-9)
        kept = (1 - share) ** 2 + share**2
        torch.testing.assert_close(variance, kept * schedule.sigma(t) ** 2, rtol=1e-9, atol=0)
        assert float(variance) < float(schedule.sigma(t) ** 2)


# --- without noise ----------------------------------------------------------------------------------------------------


@every
def test_the_flow_is_the_velocity_along_the_angle(schedule: Schedule) -> None:
    """dx/dt = v · d(angle)/dt, with the angle's rate by differences; on data in two lumps."""
    process = Gaussian(schedule)
    t = torch.linspace(0.37, schedule.T - 1.37, 12, dtype=F64)
    x = torch.randn(12, 1, dtype=F64, generator=torch.Generator().manual_seed(4))
    prediction = _mixture(process).predict(x, t)
    h = 1e-4

    def angle(at: Tensor) -> Tensor:
        return torch.atan2(schedule.sigma(at), schedule.alpha(at))

    rate = ((angle(t + h) - angle(t - h)) / (2 * h))[:, None]
    velocity = derivation.flow_velocity(schedule, x, prediction.score, t)
    torch.testing.assert_close(velocity, rate * prediction.v, rtol=1e-5, atol=1e-9)


def test_the_flow_carries_a_gaussian_along_its_quantiles() -> None:
    """For data N(m, v) the flow keeps x's quantile: a small step of it agrees with the closed form."""
    schedule = LinearBeta()
    process, t, h = Gaussian(schedule), _t(400.5), 1e-3
    x = _t(0.9)[:, None]
    prediction = gaussian_denoiser(process, M, V).predict(x, t)
    velocity = derivation.flow_velocity(schedule, x, prediction.score, t)
    ab = [float(schedule.alpha(float(t) + d) ** 2) for d in (-h, 0.0, h)]
    ahead, behind = (closed.flow(0.9, ab[1], ab[i], M, V) for i in (2, 0))
    assert float(velocity) == pytest.approx((ahead - behind) / (2 * h), rel=1e-6)
