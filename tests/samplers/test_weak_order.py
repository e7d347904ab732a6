"""Stochastic solvers against the marginals that they should keep, on an interval that ends above t = 0.

On Gaussian data every one of them is affine in x and in its noise. Mean and variance at the end then follow exactly from what
the solver makes of zero, of a unit of x and of each unit of noise: no draws, so no error of sampling.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from tests.oracles.noises import OneIncrementOnly
from unstir.denoisers import DenoiserBase, GaussianMixtureDenoiser
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers import DPMSDE, EDM, Ancestral, Grid, Heun, Sampler, get, sample
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta, Schedule

F64 = torch.float64
M, V = 0.4, 0.25
STEPS = (16, 32, 64)
SOLVERS = {
    name: get(name)
    for name in (
        "ancestral", "ddim:eta=0.5", "ddim:eta=1", "dpm++sde:stages=1", "dpm++sde", "dpm++2m-sde", "edm:s_churn=5",
        "edm:s_churn=0",
    )
}  # fmt: skip


COVARIANCES = [[[0.05, 0.0], [0.0, 0.1]], [[0.1, 0.05], [0.05, 0.08]]]


def _walk(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, x: Tensor, noise: NoiseSource) -> Tensor:
    state = sampler.start(x, grid.times)
    while not bool(state.done.all()):
        x_t, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x_t, t), noise)
    return state.x


def moments(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance at the end of an affine walk begun at N(mean, variance), exactly."""
    n = grid.steps
    leaps = 2 * n  # two stages at most; what is not used moves nothing
    # Row 0: the mean alone; row 1: x one standard deviation further; then a unit of noise at each step; then of each interval.
    x = torch.full((2 + n + leaps, 1), mean, dtype=F64)
    x[1] += math.sqrt(variance)
    at = torch.cat([torch.arange(-2, n), torch.full((leaps,), -1)])
    leap = torch.cat([torch.zeros(2 + n, dtype=torch.long), torch.arange(1, leaps + 1)])
    noise = OneIncrementOnly(at, leap)
    end = _walk(denoiser, sampler, grid, x, noise)
    assert len(noise.asked) <= leaps + 1
    return float(end[0]), float(((end[1:] - end[0]) ** 2).sum())


def _mixture(schedule: Schedule) -> GaussianMixtureDenoiser:
    means = torch.tensor([[-1.0, 0.5], [0.6, -0.4]], dtype=F64)
    weights, covariances = torch.tensor([0.3, 0.7], dtype=F64), torch.tensor(COVARIANCES, dtype=F64)
    return GaussianMixtureDenoiser(Gaussian(schedule), weights, means, covariances)


def _even(schedule: Schedule, first: float, last: float, n: int) -> Grid:
    """Equal steps in the angle, in which the flow is smooth."""
    low, high = (float(torch.atan2(schedule.sigma(t), schedule.alpha(t))) for t in (first, last))
    times = schedule.time(-2 * torch.linspace(low, high, n + 1, dtype=F64).tan().log())
    times[0] = first
    return Grid(times)


def _errors(denoiser: DenoiserBase, sampler: Sampler, first: float, last: float) -> tuple[list[float], list[float]]:
    """Of mean and variance, for each number of steps, begun in the exact marginal."""
    schedule, means, variances = denoiser.process.schedule, [], []
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (first, last)
    )
    for n in STEPS:
        grid = _even(schedule, first, last, n)
        mean, variance = moments(denoiser, sampler, grid, alpha_t * M, alpha_t**2 * V + sigma_t**2)
        means.append(abs(mean - alpha_s * M))
        variances.append(abs(variance - alpha_s**2 * V - sigma_s**2))
    return means, variances


def _slope(errors: list[float]) -> float:
    """Of log error against log step."""
    return float(np.polyfit(-np.log(STEPS), np.log(errors), 1)[0])


@pytest.mark.parametrize(
    ("schedule", "says"),
    [(LinearBeta(), "eps"), (Cosine(500), "v"), (EDMSigma(100, 0.02, 20), "x0"), (InverseTime(60), "x0")],
    ids=["linear", "cosine", "edm", "inverse"],
)
@pytest.mark.parametrize("name", SOLVERS)
def test_weak_order(name: str, schedule: Schedule, says: str) -> None:
    """The variance is that of the data's own marginal up to the declared power of the step, through every parameterisation.

    From alpha_T = 0 too.
    """
    sampler = SOLVERS[name]
    denoiser = through(gaussian_denoiser(Gaussian(schedule), M, V), says)
    means, variances = _errors(denoiser, sampler, (1 if schedule.T == 60 else 0.9) * schedule.T, 0.1 * schedule.T)
    assert max(means) < 1e-9  # what starts at the marginal's mean stays there
    assert _slope(variances) >= sampler.order - 0.3, variances


