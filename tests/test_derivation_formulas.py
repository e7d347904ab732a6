"""The stations of the derivation that are computed in :mod:`unstir.derivation`, held to their laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles import gaussian as closed
from tests.oracles.curves import SCHEDULES
from tests.oracles.denoisers import gaussian_denoiser
from unstir import derivation
from unstir.bound import step_nats
from unstir.denoisers import Denoiser, DenoiserBase, GaussianMixtureDenoiser
from unstir.denoisers.variance import rule
from unstir.distributions import Normal
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.schedules import FromBetas, InverseTime, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=40)
F64 = torch.float64
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def _t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def _chain(*betas: float) -> Gaussian:
    return Gaussian(FromBetas(_t(*betas)))


# --- why the reverse step is Gaussian ---------------------------------------------------------------------------------


def _mixture(process: Gaussian) -> GaussianMixtureDenoiser:
    covariances = _t(0.09, 0.25).reshape(2, 1, 1)
    return GaussianMixtureDenoiser(process, _t(0.3, 0.7), _t(-1.0, 0.6).reshape(2, 1), covariances)


def _derivatives(log_prob: Callable[[Tensor], Tensor], x: Tensor, order: int) -> list[Tensor]:
    x = x.clone().requires_grad_()
    value, found = log_prob(x).sum(), []
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        found.append(value.detach())
    return found


def _cumulants_by_quadrature(exact: GaussianMixtureDenoiser, x_t: float, s: float, t: float) -> list[float]:
    """Of q(x_s | x_t) ∝ q(x_s) q(x_t | x_s), on a fine grid around its bulk."""
    process = exact.process
    step = process.step(torch.ones(1, 1, dtype=F64), s, t)
    centre, spread = x_t / float(step.mean), math.sqrt(float(step.variance)) / float(step.mean)
    x = torch.linspace(centre - 14 * spread, centre + 14 * spread, 40_001, dtype=F64)[:, None]
    log_joint = exact.log_prob(x, s) + process.step(x, s, t).log_prob(_t(x_t)).squeeze(1)
    weights = log_joint.softmax(0)
    mean = float((weights * x[:, 0]).sum())
    second, third, fourth = (float((weights * (x[:, 0] - mean) ** n).sum()) for n in (2, 3, 4))
    return [mean, second, third, fourth - 3 * second**2]


@pytest.mark.parametrize(("s", "t"), [(0.0, 2.0), (1.0, 2.0), (0.5, 4.0), (3.0, 4.0)])
@pytest.mark.parametrize("x_t", [-0.8, 0.1, 0.9])
def test_the_true_reverse_step_has_these_cumulants(s: float, t: float, x_t: float) -> None:
    """Bayes on a grid against derivatives of log q(x_t), for data in two lumps and for short and long steps."""
    process = _chain(0.05, 0.1, 0.2, 0.3)
    exact = _mixture(process)
    derivatives = _derivatives(lambda x: exact.log_prob(x, t), _t(x_t)[:, None], 4)
    found = derivation.reverse_cumulants(process, _t(x_t)[:, None], derivatives, s, t)
    for value, expected in zip(found, _cumulants_by_quadrature(exact, x_t, s, t)):
        assert float(value) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_short_steps_back_are_gaussian_at_the_stated_rates() -> None:
    """Skew falls as beta^1.5 and excess as beta², and both tend to the stated multiples of the derivatives."""
    x_t, t = _t(0.1)[:, None], 2.0
    betas = [1e-2, 1e-3, 1e-4]
    skews, excesses = [], []
    for beta in betas:
        process = _chain(0.4, beta)
        exact = _mixture(process)
        derivatives = _derivatives(lambda x, exact=exact: exact.log_prob(x, t), x_t, 4)
        _, k2, k3, k4 = derivation.reverse_cumulants(process, x_t, derivatives, 1.0, t)
        skews.append(abs(float(k3 / k2**1.5)))
        excesses.append(abs(float(k4 / k2**2)))
        assert float(k2) == pytest.approx(beta, rel=10 * beta)
    assert skews[-1] == pytest.approx(betas[-1] ** 1.5 * abs(float(derivatives[2])), rel=1e-3)
    assert excesses[-1] == pytest.approx(betas[-1] ** 2 * abs(float(derivatives[3])), rel=1e-3)
    assert np.polyfit(np.log(betas), np.log(skews), 1)[0] == pytest.approx(1.5, abs=0.02)
    assert np.polyfit(np.log(betas), np.log(excesses), 1)[0] == pytest.approx(2, abs=0.02)


# --- forwards ---------------------------------------------------------------------------------------------------------


@every
def test_a_draw_is_the_mean_plus_scaled_noise(schedule: Schedule) -> None:
    """x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps, to the last digits, at every step."""
    t = torch.arange(1, schedule.T + 1)
    x, eps = torch.randn(2, schedule.T, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    drawn = Gaussian(schedule).step(x, t - 1, t).sample(eps)
    beta = schedule.betas[:, None]
    torch.testing.assert_close(drawn, (1 - beta).sqrt() * x + beta.sqrt() * eps, rtol=1e-9, atol=1e-9)


@LAW
@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(-2, 2), st.floats(-3, 3), st.floats(-3, 3))
def test_two_steps_with_their_own_noises_are_one(first: float, second: float, x: float, e1: float, e2: float) -> None:
    """Sample after sample is the inserted formula; its mean square over independent noises is the two-step kernel's."""
    process, x0 = _chain(first, second), _t(x)[:, None]
    walked = process.step(process.step(x0, 0, 1).sample(_t(e1)), 1, 2).sample(_t(e2))
    inserted = math.sqrt((1 - second) * (1 - first)) * x + math.sqrt((1 - second) * first) * e1 + math.sqrt(second) * e2
    assert float(walked) == pytest.approx(inserted, rel=1e-12, abs=1e-12)
    ends = [process.step(process.step(x0, 0, 1).sample(_t(a)), 1, 2).sample(_t(b)) for a in (-1, 1) for b in (-1, 1)]
    both = process.step(x0, 0, 2)
    spread = torch.cat(ends) - both.mean
    assert float(spread.mean()) == pytest.approx(0, abs=1e-12)
    assert float(spread.square().mean()) == pytest.approx(float(both.variance), rel=1e-12)
    # With one noise for both, deviations add, and the variance is another.
    shared = torch.cat([ends[0], ends[3]]) - both.mean
    assert float(shared.square().mean()) > float(both.variance)


