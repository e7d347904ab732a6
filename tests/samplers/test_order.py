"""Solvers of the probability-flow ODE against its exact solutions, on an interval that ends above t = 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import gaussian_denoiser, through
from unstir.denoisers import DenoiserBase, GaussianMixtureDenoiser
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Grid, Heun, Sampler
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
STEPS = (16, 32, 64, 128)


def _solve(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, x: Tensor) -> Tensor:
    state = sampler.start(x, grid.times)
    while not bool(state.done.all()):
        x_t, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x_t, t), None)
    return state.x


def _even_angles(schedule: Schedule, first: float, last: float, n: int) -> Grid:
    """Equal steps in ``phi = atan(sigma / alpha)``, in which the ODE is smooth whatever the schedule's kinks."""
    first, last = (float(torch.atan2(schedule.sigma(t), schedule.alpha(t))) for t in (first, last))
    phi = torch.linspace(first, last, n + 1, dtype=F64)
    return Grid(schedule.time(-2 * phi.tan().log()))


def _slope(errors: list[float]) -> float:
    """Of log error against log step."""
    return float(np.polyfit(-np.log(STEPS), np.log(errors), 1)[0])


def _slope_of(sampler: Sampler, denoiser: DenoiserBase, first: float, last: float, x: Tensor, truth: Tensor) -> float:
    schedule = denoiser.process.schedule
    grids = [_even_angles(schedule, first, last, n) for n in STEPS]
    return _slope([float((_solve(denoiser, sampler, grid, x) - truth).abs().max()) for grid in grids])


@pytest.mark.parametrize("says", ["eps", "x0", "v"])
@pytest.mark.parametrize(("sampler", "low", "high"), [(Heun(), 1.85, 2.3), (DDIM(), 0.85, 1.15)], ids=["heun", "ddim"])
@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(500)], ids=["linear", "cosine"])
def test_order_on_gaussian_data(schedule: Schedule, sampler: Sampler, low: float, high: float, says: str) -> None:
    """Trap 16. The flow is known: it keeps each point's quantile."""
    m, v, curve = 0.4, 0.25, Curve(schedule)
    first, last = schedule.T * 0.9, schedule.T * 0.1
    x = torch.tensor([[-1.5], [0.2], [2.0]], dtype=F64)
    truth = torch.tensor([[gaussian.flow(float(u), curve(first), curve(last), m, v)] for u in x], dtype=F64)
    denoiser = through(gaussian_denoiser(Gaussian(schedule), m, v), says)
    assert low <= _slope_of(sampler, denoiser, first, last, x, truth) <= high


def _mixture(schedule: Schedule) -> GaussianMixtureDenoiser:
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.2], [0.0, 1.0]], dtype=F64)
    covariances = torch.tensor(
        [[[0.2, 0.05], [0.05, 0.1]], [[0.1, 0.0], [0.0, 0.3]], [[0.15, -0.1], [-0.1, 0.2]]], dtype=F64
    )
    return GaussianMixtureDenoiser(Gaussian(schedule), torch.tensor([0.2, 0.5, 0.3], dtype=F64), means, covariances)


def _reference(denoiser: GaussianMixtureDenoiser, first: float, last: float, x: Tensor) -> Tensor:
    """The ODE ``dx/dphi = v`` by an eighth-order method, with v from numpy's own densities."""
    schedule = denoiser.process.schedule
    weights = np.array([0.2, 0.5, 0.3])
    means = denoiser.means.numpy()
    covariances = torch.einsum("kde,ke,kfe->kdf", denoiser.axes, denoiser.spectrum, denoiser.axes).numpy()

    def velocity(phi: float, flat: np.ndarray) -> np.ndarray:
        alpha, sigma = np.cos(phi), np.sin(phi)
        points, x0, total = flat.reshape(-1, 2), 0.0, 0.0
        for w, m, c in zip(weights, means, covariances):
            spread = alpha**2 * c + sigma**2 * np.eye(2)
            away = points - alpha * m
            solved = np.linalg.solve(spread, away.T).T
            density = w * np.exp(-0.5 * (away * solved).sum(1, keepdims=True)) / np.sqrt(np.linalg.det(spread))
            x0 = x0 + density * (m + alpha * solved @ c)
            total = total + density
        x0 = x0 / total
        eps = (points - alpha * x0) / sigma
        return (alpha * eps - sigma * x0).ravel()

    phis = [float(torch.atan2(schedule.sigma(t), schedule.alpha(t))) for t in (first, last)]
    solution = solve_ivp(velocity, phis, x.numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-13)
    return torch.tensor(solution.y[:, -1]).reshape(-1, 2)


@pytest.mark.parametrize("says", ["eps", "x0", "v"])
@pytest.mark.parametrize(("sampler", "low", "high"), [(Heun(), 1.8, 2.4), (DDIM(), 0.8, 1.25)], ids=["heun", "ddim"])
def test_order_on_a_mixture(sampler: Sampler, low: float, high: float, says: str) -> None:
    schedule = LinearBeta()
    exact = _mixture(schedule)
    x = 0.8 * torch.randn(12, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    truth = _reference(exact, 950.0, 120.0, x)
    assert low <= _slope_of(sampler, through(exact, says), 950.0, 120.0, x, truth) <= high


def test_heun_starts_where_alpha_is_zero() -> None:
    """In the angle the ODE is regular at alpha_T = 0, where sigma / alpha is infinite."""
    schedule = InverseTime(100)
    exact = _mixture(schedule)
    x = 0.8 * torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    truth = _reference(exact, 100.0, 20.0, x)
    assert 1.8 <= _slope_of(Heun(), through(exact, "v"), 100.0, 20.0, x, truth) <= 2.4


def test_one_heun_step_is_exact_to_third_order() -> None:
    """The local error of a second-order method falls with the cube of the step."""
    schedule, m, v = LinearBeta(), 0.4, 0.25
    curve, denoiser = Curve(schedule), gaussian_denoiser(Gaussian(LinearBeta()), 0.4, 0.25)
    x, errors, steps = torch.tensor([[1.3]], dtype=F64), [], []
    for width in (80.0, 40.0, 20.0, 10.0):
        grid = Grid.custom([500.0, 500.0 - width])
        phi = torch.atan2(schedule.sigma(grid.times), schedule.alpha(grid.times))
        steps.append(float(phi[0] - phi[1]))
        truth = gaussian.flow(1.3, curve(500.0), curve(500.0 - width), m, v)
        errors.append(abs(float(_solve(denoiser, Heun(), grid, x)) - truth))
    assert 2.8 <= np.polyfit(np.log(steps), np.log(errors), 1)[0] <= 3.2


def test_there_and_back_again() -> None:
    """Deterministic walks split at any grid time are the same walk."""
    schedule = LinearBeta()
    denoiser = _mixture(schedule)
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    times = Grid.uniform(schedule, 12).times
    for sampler in (DDIM(), Heun()):
        half = _solve(denoiser, sampler, Grid(times[:6]), x)
        torch.testing.assert_close(
            _solve(denoiser, sampler, Grid(times[5:]), half), _solve(denoiser, sampler, Grid(times), x)
        )
