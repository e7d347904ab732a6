"""Single-step solvers of second and third order: DPM-Solver++(2S) and (3S), and how multistep ones start."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row
from unstir.samplers.weights import Line, between, ddim, weights
from unstir.schedules import Schedule
from unstir.shapes import Data, LeadingB, Reals, RowMask, Rows64, RowTable, Vector


@dataclass(frozen=True)
class Stages:
    """One step of an exponential Runge-Kutta method in lambda: a DDIM step, and others bent by what was found on the way.

    ``x_u = DDIM(x_t; t, u) + w (f_k - f_t)``, with f_k = x0 at the place looked at last, u the next place, in the end s.

    Args:
        places: where it looks between t (0) and s (1), as parts of the way in lambda; () is DDIM itself.
        line: how w is found, see :func:`unstir.samplers.weights.weights`.
    """

    places: tuple[float, ...] = ()
    line: Line = "exact"

    def begin(self, x: Data, times: Rows64) -> dict[str, LeadingB]:
        """What it keeps between calls, for rows at their first time."""
        rows = len(x)
        return {
            "stage": torch.zeros(rows, dtype=torch.long, device=x.device),
            "at": times,
            "base": x,
            "first": torch.zeros_like(x),
        }

    def move(self, state: State, x0: Reals, schedule: Schedule) -> tuple[Reals, dict[str, LeadingB], RowMask]:
        """The next point to look at, what is kept, and which rows have finished their step, from x0 at the last point."""
        kept, t, s = state.history, state.time(), state.time(1)
        stage, at = kept["stage"], kept["at"]
        fresh = per_row(stage == 0, x0).bool()
        base, first = torch.where(fresh, state.x, kept["base"]), torch.where(fresh, x0, kept["first"])
        ends = (stage == len(self.places)) | (s == 0)
        parts = torch.tensor([*self.places, 1.0], dtype=torch.float64, device=t.device)
        target = torch.where(ends, s, between(schedule, t, s, parts[stage.clamp(max=len(self.places))]))
        w = weights(schedule, t, target, at[:, None], (stage > 0).long(), line=self.line)
        x = ddim(schedule, base, first, t, target) + per_row(w[:, 0], x0) * (x0 - first)
        stage = torch.where(ends, 0, stage + 1)
        return x, {"stage": stage, "at": target, "base": base, "first": first}, ends


class DPMSinglestep(Sampler):
    """DPM-Solver++ with all its calls within one step: (2S) with places ``(1/2,)``, (3S) with ``(1/3, 2/3)``.

        ``x_u = DDIM(x_t; t, u)``, then ``x_s = DDIM(x_t; t, s) + w (x0(x_u) - x0(x_t))``; (3S) has one more of these on the way

    (2S) is Lu et al. 2022b, alg. 1, w half of what x0 itself weighs over the place. (3S) is the third-order method of Lu et al.
    2022a (alg. 2) for x0 in place of eps, w the integral of ``(lambda - lambda_t) / (lambda_u - lambda_t)``: third order because the
    last place is 2/3. A step from alpha_t = 0 runs in asinh(alpha / sigma). A step to t = 0 is the DDIM step alone. The places lie
    between the grid's times.

    Args:
        order: 2 or 3.
    """

    between = True

    def __init__(self, order: int) -> None:
        if order not in (2, 3):
            raise ValueError(f"single-step DPM-Solver++ has order 2 or 3, not {order}")
        self.order = order
        self.stages = Stages((1 / 2,), "half") if order == 2 else Stages((1 / 3, 2 / 3))
        self.reference = "Lu et al. 2022b, alg. 1" if order == 2 else "Lu et al. 2022a, alg. 2, for x0"

    def calls(self, steps: int) -> int:
        return self.order * (steps - 1) + 1

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        return replace(state, history=self.stages.begin(x, state.time()))

    def query(self, state: State) -> tuple[Reals, Rows64]:
        return state.x, state.history["at"]

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        x, history, ends = self.stages.move(state, prediction.x0, prediction.process.schedule)
        return replace(state, x=x, position=state.position + ends.long(), history=history)