@LAW
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.05, 2), st.floats(0.05, 2), st.floats(-2, 2))
def test_variances_of_independent_draws_add(m1: float, m2: float, v1: float, v2: float, z: float) -> None:
    """The density of the sum is the convolution of the two densities."""
    first, second = Normal(_t(m1), _t(v1)), Normal(_t(m2), _t(v2))
    x = torch.linspace(-16, 16, 4001, dtype=F64)
    convolved = (first.log_prob(x).exp() * second.log_prob(z - x).exp()).sum() * (x[1] - x[0])
    assert float(derivation.independent_sum(first, second).log_prob(_t(z)).exp()) == pytest.approx(
        float(convolved), 1e-9
    )


def _kernel(process: Gaussian, s: float, t: float) -> tuple[Tensor, Tensor]:
    step = process.step(torch.ones(1, 1, dtype=F64), s, t)
    return step.mean, step.variance


@LAW
@given(st.floats(1e-4, 0.999), st.floats(1e-4, 0.999))
def test_two_kernels_are_one(first: float, second: float) -> None:
    process = _chain(first, second)
    a, v = derivation.compose(_kernel(process, 0, 1), _kernel(process, 1, 2))
    assert float(a) == pytest.approx(math.sqrt((1 - first) * (1 - second)), rel=1e-12)
    assert float(v) == pytest.approx(1 - (1 - first) * (1 - second), rel=1e-12)
    assert float(v) == pytest.approx((1 - second) * first + second, rel=1e-12)


@every
def test_a_step_leaves_the_prior_as_it_is(schedule: Schedule) -> None:
    """integral of q(x_t | x_s) pi(x_s) = pi(x_t): real numbers, bits and symbols, for neighbours and for the whole chain."""
    for s, t in ((0.0, 1.0), (1.0, float(schedule.T)), (0.0, float(schedule.T))):
        a, v = _kernel(Gaussian(schedule), s, t)
        assert float(a**2 + v) == pytest.approx(1, rel=1e-12)
        bits = Binomial(schedule, 0.3).step(_t(0, 1)[:, None], s, t).mean[:, 0]
        assert float(0.7 * bits[0] + 0.3 * bits[1]) == pytest.approx(0.3, rel=1e-12)
        for kind, prior in (("uniform", _t(1, 1, 1) / 3), ("absorbing", _t(0, 0, 0, 1))):
            process = Categorical(schedule, 3, kind)
            rows = process.step(torch.arange(len(prior))[:, None], s, t).probs[:, 0]
            torch.testing.assert_close(prior @ rows, prior, rtol=1e-12, atol=1e-15)


