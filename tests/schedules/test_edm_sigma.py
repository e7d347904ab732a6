"""EDM's sigmas: a schedule that explodes, through the same process, denoisers, samplers and bound as any other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.denoisers import gaussian_denoiser, through
from tests.oracles.noises import OneStepOnly
from unstir.bound import variational_bound
from unstir.denoisers import Denoiser, GaussianMixtureDenoiser
from unstir.noise import TwoPoint
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun, Sampler, sample
from unstir.schedules import EDMSigma, FromBetas

F64 = torch.float64
M, V = 0.4, 0.0625
LAW = settings(deadline=None, derandomize=True, max_examples=40)


@pytest.mark.parametrize(
    ("T", "low", "high", "rho"), [(18, 0.002, 80.0, 7.0), (5, 0.1, 10.0, 3.0), (2, 0.01, 1.0, 1.0)]
)
def test_sigmas_are_the_published_grid_and_end_at_zero(T: int, low: float, high: float, rho: float) -> None:
    """Karras et al. 2022 eq. 5 as printed, with i counted from the noisy end and sigma_N = 0."""
    schedule = EDMSigma(T, low, high, rho)
    for i in range(T):
        printed = (high ** (1 / rho) + i / (T - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        assert float(schedule.sigma(T - i)) == pytest.approx(printed, rel=1e-12)
        assert float(schedule.alpha(T - i)) == 1
    assert float(schedule.sigma(0)) == 0
    # the last interval, which they jump, is a straight line
    assert [float(schedule.sigma(u)) for u in (0.25, 0.5)] == pytest.approx([0.25 * low, 0.5 * low], rel=1e-12)
    assert schedule.prior_variance == high**2


def test_real_times_lie_on_the_grid_of_more_steps() -> None:
    """The curve is closed form in t: every (T - 1) k + 1 grid holds the T grid."""
    few, many = EDMSigma(9), EDMSigma(8 * 5 + 1)
    t = torch.arange(1, 10, dtype=F64)
    torch.testing.assert_close(few.sigma(t), many.sigma(1 + 5 * (t - 1)), rtol=1e-12, atol=0)
    t = torch.linspace(1, 9, 41, dtype=F64)
    torch.testing.assert_close(few.sigma(t), many.sigma(torch.arange(1, 42)), rtol=1e-12, atol=0)


def test_the_prior_keeps_only_the_datas_own_size() -> None:
    """KL(N(x0, sigma²) ‖ N(0, sigma²)) = x0² / 2 sigma²."""
    assert EDMSigma().prior_kl_bits(0.25) == pytest.approx(0.25 / (2 * 80**2 * math.log(2)), rel=1e-12)
    assert EDMSigma().prior_report() is None
    assert "0.18 bits/dim" in str(EDMSigma(10, 0.01, 2.0).prior_report())


times = st.tuples(st.floats(0.01, 18), st.floats(0.01, 18)).filter(lambda pair: abs(pair[0] - pair[1]) > 1e-3)


@LAW
@given(times, st.floats(-3, 3), st.floats(-3, 3))
def test_kernels_compose_and_obey_bayes(pair: tuple[float, float], value: float, drawn: float) -> None:
    s, t = sorted(pair)
    process = Gaussian(EDMSigma(18))
    x0 = torch.tensor([[value]], dtype=F64)
    first, then = process.marginal(x0, s), process.step(process.marginal(x0, s).mean, s, t)
    whole = process.marginal(x0, t)
    torch.testing.assert_close(then.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(then.variance + first.variance, whole.variance, rtol=1e-12, atol=0)
    # q(x_s|x_t, x0) q(x_t|x0) = q(x_t|x_s) q(x_s|x0), pointwise
    sigma_s, sigma_t = float(process.schedule.sigma(s)), float(process.schedule.sigma(t))
    x_t, x_s = x0 + sigma_t * drawn, x0 + sigma_s * drawn * 0.7
    left = process.posterior(x_t, x0, s, t).log_prob(x_s) + whole.log_prob(x_t)
    right = process.step(x_s, s, t).log_prob(x_t) + first.log_prob(x_s)
    torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-7)


def test_the_exact_denoiser_and_its_score_hold() -> None:
    """E[x0|x_t] of a mixture: the score is the gradient of the log density, and x0, eps, v make x_t again."""
    process = Gaussian(EDMSigma(18))
    weights, means = torch.tensor([0.3, 0.7], dtype=F64), torch.tensor([[-1.0, 0.5], [0.8, 0.0]], dtype=F64)
    covariances = torch.stack([0.04 * torch.eye(2, dtype=F64), torch.tensor([[0.3, 0.1], [0.1, 0.2]], dtype=F64)])
    denoiser = GaussianMixtureDenoiser(process, weights, means, covariances)
    generator = torch.Generator().manual_seed(0)
    for t in (0.5, 1.0, 7.3, 12.0, 18.0):
        sigma = float(process.schedule.sigma(t))
        x = torch.randn(20, 2, dtype=F64, generator=generator) * math.sqrt(1 + sigma**2)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(denoiser.log_prob(leaf, t).sum(), leaf)
        said = denoiser.predict(x, t)
        torch.testing.assert_close(said.score, gradient, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(said.x0 + sigma * said.eps, x, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(said.v, said.eps - sigma * said.x0, rtol=1e-12, atol=1e-12)
        for says in ("eps", "x0", "v"):
            torch.testing.assert_close(through(denoiser, says).predict(x, t).x0, said.x0, rtol=1e-6, atol=1e-9)


def test_targets_are_what_the_network_should_say() -> None:
    """Through every parameterisation: the target read back is x0, whatever the noise level."""
    process = Gaussian(EDMSigma(18))
    x0, eps = (torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(i)) for i in range(2))
    t = torch.tensor([0.5, 1.0, 9.0, 18.0], dtype=F64)
    x_t = process.marginal(x0, t).sample(eps)
    for says in ("eps", "x0", "v", "preconditioned"):
        denoiser = Denoiser(torch.nn.Identity(), process, says)
        raw = denoiser.parameterisation.target(x0, eps, t)
        assert bool(torch.isfinite(raw).all())
        torch.testing.assert_close(denoiser.interpret(raw, None, x_t, t).x0, x0, rtol=1e-9, atol=1e-9)


def _ends(denoiser: GaussianMixtureDenoiser, sampler: Sampler, grid: Grid) -> tuple[float, float]:
    """Mean and variance of an affine chain begun at the prior: what it makes of zero and of each unit of noise."""
    n, schedule = grid.steps, denoiser.process.schedule
    start = torch.zeros(n + 2, 1, dtype=F64)
    start[1] = math.sqrt(schedule.prior_variance)
    noise = OneStepOnly(torch.arange(-2, n))
    state = sampler.start(start, grid.times)
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x, t), noise)
    shift = float(state.x[0])
    return shift, float(((state.x[1:] - shift) ** 2).sum())


def _recursion(sigmas: list[float], kind: str, eta: float = 0.0) -> tuple[float, float]:
    """The same chain in plain arithmetic, from sigma alone: x_t = x0 + sigma_t eps for x0 of N(M, V)."""
    mean, var = 0.0, sigmas[0] ** 2
    for t, s in itertools.pairwise(sigmas):
        k1 = V / (V + t**2)
        k0 = M * (1 - k1)
        small, large = (t**2 - s**2) * s**2 / t**2, t**2 - s**2
        if kind == "ddim":
            fresh = eta**2 * small
            keep = math.sqrt(max(s**2 - fresh, 0)) / t
            slope, shift = k1 + keep * (1 - k1), k0 - keep * k0
        else:
            fresh = {"small": small, "large": large}[kind] if s > 0 else 0.0
            from_0 = large / t**2
            slope, shift = s**2 / t**2 + from_0 * k1, from_0 * k0
        mean, var = slope * mean + shift, slope**2 * var + fresh
    return mean, var


@pytest.mark.parametrize("n", [1, 7, 18])
def test_first_order_samplers_follow_the_recursion(n: int) -> None:
    """Traps 1 to 4 and 6, 16: the last step goes to sigma = 0."""
    schedule = EDMSigma(18)
    process = Gaussian(schedule)
    for grid in (Grid.trailing(schedule, n), Grid.uniform(schedule, n), Grid.log_snr(schedule, n)):
        sigmas = [float(schedule.sigma(t)) for t in grid.times]
        assert sigmas[0] == pytest.approx(80, rel=1e-12)
        assert sigmas[-1] == 0
        for eta in (0.0, 0.5, 1.0):
            found = _ends(gaussian_denoiser(process, M, V), DDIM(eta), grid)
            assert found == pytest.approx(_recursion(sigmas, "ddim", eta), rel=1e-8, abs=1e-10), eta
        for variance in ("small", "large"):
            found = _ends(gaussian_denoiser(process, M, V, variance), Ancestral(), grid)
            assert found == pytest.approx(_recursion(sigmas, variance), rel=1e-8, abs=1e-10), variance


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2)], ids=["ddim", "heun"])
def test_solvers_keep_their_order(sampler: Sampler, order: int) -> None:
    """The flow of N(M, V) is known: x keeps its quantile, x_s = M + (x_t - M) sqrt((V + sigma_s²) / (V + sigma_t²))."""
    schedule = EDMSigma(18)
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V)
    x = torch.tensor([[-30.0], [2.0], [55.0]], dtype=F64)
    first, last = (V + float(schedule.sigma(t)) ** 2 for t in (16.0, 6.0))
    truth = M + (x - M) * math.sqrt(last / first)
    errors, counts = [], (16, 32, 64, 128)
    for n in counts:
        state = sampler.start(x, torch.linspace(16.0, 6.0, n + 1, dtype=F64))
        while not bool(state.done.all()):
            x_t, t = sampler.query(state)
            state = sampler.advance(state, denoiser.predict(x_t, t), None)
        errors.append(float((state.x - truth).abs().max()))
    assert float(np.polyfit(-np.log(counts), np.log(errors), 1)[0]) == pytest.approx(order, abs=0.2)


def test_samples_come_back_as_the_data() -> None:
    """In float32 as sampled, from the prior N(0, 80²) down to data of another size than one."""
    schedule = EDMSigma(40)
    denoiser = gaussian_denoiser(Gaussian(schedule), 1.0, 4.0)
    for sampler, grid in ((Heun(), Grid.trailing(schedule, 40)), (Ancestral(), Grid.log_snr(schedule, 150))):
        mean, variance = _ends(denoiser, sampler, grid)
        assert (mean, math.sqrt(variance)) == pytest.approx((1, 2), rel=0.05)
        x = sample(denoiser, sampler, grid, (6_000, 1))
        # the standard errors are 0.9 % and 0.026
        assert float(x.std()) == pytest.approx(math.sqrt(variance), rel=0.035)
        assert float(x.mean()) == pytest.approx(mean, abs=0.1)


def _twin(schedule: EDMSigma) -> FromBetas:
    log_ab = torch.nn.functional.logsigmoid(schedule.log_snr(torch.arange(schedule.T + 1)))
    return FromBetas(-torch.expm1(log_ab.diff()))


def test_its_bound_is_that_of_its_preserving_twin() -> None:
    """Dividing x_t by sqrt(1 + sigma_t²) changes no KL of a step: the same SNR has the same terms (Kingma et al. 2021, §5.1)."""
    schedule = EDMSigma(12)
    x0 = torch.tensor([[0.1], [0.9], [-0.4]], dtype=F64).repeat_interleave(2, 0)
    noise = TwoPoint(torch.tensor([1.0, -1.0] * 3))
    ours, twins = (
        variational_bound(gaussian_denoiser(Gaussian(s), M, V), x0, decoder="normal", noise=noise)
        for s in (schedule, _twin(schedule))
    )
    torch.testing.assert_close(ours.steps, twins.steps, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(ours.prior, 0.5 * (x0[:, 0] / 80) ** 2, rtol=1e-10, atol=0)


def test_its_bound_tightens_to_the_entropy() -> None:
    """The bound of the exact denoiser, averaged exactly over N(M, V), falls towards the entropy with the exact variance."""

    def exact(schedule: EDMSigma):
        def variance(s: Tensor, t: Tensor) -> Tensor:
            var_s, var_t = schedule.sigma(s) ** 2, schedule.sigma(t) ** 2
            # Var[x_s | x_t] of jointly normal x_s, x_t
            return (V + var_s) * (var_t - var_s) / (V + var_t)

        return variance

    signs = torch.tensor([[a, b] for a in (1.0, -1.0) for b in (1.0, -1.0)], dtype=F64)
    x0 = M + math.sqrt(V) * signs[:, :1]
    entropy = 0.5 * math.log(2 * math.pi * math.e * V)
    for T in (3, 18):
        schedule = EDMSigma(T)
        denoiser = gaussian_denoiser(Gaussian(schedule), M, V, exact(schedule))
        bound = variational_bound(
            denoiser,
            x0,
            decoder="normal",
            decoder_variance=lambda p, s=schedule: (V * s.sigma(p.t) ** 2 / (V + s.sigma(p.t) ** 2))[:, None],
            noise=TwoPoint(signs[:, 1]),
        )
        # exact whatever T: all that is left is the prior's misfit to q(x_T) = N(M, V + 80²)
        misfit = 0.5 * ((V + M**2) / 80**2 - math.log1p(V / 80**2))
        assert float(bound.total.mean()) == pytest.approx(entropy + misfit, rel=1e-7)
