"""DPM-Solver++ for the diffusion SDE: noise of a Brownian path that does not know how many steps are taken.

In ``y = x_t alpha_t / sigma_t²`` and the time ``q = alpha_t² / sigma_t²``, the SNR, the reverse SDE of the chain is

    ``dy = x0(x_t, t) dq + dW(q)``

with W a standard Brownian motion (Lu et al. 2022b, eq. 18, after the change of variables). So the noise of a step is
``W(q_s) - W(q_t)``, however large the step, and only x0 has to be approximated on it. Steps may be too small: where q_s is
within 0.6 % of q_t, two times share a leaf of the path (see :meth:`NoiseSource.brownian`) and less noise comes than should; a
thousand steps are about the most.

    ``x_s = (alpha_t sigma_s² / (alpha_s sigma_t²)) x_t + alpha_s (1 - q_t/q_s) x0 + (sigma_s² / alpha_s) (W(q_s) - W(q_t))``

W is read from :meth:`NoiseSource.brownian`: walks of one sample with few steps, with many, and with another grid follow
the same path, and come closer to each other as the steps shrink (strong order 1). At alpha_t = 0, q is 0 and nothing is special.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row, source
from unstir.samplers.weights import between
from unstir.schedules import Schedule
from unstir.shapes import Data, Reals, Rows64, RowTable, Vector


class DPMSDE(Sampler):
    """SDE-DPM-Solver++ with its calls within one step: 2S, or the first-order step.

    One stage takes x0 as it is at t: with Gaussian noise this is the ancestral chain with ``small`` variance, and DDIM with
    eta = 1, of weak order 1. Two stages take x0 at the middle of the step in log-SNR, reached by that step along the same
    path, of weak order 2; from alpha_t = 0, at the middle in asinh(alpha / sigma). Both have strong order 1.

    What is known as "DPM++ SDE" is the one with two stages. Its usual code adds the noise of DDIM's eta to a solver of the ODE;
    this one solves the SDE. A step to t = 0 returns x0.

    Args:
        stages: calls in a step, 1 or 2.
    """

    stochastic = True
    reference = "Lu et al. 2022b, §5"

    def __init__(self, stages: int = 2) -> None:
        if stages not in (1, 2):
            raise ValueError(f"a step of this SDE solver has 1 or 2 stages, not {stages}")
        self.order = self.stages = stages
        self.between = stages > 1

    def calls(self, steps: int) -> int:
        return self.stages * (steps - 1) + 1

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        halfway = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        history = {"halfway": halfway, "at": state.time(), "base": x, "path": torch.zeros_like(x, dtype=torch.float64)}
        return replace(state, history=history)

    def query(self, state: State) -> tuple[Data, Rows64]:
        return state.x, state.history["at"]

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        schedule, halfway, t, s = prediction.process.schedule, state.history["halfway"], state.time(), state.time(1)
        ends = halfway | (s == 0) | (self.stages == 1)
        target = torch.where(ends, s, between(schedule, t, s, torch.full_like(t, 0.5)))
        base = torch.where(per_row(halfway, state.x).bool(), state.history["base"], state.x)
        here, there = _path(schedule, state, (state.position == 0) & ~halfway, target, noise)
        x = _step(schedule, base, prediction.x0, there - here, t, target)
        path = torch.where(per_row(ends, here).bool(), there, here)
        history = {"halfway": ~ends, "at": target, "base": base, "path": path}
        return replace(state, x=x, position=state.position + ends.long(), history=history)


class DPMMultistepSDE(Sampler):
    """SDE-DPM-Solver++(2M): x0 drawn on along the line through the last two answers, ``x0_t + (x0_t - x0_r) h / (2 h_r)``.

    h is the step in lambda = log(alpha / sigma), and h_r the one before it, from r. Weak order 2, strong order 1. The first step
    takes x0 as it is, and so does one whose r has alpha_r = 0, where lambda is infinite; a step to t = 0 returns x0.
    """

    order = 2
    stochastic = True
    reference = "Lu et al. 2022b, §5"

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        history = {"before": torch.zeros_like(x), "path": torch.zeros_like(x, dtype=torch.float64)}
        return replace(super().start(x, times), history=history)

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        schedule, t, s = prediction.process.schedule, state.time(), state.time(1)
        r_level, t_level, s_level = (schedule.log_snr(time) for time in (state.time(-1), t, s))
        single = (state.position == 0) | (s == 0)
        further = torch.where(single, 0.0, (s_level - t_level) / (2 * (t_level - r_level)))
        x0 = prediction.x0 + per_row(further, state.x) * (prediction.x0 - state.history["before"])
        here, there = _path(schedule, state, state.position == 0, s, noise)
        x = _step(schedule, state.x, x0, there - here, t, s)
        return replace(state, x=x, position=state.position + 1, history={"before": prediction.x0, "path": there})


def _step(schedule: Schedule, x: Tensor, x0: Tensor, increment: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The step from t to s that is exact while x0 does not change; the increment is the path's, float64."""
    alpha, variance = schedule.alpha(s), schedule.sigma(s) ** 2
    kept = (schedule.alpha(t) / schedule.sigma(t) ** 2) * (variance / alpha)
    fresh = -alpha * torch.expm1(schedule.log_snr(t) - schedule.log_snr(s))
    noise = per_row(variance / alpha, increment) * increment
    return per_row(kept, x) * x + per_row(fresh, x) * x0 + noise.to(x.dtype)


def _path(
    schedule: Schedule, state: State, begins: Tensor, s: Tensor, noise: NoiseSource | None
) -> tuple[Tensor, Tensor]:
    """W at the SNR of t, kept from the step before except for rows that begin, and at that of s; the same twice at s = 0."""
    noise, shape, here = source(noise), state.x.shape[1:], state.history["path"]
    q = schedule.log_snr(state.time()).exp()
    if bool(begins.any()):
        here = torch.where(per_row(begins, here).bool(), noise.brownian(shape, "path", q, dtype=torch.float64), here)
    ends = s == 0
    if bool(ends.all()):
        return here, here
    there = noise.brownian(shape, "path", torch.where(ends, q, schedule.log_snr(s).exp()), dtype=torch.float64)
    return here, torch.where(per_row(ends, here).bool(), here, there)