@every
def test_all_kernels_are_one(schedule: Schedule) -> None:
    process = Gaussian(schedule)
    kernel = _kernel(process, 0, 1)
    for t in range(2, schedule.T + 1):
        kernel = derivation.compose(kernel, _kernel(process, t - 1, t))
        torch.testing.assert_close(kernel, _kernel(process, 0, t), rtol=1e-10, atol=1e-12)


# --- the bound --------------------------------------------------------------------------------------------------------


M, V = 0.4, 0.3
SMALL_CHAIN = (0.2, 0.5, 0.7)


def _quadrature(process: Gaussian, x0: float, nodes: int = 9) -> tuple[list[Tensor], Tensor]:
    """Paths from x0, every noise at the nodes of Gauss-Hermite quadrature, and their weights: exact for polynomials."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    noises = torch.tensor(list(product(z, repeat=process.T)), dtype=F64)
    weights = torch.tensor(list(product(w / w.sum(), repeat=process.T)), dtype=F64).prod(1)
    path = [torch.full((len(noises), 1), x0, dtype=F64)]
    for t in range(process.T):
        path.append(process.step(path[-1], t, t + 1).sample(noises[:, t : t + 1]))
    return path, weights


def _model() -> tuple[Gaussian, DenoiserBase]:
    """A model that is not the truth: its denoiser believes in other data than N(M, V), its variance is ``large``."""
    process = _chain(*SMALL_CHAIN)
    return process, gaussian_denoiser(process, M, V, "large")


def _model_law(denoiser: DenoiserBase) -> torch.distributions.MultivariateNormal:
    """The law of a whole path under the model, (x_0, …, x_T): every step is affine, so it is one Gaussian."""
    T, rows = denoiser.process.T, torch.eye(denoiser.process.T + 1, dtype=F64)
    mean, factor = torch.zeros(T + 1, dtype=F64), torch.zeros(T + 1, T + 1, dtype=F64)
    factor[T] = rows[T]
    for t in range(T, 0, -1):
        zero, one = (denoiser.predict(_t(x)[:, None], t).reverse(_t(t - 1)) for x in (0.0, 1.0))
        slope = float(one.mean - zero.mean)
        mean[t - 1] = zero.mean.squeeze() + slope * mean[t]
        factor[t - 1] = slope * factor[t] + float(zero.variance) ** 0.5 * rows[t - 1]
    return torch.distributions.MultivariateNormal(mean, factor @ factor.T)


def _truth(denoiser: DenoiserBase, x0: float) -> float:
    law = _model_law(denoiser)
    return float(Normal(law.mean[:1], law.covariance_matrix[0, :1]).log_prob(_t(x0)))


@pytest.mark.parametrize("x0", [-0.7, 0.4, 1.5])
def test_the_mean_weight_of_paths_is_the_likelihood(x0: float) -> None:
    """E_q[p(x_{0:T}) / q(x_{1:T} | x0)] = p(x0), and p(x_{0:T}) is the joint density of the model's affine chain."""
    process, denoiser = _model()
    path, weights = _quadrature(process, x0, 33)
    law = _model_law(denoiser)
    torch.testing.assert_close(
        derivation.model_log_prob(denoiser, path), law.log_prob(torch.cat(path, 1)), rtol=1e-9, atol=1e-9
    )
    likelihood = float((weights * (-derivation.path_nats(denoiser, path)).exp()).sum())
    assert likelihood == pytest.approx(math.exp(_truth(denoiser, x0)), rel=1e-6)


