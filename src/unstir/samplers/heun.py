"""Heun's method on the probability-flow ODE: second order, two calls a step."""

from __future__ import annotations

from dataclasses import replace

import torch

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row
from unstir.shapes import Reals, Rows64, RowTable, Vector


class Heun(Sampler):
    """The trapezoidal rule along the angle ``phi = atan(sigma / alpha)``, around the DDIM step.

    On a variance-preserving path the probability-flow ODE is ``dx/dphi = v``. The DDIM step from t to s solves it exactly
    when x0 and eps do not change, so only v's deviation from that case is left to integrate:

        ``x_s = alpha_s x0 + sigma_s eps + (phi_s - phi_t)/2 · (v_s - (alpha_s eps - sigma_s x0))``

    with x0, eps predicted at t and v_s at the DDIM point. The angle is finite where alpha_t = 0, unlike the sigma / alpha
    of Karras et al. 2022 (alg. 1, whose trapezoid is the same to second order). A step to t = 0 is the DDIM step alone.
    """

    order = 2
    reference = "Karras et al. 2022, alg. 1, in the angle"

    def calls(self, steps: int) -> int:
        return 2 * steps - 1

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        halfway = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return replace(state, history={"halfway": halfway, "carried": torch.zeros_like(x)})

    def query(self, state: State) -> tuple[Reals, Rows64]:
        return state.x, state.time(state.history["halfway"].long())

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        schedule, s = prediction.process.schedule, state.time(1)
        alpha, sigma = per_row(schedule.alpha(s), state.x), per_row(schedule.sigma(s), state.x)
        halfway = state.history["halfway"]
        first_call = per_row(~halfway, state.x).bool()

        angle = torch.atan2(schedule.sigma(s), schedule.alpha(s)) - torch.atan2(
            schedule.sigma(state.time()), schedule.alpha(state.time())
        )
        corrected = state.x + per_row(angle / 2, state.x) * (prediction.v - state.history["carried"])
        x = torch.where(first_call, alpha * prediction.x0 + sigma * prediction.eps, corrected)

        carried = alpha * prediction.eps - sigma * prediction.x0
        finished = halfway | (s == 0)
        history = {"halfway": ~finished, "carried": carried}
        return replace(state, x=x, position=state.position + finished.long(), history=history)
