"""The fast solvers beside diffusers' schedulers, step by step, on the same answers.

Their schedulers are given the ratios sigma / alpha of our grid in float64, so that definitions are compared and not tables; what
they compute in float32 on the way sets the tolerance.

Where the definitions differ, and so are not compared, the order table (tests/samplers/orders.py) decides:

- (3M): their second difference enters by half, which makes the method second order. That is ``published=True`` here and is
  compared; the default is shown below to integrate a parabola exactly, where theirs does not.
- They lower the order on the last steps of short lists (``lower_order_final``), and begin UniPC and (3M) at lower order. Here the
  order drops on the step to t = 0 alone, and starts cost what they must.
- (3S): their second place is reached by the half rule, ours by the exact integral; both are third order.
- UniPC with B(h) = h: their step to t = 0 is infinity times nothing, NaN.
- PNDM begins with a pseudo-improved-Euler step, and takes its multistep mean of eps down to t = 0 as well, where one step of
  first order is all that is known. The steps in between are compared.
- Heun: theirs is the trapezoid in sigma / alpha, which is infinite at alpha = 0, ours the trapezoid in the angle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor

from tests.parity.test_diffusers_schedulers import SAYS, SCHEDULES, Given
from unstir.denoisers import Denoiser
from unstir.processes import Gaussian
from unstir.samplers import DPMMultistep, Grid, Sampler, State, UniPC, get
from unstir.schedules import LinearBeta, Schedule

diffusers = pytest.importorskip("diffusers")
F64 = torch.float64
N = 17  # from 15 steps on theirs do not lower the order before the last


def _answers(n: int) -> list[Tensor]:
    """What the network says at each step: noise of its own, so that every weight of every answer is seen."""
    return list(torch.randn(n + 1, 2, 3, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(0)))


def _our_walk(sampler: Sampler, schedule: Schedule, says: str, times: Tensor, raws: list[Tensor]) -> Iterator[State]:
    state = sampler.start(raws[-1], times)
    for raw in raws[:-1]:
        prediction = Denoiser(Given(raw), Gaussian(schedule), says).predict(*sampler.query(state))
        state = sampler.advance(state, prediction)
        yield state


def _theirs(kind: type, name: str, times: Tensor, **options: object):
    scheduler = kind(beta_start=1e-4, beta_end=0.02, beta_schedule=name, **options)
    scheduler.set_timesteps(len(times) - 1)
    schedule = SCHEDULES[name]
    scheduler.sigmas = schedule.sigma(times) / schedule.alpha(times)
    return scheduler


def _agree(sampler: Sampler, theirs, name: str, says: str, times: Tensor, last: int = N) -> None:
    raws = _answers(len(times) - 1)
    x = raws[-1]
    for i, state in enumerate(_our_walk(sampler, SCHEDULES[name], says, times, raws)):
        x = theirs.step(raws[i], theirs.timesteps[i], x).prev_sample
        if i < last:
            torch.testing.assert_close(state.x, x.to(F64), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("ours", "order"), [("ddim", 1), ("dpm++2m", 2), ("dpm++3m:published=true", 3)])
def test_dpm_multistep_agrees(ours: str, order: int, name: str, says: str) -> None:
    times = Grid.trailing(SCHEDULES[name], N).times
    options = {"prediction_type": SAYS[says], "solver_order": order}
    theirs = _theirs(diffusers.DPMSolverMultistepScheduler, name, times, **options)
    _agree(get(ours), theirs, name, says, times)


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("corrector", [True, False])
@pytest.mark.parametrize("p", [2, 3])
def test_unipc_agrees(p: int, corrector: bool, b: Literal[1, 2], says: str) -> None:
    name = "linear"
    times = Grid.trailing(SCHEDULES[name], N).times
    options = {"prediction_type": SAYS[says], "solver_order": p, "solver_type": f"bh{b}"}
    off = [] if corrector else list(range(N))
    theirs = _theirs(diffusers.UniPCMultistepScheduler, name, times, disable_corrector=off, **options)
    ours = UniPC(p, corrector, b)
    ours.starts = 0  # theirs begins with UniPC-1 and UniPC-2
    _agree(ours, theirs, name, says, times, last=N - 2 if p == 3 else N - 1 if b == 1 else N)


def test_dpm_singlestep_agrees() -> None:
    """Theirs takes its places from the grid: with times even in lambda, two of its steps are one of (2S)."""
    schedule = SCHEDULES["linear"]
    low, high = float(schedule.log_snr(900)), float(schedule.log_snr(300))
    times = schedule.time(torch.linspace(low, high, 7, dtype=F64))
    theirs = _theirs(diffusers.DPMSolverSinglestepScheduler, "linear", times, solver_order=2)
    raws = _answers(2)
    (_, state) = _our_walk(get("dpm++2s"), schedule, "eps", times[::2], raws)
    x = raws[-1]
    for i in range(2):
        x = theirs.step(raws[i], theirs.timesteps[i], x).prev_sample
    torch.testing.assert_close(state.x, x.to(F64), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_pndm_agrees(name: str) -> None:
    """With the fixed coefficients, once there is something to look back at."""
    schedule, n = SCHEDULES[name], 10
    times, raws = Grid.leading(schedule, n).times, _answers(n)
    theirs = diffusers.PNDMScheduler(beta_schedule=name, skip_prk_steps=True, set_alpha_to_one=True)
    theirs.set_timesteps(n)
    theirs.alphas_cumprod = schedule.alpha_bar[1:].clone()
    walk = list(_our_walk(get("pndm", published=True), schedule, "eps", times, raws))
    for i in range(1, n - 1):
        theirs.ets, theirs.counter = raws[max(0, i - 3) : i], 5
        x = theirs.step_plms(raws[i], int(times[i]) - 1, walk[i - 1].x).prev_sample
        torch.testing.assert_close(walk[i].x, x, rtol=1e-9, atol=1e-9)


def test_the_corrected_3m_integrates_a_parabola() -> None:
    """``sigma_s ∫ (1 + lambda²) e^lambda dlambda``, in closed form: theirs is off by half of its curved part."""
    schedule = LinearBeta()
    times = Grid.custom([700.0, 600.0, 480.0, 350.0]).times
    at = schedule.log_snr(times) / 2
    raws = [torch.full((1, 1), float(1 + u**2), dtype=F64) for u in at]
    states = list(_our_walk(get("dpm++3m:published=true"), schedule, "x0", times, raws))
    corrected = DPMMultistep(3)
    corrected.starts = 0
    state = list(_our_walk(corrected, schedule, "x0", times, raws))[-2:]

    def exact(x: float, a: float, b: float, t: Tensor, s: Tensor) -> float:
        integral = (b**2 - 2 * b + 3) * math.exp(b) - (a**2 - 2 * a + 3) * math.exp(a)
        return float(schedule.sigma(s) / schedule.sigma(t)) * x + float(schedule.sigma(s)) * integral

    ends = (float(at[2]), float(at[3]), times[2], times[3])
    assert float(state[1].x) == pytest.approx(exact(float(state[0].x), *ends), rel=1e-10)
    assert abs(float(states[2].x) - exact(float(states[1].x), *ends)) > 1e-3