@pytest.mark.parametrize("x0", [-0.7, 0.4, 1.5])
def test_the_bound_is_the_truth_plus_a_divergence_of_paths(x0: float) -> None:
    """E_q log q/p(x_{0:T}) = -log p(x0) + KL(q(x_{1:T}|x0) ‖ p(x_{1:T}|x0)), the latter between two joint Gaussians."""
    process, denoiser = _model()
    path, weights = _quadrature(process, x0)
    bound = float((weights * derivation.path_nats(denoiser, path)).sum())
    law = _model_law(denoiser)
    mean, cov = law.mean, law.covariance_matrix
    gain = cov[1:, :1] / cov[0, 0]
    posterior = torch.distributions.MultivariateNormal(
        mean[1:] + gain[:, 0] * (x0 - mean[0]), cov[1:, 1:] - gain @ cov[:1, 1:]
    )
    states = torch.cat(path[1:], 1)
    mean_q = weights @ states
    centred = states - mean_q
    forward = torch.distributions.MultivariateNormal(mean_q, (weights[:, None] * centred).T @ centred)
    divergence = float(torch.distributions.kl_divergence(forward, posterior))
    assert divergence > 0.01
    assert bound == pytest.approx(-_truth(denoiser, x0) + divergence, rel=1e-9)
    # Path by path: the posterior's ratio is the joint's ratio plus log p(x0).
    ratio = derivation.forward_log_prob(process, path) - posterior.log_prob(states)
    torch.testing.assert_close(ratio, derivation.path_nats(denoiser, path) + _truth(denoiser, x0), rtol=1e-8, atol=1e-8)


@LAW
@given(st.lists(st.floats(0.05, 0.9), min_size=1, max_size=4), st.floats(-2, 2), st.floats(-1, 1), st.floats(0.05, 3))
def test_jensen_lies_on_the_right_side(betas: list[float], x0: float, m: float, v: float) -> None:
    process = _chain(*betas)
    denoiser = gaussian_denoiser(process, m, v, "large")
    path, weights = _quadrature(process, x0, 3)  # log q/p is quadratic in the noises: three nodes are exact
    assert float((weights * derivation.path_nats(denoiser, path)).sum()) >= -_truth(denoiser, x0) - 1e-10


def test_a_paths_weight_is_the_sum_of_its_steps() -> None:
    """-log p(x_T) + sum of log ratios of single steps, the first one apart, with densities written out by torch."""
    process, denoiser = _model()
    path, _ = _quadrature(process, 0.8, 3)
    normal = torch.distributions.Normal
    expected = -normal(0, 1).log_prob(path[-1])
    for t, (before, after) in enumerate(pairwise(path), start=1):
        beta = SMALL_CHAIN[t - 1]
        reverse = denoiser.predict(after, t).reverse(torch.full((len(after),), t - 1, dtype=F64))
        forwards = normal(math.sqrt(1 - beta) * before, math.sqrt(beta)).log_prob(after)
        expected = expected + forwards - normal(reverse.mean, reverse.variance.sqrt()).log_prob(before)
    torch.testing.assert_close(derivation.path_nats(denoiser, path), expected.squeeze(1), rtol=1e-10, atol=1e-10)


@LAW
@given(st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8), st.integers(0, 99))
def test_a_path_weighs_the_same_read_forwards_or_backwards(betas: list[float], seed: int) -> None:
    """Bayes at every step: log q(x_{1:T} | x0) from the forward kernels and from the posteriors."""
    process = _chain(*betas)
    path = list(torch.randn(len(betas) + 1, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(seed)))
    forwards, backwards = derivation.forward_log_prob(process, path), derivation.backward_log_prob(process, path)
    torch.testing.assert_close(forwards, backwards, rtol=1e-8, atol=1e-8)


@LAW
@given(st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8), st.integers(0, 99))
def test_the_product_of_ratios_telescopes(betas: list[float], seed: int) -> None:
    process = _chain(*betas)
    path = list(torch.randn(len(betas) + 1, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(seed)))
    marginals = [process.marginal(path[0], t).log_prob(path[t]).sum(1) for t in range(1, len(path))]
    explicit = torch.stack([b - a for a, b in pairwise(marginals)]).sum(0)
    torch.testing.assert_close(derivation.telescoped_log_prob(process, path), explicit, rtol=1e-9, atol=1e-9)


# --- the posterior ----------------------------------------------------------------------------------------------------