@pytest.mark.parametrize("name", ["ancestral", "ddim:eta=1", "dpm++sde:stages=1", "dpm++sde", "dpm++2m-sde"])
def test_weak_order_of_those_that_solve_the_sde(name: str) -> None:
    """From a point far from the mean they lead to the chain's own q(x_s | x_t), whose mean and variance are known.

    E[x0 | x_t] is a martingale of the SDE, so the mean has no error at all.
    """
    schedule, sampler, errors = LinearBeta(), SOLVERS[name], []
    first, last, x_t = 0.9 * schedule.T, 0.1 * schedule.T, 2.5
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (first, last)
    )
    var_t, var_s = alpha_t**2 * V + sigma_t**2, alpha_s**2 * V + sigma_s**2
    shrunk = alpha_t / alpha_s * var_s / var_t  # Cov(x_s, x_t) / Var(x_t)
    truth = alpha_s * M + shrunk * (x_t - alpha_t * M), var_s - shrunk**2 * var_t
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V)
    for n in STEPS:
        found = moments(denoiser, sampler, _even(schedule, first, last, n), x_t, 0.0)
        assert found[0] == pytest.approx(truth[0], abs=1e-12)
        errors.append(abs(found[1] - truth[1]))
    assert _slope(errors) >= sampler.order - 0.3, errors


@pytest.mark.parametrize("name", ["dpm++sde:stages=1", "dpm++sde", "dpm++2m-sde"])
def test_one_path_leads_to_one_sample(name: str) -> None:
    """Strong order 1: along the same path, walks of n and of 2n steps come closer in proportion to the step, row by row."""
    schedule, sampler, rows = LinearBeta(), SOLVERS[name], range(500)
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V)
    x = NoiseSource(3, rows).normal((1,), "prior", dtype=F64)
    ends = [_walk(denoiser, sampler, _even(schedule, 900, 100, n), x, NoiseSource(0, rows)) for n in (8, 16, 32)]
    apart = [float((a - b).square().mean().sqrt()) for a, b in pairwise(ends)]
    # 500 rows: a ratio of two root mean squares is known to some 6 %; order 1 makes it 2, order 1/2 would make it 1.4
    assert 1.7 <= apart[0] / apart[1] <= 2.4, apart
    stranger = _walk(denoiser, sampler, _even(schedule, 900, 100, 16), x, NoiseSource(1, rows))
    assert float((stranger - ends[1]).square().mean().sqrt()) > 10 * apart[1]


@pytest.mark.parametrize("name", ["dpm++sde", "dpm++2m-sde"])
def test_second_order_holds_where_x0_is_not_linear_too(name: str) -> None:
    """On a mixture, from the exact marginal: halving the step moves E x² less than a third as far as it does at first order.

    Both walks follow the same paths, so that the difference is known to a small standard error; four of them are given.
    """
    schedule, rows = LinearBeta(), 2500
    denoiser, noise = _mixture(schedule), NoiseSource(0, range(rows))
    means = denoiser.means[(noise.uniform((), "component") > 0.3).long()]
    spread = torch.linalg.cholesky(torch.tensor(COVARIANCES, dtype=F64))[(noise.uniform((), "component") > 0.3).long()]
    x0 = means + torch.einsum("bde,be->bd", spread, noise.normal((2,), "x0", dtype=F64))
    x = schedule.alpha(900) * x0 + schedule.sigma(900) * noise.normal((2,), "x_t", dtype=F64)
    moved, errors = [], []
    for solver in (SOLVERS["dpm++sde:stages=1"], SOLVERS[name]):
        a, b = (_walk(denoiser, solver, _even(schedule, 900, 100, n), x, noise).square().sum(1) for n in (12, 24))
        moved.append(abs(float((a - b).mean())))
        errors.append(float((a - b).std()) / math.sqrt(rows))
    assert moved[1] + 4 * errors[1] < (moved[0] - 4 * errors[0]) / 3, (moved, errors)


@pytest.mark.parametrize("name", ["linear-1000", "cosine-100", "inverse-time-60", "from-betas"])
def test_one_stage_is_the_ancestral_chain(name: str) -> None:
    """With other noise, of the same law: mean and variance agree exactly, at alpha_T = 0 too and down to t = 0."""
    schedule = SCHEDULES[name]
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V)
    for spacing in ("uniform", "trailing", "log-snr", "rho"):
        for n in (1, 2, min(13, schedule.T)):
            grid = Grid.named(spacing, schedule, n)
            found = moments(denoiser, DPMSDE(1), grid, 0.0, 1.0)
            assert found == pytest.approx(moments(denoiser, Ancestral(), grid, 0.0, 1.0), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(1000)], ids=["linear", "cosine"])
