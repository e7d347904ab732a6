"""Solvers of the probability-flow ODE against its exact solutions, on an interval that ends above t = 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import gaussian_denoiser, through
from tests.samplers import orders
from tests.samplers.solvers import DETERMINISTIC, EVERY
from unstir.denoisers import DenoiserBase
from unstir.processes import Gaussian
from unstir.samplers import DDIM, NAMES, Grid, Heun, Sampler, get
from unstir.samplers.multistep import Multistep
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
STEPS = (16, 32, 64)


def _solve(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, x: Tensor) -> Tensor:
    state = sampler.start(x, grid.times)
    while not bool(state.done.all()):
        x_t, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x_t, t), None)
    return state.x


def _slope(errors: list[float]) -> float:
    """Of log error against log step."""
    return float(np.polyfit(-np.log(STEPS), np.log(errors), 1)[0])


def _slope_of(sampler: Sampler, denoiser: DenoiserBase, first: float, last: float, x: Tensor, truth: Tensor) -> float:
    schedule = denoiser.process.schedule
    grids = [Grid(orders.evenly_in_angle(schedule, first, last, n)) for n in STEPS]
    return _slope([float((_solve(denoiser, sampler, grid, x) - truth).abs().max()) for grid in grids])


@pytest.mark.parametrize(("sampler", "low", "high"), [(Heun(), 1.85, 2.3), (DDIM(), 0.85, 1.15)], ids=["heun", "ddim"])
@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(500)], ids=["linear", "cosine"])
def test_order_on_gaussian_data(schedule: Schedule, sampler: Sampler, low: float, high: float) -> None:
    """Trap 16. The flow is known: it keeps each point's quantile."""
    m, v, curve = 0.4, 0.25, Curve(schedule)
    first, last = schedule.T * 0.9, schedule.T * 0.1
    x = torch.tensor([[-1.5], [0.2], [2.0]], dtype=F64)
    truth = torch.tensor([[gaussian.flow(float(u), curve(first), curve(last), m, v)] for u in x], dtype=F64)
    denoiser = through(gaussian_denoiser(Gaussian(schedule), m, v), "v")
    assert low <= _slope_of(sampler, denoiser, first, last, x, truth) <= high


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("case", orders.CASES.values(), ids=orders.CASES)
def test_every_solver_reaches_the_order_it_declares(name: str, case: orders.Case) -> None:
    """Trap 16, in eps, x0 and v; a published variant does not reach more than it declares, which is why it is not the default."""
    sampler = DETERMINISTIC[name]
    measured = orders.slopes(sampler, case)
    assert min(measured.values()) >= sampler.order - orders.TOLERANCE, measured
    if "published" in name:
        assert max(measured.values()) < get(name.partition(":")[0]).order - orders.TOLERANCE, measured


def test_the_order_table_leaves_out_no_solver() -> None:
    on_grids = {name for name in NAMES if get(name).continuous and not get(name).stochastic and get(name).calls(9)}
    assert {name.partition(":")[0] for name in DETERMINISTIC} == on_grids
    assert all(sampler.reference for sampler in EVERY.values())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_walk_may_begin_where_alpha_is_zero(name: str) -> None:
    """There log-SNR and sigma / alpha are infinite, and polynomials in them reach the error h² log h at best."""
    case, sampler = orders.Case(InverseTime(100), orders.evenly_in_angle, math.pi / 2), DETERMINISTIC[name]
    measured = orders.slopes(sampler, case, steps=(12, 36), forms=("x0", "v"))
    assert min(measured.values()) >= min(sampler.order, 2) - 0.6, measured


@pytest.mark.parametrize("name", ["dpm++3m", "unipc3", "unipc3:corrector=false", "pndm", "deis"])
def test_the_first_steps_are_good_enough_for_the_order(name: str) -> None:
    """Their error, which the walk keeps, falls with the step as fast as the whole walk's is declared to."""
    sampler, schedule = DETERMINISTIC[name], LinearBeta()
    assert isinstance(sampler, Multistep)
    widths, found = (0.04, 0.02, 0.01), []
    for width in widths:
        case = orders.Case(schedule, orders.evenly_in_angle, orders.FIRST, orders.FIRST - width * sampler.starts)
        found.append(orders.errors(sampler, case, [sampler.starts], ("v",))["v"][0])
    assert np.polyfit(np.log(widths), np.log(found), 1)[0] >= sampler.order - orders.TOLERANCE, found


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


def test_single_steps_split_at_any_grid_time_are_the_same_walk() -> None:
    schedule = LinearBeta()
    denoiser = orders.mixture(schedule)
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(2))
    times = Grid.uniform(schedule, 12).times
    for name in ("ddim", "euler", "heun", "dpm++2s", "dpm++3s"):
        sampler = DETERMINISTIC[name]
        half = _solve(denoiser, sampler, Grid(times[:6]), x)
        torch.testing.assert_close(
            _solve(denoiser, sampler, Grid(times[5:]), half), _solve(denoiser, sampler, Grid(times), x)
        )


def test_first_order_predictors_are_one() -> None:
    """DDIM under other names: trap 16, and to 1e-6 in float32."""
    schedule = LinearBeta()
    denoiser = orders.mixture(schedule)
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
    for grid in (Grid.trailing(schedule, 13), Grid.log_snr(schedule, 7)):
        expected = _solve(denoiser, DDIM(), grid, x)
        for sampler in (
            get("deis", order=1),
            get("deis:order=1,space=log-snr"),
            Multistep(1),
            Multistep(1, form="eps"),
        ):
            torch.testing.assert_close(_solve(denoiser, sampler, grid, x), expected, rtol=1e-6, atol=1e-6)
    # Every multistep method without a start of its own begins with it, and every one ends with it.
    for name in (
        "dpm++2m",
        "dpm++2m:published=true",
        "dpm++3m:published=true",
        "unipc2",
        "pndm:published=true",
        "deis:order=2",
    ):
        for times in ([900.0, 850.0], [40.0, 0.0]):
            expected = _solve(denoiser, DDIM(), Grid.custom(times), x)
            torch.testing.assert_close(
                _solve(denoiser, get(name), Grid.custom(times), x), expected, rtol=1e-6, atol=1e-6
            )


def test_predictors_that_are_one_formula_agree() -> None:
    """UniP-2 with B2(h) is DPM-Solver++ (2M), and UniP-3 is the corrected (3M) (Zhao et al. 2023, §3.4)."""
    schedule = LinearBeta()
    denoiser = orders.mixture(schedule)
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    grid = Grid.log_snr(schedule, 9)
    torch.testing.assert_close(
        *(_solve(denoiser, get(name), grid, x) for name in ("unipc2:corrector=false", "dpm++2m")),
        rtol=1e-10,
        atol=1e-12,
    )