@LAW
@given(
    st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.data(),
)
def test_completing_the_square_leaves_nothing(
    betas: list[float], x_s: float, x_t: float, x0: float, data: st.DataObject
) -> None:
    """A x² - 2 B x + C is the exponent; C = B²/A; 1/A and B/A are the posterior's variance and mean."""
    process, T = _chain(*betas), len(betas)
    t = data.draw(st.integers(2, T))
    s = data.draw(st.integers(1, t - 1))
    x, end, start = (_t(value)[:, None] for value in (x_s, x_t, x0))
    A, B, C = derivation.completed_square(process, end, start, s, t)
    step, before, after = process.step(x, s, t), process.marginal(start, s), process.marginal(start, t)
    exponent = (
        (end - step.mean) ** 2 / step.variance
        + (x - before.mean) ** 2 / before.variance
        - (end - after.mean) ** 2 / after.variance
    )
    torch.testing.assert_close(A * x**2 - 2 * B * x + C, exponent, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(C, B**2 / A, rtol=1e-8, atol=1e-8)
    posterior = process.posterior(end, start, s, t)
    torch.testing.assert_close(1 / A, posterior.variance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(B / A, posterior.mean, rtol=1e-9, atol=1e-9)


@every
def test_the_posterior_is_a_product_of_two_opinions(schedule: Schedule) -> None:
    """N(x_t/a, s2/a²), what x_t says of x_s, times q(x_s | x0), what x0 says."""
    process = Gaussian(schedule)
    t = torch.arange(2, schedule.T + (0 if isinstance(schedule, InverseTime) else 1))
    s = (t / 2).floor().clamp(min=1)
    x_t, x0 = torch.randn(2, len(t), 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    unit = process.step(torch.ones(len(t), 1, dtype=F64), s, t)
    product_of = Normal(x_t / unit.mean, unit.variance / unit.mean**2).times(process.marginal(x0, s))
    posterior = process.posterior(x_t, x0, s, t)
    torch.testing.assert_close(product_of.mean, posterior.mean, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(product_of.variance, posterior.variance, rtol=1e-8, atol=1e-12)


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

    prediction = gaussian_denoiser(process, 0.0, 1.0, name).predict(x_t, t).with_x0(guess)
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


# --- multiplying by r(x) ----------------------------------------------------------------------------------------------


@LAW
@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(-3, 3))
def test_an_exponential_of_a_line_only_moves_a_gaussian(mean: float, variance: float, slope: float) -> None:
    """The renormalised product on a grid has the shifted density."""
    step = Normal(_t(mean), _t(variance))
    x = torch.linspace(-1, 1, 8001, dtype=F64) * (14 * math.sqrt(variance) + 4 * variance) + mean
    log_product = step.log_prob(x) + slope * x
    log_density = log_product - log_product.logsumexp(0) - (x[1] - x[0]).log()
    moved = derivation.perturbed(step, _t(slope))
    torch.testing.assert_close(log_density, moved.log_prob(x), rtol=1e-7, atol=1e-7)


def test_a_curved_r_errs_by_the_square_of_the_variance() -> None:
    """Against the exact product with a Gaussian r: the mean's error falls as Sigma², the variance's too."""
    r = Normal(_t(1.5), _t(0.8))
    errors = []
    for variance in (1e-2, 1e-3, 1e-4):
        step = Normal(_t(0.2), _t(variance))
        exact, moved = step.times(r), derivation.perturbed(step, (r.mean - step.mean) / r.variance)
        errors.append([float((a - b).abs()) for a, b in ((exact.mean, moved.mean), (exact.variance, moved.variance))])
    slopes = np.polyfit(np.log([1e-2, 1e-3, 1e-4]), np.log(errors), 1)[0]
    np.testing.assert_allclose(slopes, 2, atol=0.02)


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


def test_no_call_edits_its_inputs() -> None:
    process, denoiser = _model()
    path, _ = _quadrature(process, 0.1, 2)
    x, s, t = path[1], torch.full((len(path[1]),), 1.0, dtype=F64), torch.full((len(path[1]),), 2.5, dtype=F64)
    kept = [value.clone() for value in (*path, s, t)]
    derivation.path_nats(denoiser, path)
    derivation.backward_log_prob(process, path)
    derivation.telescoped_log_prob(process, path)
    derivation.completed_square(process, x, path[0], s, t)
    derivation.mean_from_eps(process, x, path[0], s, t)
    derivation.flow_velocity(process.schedule, x, path[0], t)
    derivation.reverse_cumulants(process, x, [x, x], s, t)
    for before, after in zip(kept, (*path, s, t)):
        assert torch.equal(before, after)