@pytest.mark.parametrize("name", ["dpm++sde", "dpm++2m-sde", "edm:s_churn=3"])
def test_the_data_come_back_as_steps_grow(name: str, schedule: Schedule) -> None:
    """Over the whole chain and down to 0: what is missing is the spread of x0 given the last x_t."""
    denoiser, errors = gaussian_denoiser(Gaussian(schedule), M, V), []
    for n in (20, 40):
        grid = Grid.log_snr(schedule, n)
        missing = gaussian.left_over(Curve(schedule)(float(grid.times[-2])), V)
        mean, variance = moments(denoiser, get(name), grid, 0.0, 1.0)
        assert mean == pytest.approx(M, abs=0.01)
        errors.append(abs((variance + missing) / V - 1))
    assert errors[0] > 1.8 * errors[1]
    assert errors[1] < 0.07


def test_edm_without_churn_is_heuns_method_and_draws_nothing() -> None:
    sampler, schedule = EDM(s_churn=0), LinearBeta()
    assert not sampler.stochastic
    denoiser, grid = _mixture(schedule), Grid.rho(schedule, 9)
    assert torch.equal(sample(denoiser, sampler, grid, (5, 2)), sample(denoiser, Heun(), grid, (5, 2)))


@pytest.mark.parametrize("s_noise", [1.0, 1.007])
def test_churn_adds_noise_by_variance(s_noise: float) -> None:
    """Trap 31: q(x_t' | x_t) after q(x_t | x0) is q(x_t' | x0), of variance ``sigma_t'²``; deviations do not add."""
    schedule, t = LinearBeta(), 500.0
    process = Gaussian(schedule)
    x0, rows = 0.7, 40_000
    sampler, grid = EDM(s_churn=2.0, s_noise=s_noise), Grid.custom([800.0, t, 200.0, 0.0])
    # The denoiser of a point at x0 leads to x_t = alpha x0 + sigma eps, with the eps of the start.
    eps = NoiseSource(5, range(rows)).normal((1,), "eps", dtype=F64)
    denoiser = Constant(process, torch.full((1,), x0, dtype=F64))
    state = sampler.start(float(schedule.alpha(800.0)) * x0 + float(schedule.sigma(800.0)) * eps, grid.times)
    while not bool((state.position == 1).all()):
        state = sampler.advance(state, denoiser.predict(*sampler.query(state)), NoiseSource(0, range(rows)))
    later, k = float(state.time()[0]), float((-0.5 * schedule.log_snr(t)).exp())
    assert float((-0.5 * schedule.log_snr(later)).exp()) == pytest.approx(k * math.sqrt(2) if 2 / 3 > 0.4142 else 0)
    a = float(schedule.alpha(later) / schedule.alpha(t))
    s2 = float(schedule.sigma(later)) ** 2 - a**2 * float(schedule.sigma(t)) ** 2
    expected = a**2 * float(schedule.sigma(t)) ** 2 + s_noise**2 * s2
    # the relative standard error of a variance of 40000 draws is 0.7 %
    assert float(state.x.var()) == pytest.approx(expected, rel=0.03)
    assert float(state.x.mean()) == pytest.approx(float(schedule.alpha(later)) * x0, abs=0.02)


def test_churn_stays_within_its_limits_and_the_chain() -> None:
    """gamma = min(churn / n, sqrt(2) - 1); none outside tmin … tmax, none at the first time, and never beyond T."""
    schedule = LinearBeta()
    denoiser, grid = _mixture(schedule), Grid.custom([1000, 990, *Grid.log_snr(schedule, 12).times[2:].tolist()])
    k = (-0.5 * schedule.log_snr(grid.times)).exp()
    assert k[1] * 1.2 > k[0]
    for options in ({"s_churn": 2.4}, {"s_churn": 50.0}, {"s_churn": 2.4, "s_tmin": 0.1, "s_tmax": 2.0}):
        sampler = EDM(**{"s_tmin": 0.0, "s_tmax": 1e9, **options})
        gamma = min(sampler.s_churn / 12, math.sqrt(2) - 1)
        counting = Counting(denoiser)
        sample(counting, sampler, grid, (1, 2), dtype=F64)
        asked = [float((-0.5 * schedule.log_snr(t[0])).exp()) for t in counting.times[::2]]
        inside = (k >= sampler.s_tmin) & (k <= sampler.s_tmax)
        expected = torch.where(inside, torch.minimum(k * (1 + gamma), k[0]), k)
        expected[0] = k[0]
        assert asked == pytest.approx(expected[:-1].tolist())


@pytest.mark.parametrize(
    "options", [{"s_churn": -1}, {"s_tmin": 2, "s_tmax": 1}, {"s_noise": 0}, {"s_churn": math.nan}], ids=str
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="s_churn is 0 or above"):
        EDM(**options)
    with pytest.raises(ValueError, match="1 or 2 stages"):
        DPMSDE(3)
