"""The first half of the derivation, from the chain to the posterior, held to its laws."""

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

from tests.oracles.curves import SCHEDULES
from tests.oracles.denoisers import gaussian_denoiser
from unstir import derivation
from unstir.denoisers import DenoiserBase, GaussianMixtureDenoiser
from unstir.distributions import Normal
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.schedules import FromBetas, InverseTime, Schedule

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
    log_joint = exact.log_prob(x, s) + process.step(x, s, t).log_prob(_t(x_t).expand_as(x)).squeeze(1)
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
    walked = process.step(process.step(x0, 0, 1).sample(_t(e1)[:, None]), 1, 2).sample(_t(e2)[:, None])
    inserted = math.sqrt((1 - second) * (1 - first)) * x + math.sqrt((1 - second) * first) * e1 + math.sqrt(second) * e2
    assert float(walked) == pytest.approx(inserted, rel=1e-12, abs=1e-12)
    one = torch.ones_like(x0)
    ends = [
        process.step(process.step(x0, 0, 1).sample(a * one), 1, 2).sample(b * one) for a in (-1, 1) for b in (-1, 1)
    ]
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
@given(st.lists(st.floats(1e-3, 0.9), min_size=1, max_size=8), st.booleans(), st.integers(0, 99))
def test_the_true_chain_weighs_the_same_read_backwards(betas: list[float], forgets: bool, seed: int) -> None:
    """log q(x0) + log q(x_{1:T} | x0) = log q(x_T) + sum of log q(x_{t-1} | x_t), path by path; also where alpha_T = 0."""
    process = Gaussian(InverseTime(len(betas))) if forgets else _chain(*betas)
    path = list(torch.randn(len(betas) + 1, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(seed)))
    data = Normal(_t(0.4, -0.9)[None], _t(0.3, 1.7)[None])
    forwards = data.log_prob(path[0]).sum(1) + derivation.forward_log_prob(process, path)
    torch.testing.assert_close(derivation.data_log_prob(process, data, path), forwards, rtol=1e-9, atol=1e-9)


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


def test_no_call_edits_its_inputs() -> None:
    process, denoiser = _model()
    path, _ = _quadrature(process, 0.1, 2)
    x, s, t = path[1], torch.full((len(path[1]),), 1.0, dtype=F64), torch.full((len(path[1]),), 2.5, dtype=F64)
    kept = [value.clone() for value in (*path, s, t)]
    derivation.path_nats(denoiser, path)
    derivation.backward_log_prob(process, path)
    derivation.telescoped_log_prob(process, path)
    derivation.data_log_prob(process, Normal(path[0], path[0] ** 2), path)
    derivation.interpolated(x, path[0], 0.3)
    derivation.completed_square(process, x, path[0], s, t)
    derivation.mean_from_eps(process, x, path[0], s, t)
    derivation.flow_velocity(process.schedule, x, path[0], t)
    derivation.reverse_cumulants(process, x, [x, x], s, t)
    for before, after in zip(kept, (*path, s, t)):
        assert torch.equal(before, after)


def test_k_of_scaled_data_as_a_code_length_of_levels() -> None:
    """The masses of whole levels under a wide normal, against K of the same normal on data scaled to variance 1."""
    s, mean = 40.0, 100.3
    levels = torch.arange(-100, 301, dtype=F64)  # five standard deviations each way
    masses = torch.special.ndtr((levels + 0.5 - mean) / s) - torch.special.ndtr((levels - 0.5 - mean) / s)
    code_length = -float((masses * masses.log2()).sum())
    k = -0.5 * math.log2(2 * math.pi * math.e)  # of N(0, 1) under itself
    assert derivation.level_bits(k, dims=1, level_std=s) == pytest.approx(code_length, abs=1e-4)
    with pytest.raises(TypeError):  # two numbers that are easily exchanged must be named
        derivation.level_bits(k, 1, s)  # pyright: ignore[reportCallIssue]
    # Three numbers of a pixel: the paper's 5.4 bits, and what was made of it.
    assert derivation.level_bits(5.4, dims=3, level_std=63.5) == pytest.approx(4.19, abs=0.005)
