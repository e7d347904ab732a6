"""The probability-flow ODE with steps that each row chooses for itself, by a tolerance."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row
from unstir.schedules import Schedule
from unstir.shapes import Data, Rows64, RowTable, Vector

_SMALLEST = 1e-6  # step in u; a smooth flow never needs it
_MOST = 3000  # calls of one row; a flow worth the wait needs a few dozen
_FIRST = 0.1  # of the way, tried as the first step

# Bogacki & Shampine 1989, 3(2): where the stages lie, what they weigh, and the weights of third less those of second order. The
# first stage's slope is 0 here, and the last one's opens the next step.
_NODES = (0.5, 0.75, 1.0)
_STAGES = ((0.0, 0.0), (0.75, 0.0), (1 / 3, 4 / 9))
_ERROR = (1 / 12, 1 / 9, -1 / 8)


class Adaptive(Sampler):
    """``d(x_t/r)/du = sigma_t v / r²``, with ``u = -asinh(alpha_t / sigma_t)`` and ``r² = alpha_t² + sigma_t²``.

    Solved by an embedded pair of order 3(2). Every step is a DDIM step, exact while x0 and eps do not change, and the pair
    integrates what v deviates from that: three calls a step, and one more at the start. A step is kept if the root mean
    square of ``error / (atol + rtol |x_t/r|)`` over a row's numbers is at most 1, and otherwise made anew with a smaller one. Each row
    has steps of its own, so that its sample does not depend on the rows beside it; rows that have arrived wait for the
    others, and their calls are spent for nothing.

    The walk leads from the grid's first time to its last, and takes no notice of those between. To t = 0, where eps is 0/0, the
    ODE is solved down to ``last`` and the rest is the step to x0 that every solver takes.

    Args:
        rtol, atol: the tolerance, of x_t/r, which is of the size of the data or of 1.
        last: the time from which the step to t = 0 leads; 1 is the least that networks of whole times know.

    Raises:
        ValueError: where the flow is so rough, or so large, that no step meets the tolerance.
    """

    order = 3
    between = True
    reference = "Bogacki & Shampine 1989, around the step of Song, Meng & Ermon 2021"

    def __init__(self, rtol: float = 0.01, atol: float = 0.01, last: float = 1.0) -> None:
        if not (0 <= rtol < math.inf and 0 < atol < math.inf and 0 < last < math.inf):
            raise ValueError(f"rtol is 0 or above, atol and last are above 0, unlike {rtol=}, {atol=}, {last=}")
        self.rtol, self.atol, self.last = rtol, atol, last

    def calls(self, steps: int) -> None:
        """Nobody knows beforehand: 1 + 3 for each step that was tried, of the row that tries most."""
        return

    def start(self, x: Data, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        t, nothing = state.time(), torch.zeros_like(x)
        history = {
            "stage": torch.zeros_like(state.position),
            "asked": torch.zeros_like(state.position),
            "at": t,
            "u": torch.zeros_like(t),
            "step": torch.zeros_like(t),
            **dict.fromkeys(("x0", "eps", "second", "third"), nothing),
        }
        return replace(state, history=history)

    def query(self, state: State) -> tuple[Data, Rows64]:
        return state.x, state.history["at"]

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        schedule, kept, x = prediction.process.schedule, state.history, state.x
        first, final = state.times[:, 0], state.times[:, -1]
        to = torch.where(final > 0, final, first.clamp(max=self.last))
        end = _place(schedule, to)
        begins = kept["stage"] == 0
        u = torch.where(begins, _place(schedule, first), kept["u"])
        step = torch.where(begins, (u - end) * _FIRST, kept["step"])

        # How far the slope is from that of a step on which x0 and eps stay as they were, and what was found before.
        here = torch.where(begins, u, u - step * _of(_NODES, kept["stage"] - 1))
        cos, sin = (per_row(part, x) for part in _angle(here))
        away = cos * (prediction.eps - kept["eps"]) - sin * (prediction.x0 - kept["x0"])
        slope = sin * away
        second, third = (_if(kept["stage"] == k, slope, kept[name]) for k, name in ((1, "second"), (2, "third")))

        # After the last stage the step is kept or not; either way its error says how large the next one may be.
        judged = kept["stage"] == 3
        before = _blend(u, kept["x0"], kept["eps"])
        now = x / per_row(torch.hypot(schedule.alpha(kept["at"]), schedule.sigma(kept["at"])), x)
        scale = self.atol + self.rtol * torch.maximum(before.abs(), now.abs())
        error = sum(weight * k for weight, k in zip(_ERROR, (second, third, slope))) * per_row(step, x)
        worst = (error / scale).double().square().flatten(1).mean(1).sqrt().nan_to_num(nan=math.inf, posinf=math.inf)
        taken = judged & (worst <= 1)
        asked = kept["asked"] + (~state.done).long()
        self._refuse(judged & ~taken & ~state.done & (step < _SMALLEST) | (asked > _MOST))
        arrives = (begins | taken) & (torch.where(taken, here, u) <= end)

        u = torch.where(taken, here, u)
        left = u - end
        step = torch.where(judged, step * (0.9 * worst ** (-1 / 3)).clamp(0.2, 5), step)
        step = torch.where((begins | judged) & (step >= left * (1 - 1e-9)), left, step)
        x0, eps = (
            _if(begins | taken, new, kept[name]) for new, name in ((prediction.x0, "x0"), (prediction.eps, "eps"))
        )

        # The next point to look at: the first stage of a step, or the one after this.
        stage = torch.where(begins | judged, 0, kept["stage"])
        there = u - step * _of(_NODES, stage)
        last = (stage == 2) & (step >= left)
        at = schedule.time(2 * torch.sinh(-there).log())
        at = torch.where(last, to, torch.minimum(torch.maximum(at, to), first))
        for_second, for_third = (per_row(_of([row[k] for row in _STAGES], stage) * step, x) for k in (0, 1))
        y = _blend(there, x0, eps) - for_second * second - for_third * third
        following = y * per_row(torch.hypot(schedule.alpha(at), schedule.sigma(at)), x)

        following = _if(arrives, torch.where(per_row(final > 0, x).bool(), x, prediction.x0), following)
        history = {
            "stage": torch.where(arrives, 1, stage + 1),
            "asked": asked,
            "at": torch.where(arrives, to, at),
            "u": u,
            "step": step,
            "x0": x0,
            "eps": eps,
            "second": second,
            "third": third,
        }
        history = {name: _if(state.done, kept[name], value) for name, value in history.items()}
        position = torch.where(arrives, state.times.shape[1] - 1, state.position)
        return replace(
            state,
            x=_if(state.done, x, following),
            position=torch.where(state.done, state.position, position),
            history=history,
        )

    @staticmethod
    def _refuse(hopeless: Tensor) -> None:
        if bool(hopeless.any()):
            raise ValueError(
                "the flow is too rough for its tolerance, or the network's answers are not finite: loosen rtol and atol, end at a "
                "later time, or take a solver with a fixed number of steps"
            )


def _place(schedule: Schedule, t: Tensor) -> Tensor:
    """u at some times, (B,)."""
    return -torch.asinh(schedule.alpha(t) / schedule.sigma(t))


def _angle(u: Tensor) -> tuple[Tensor, Tensor]:
    """``alpha / r`` and ``sigma / r``."""
    return torch.tanh(-u), 1 / torch.cosh(u)


def _blend(u: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """x_t / r for a pair (x0, eps)."""
    cos, sin = _angle(u)
    return per_row(cos, x0) * x0 + per_row(sin, x0) * eps


def _of(values: tuple[float, ...] | list[float], which: Tensor) -> Tensor:
    """One of the values for each row, float64 (B,)."""
    return torch.tensor(values, dtype=torch.float64, device=which.device)[which.clamp(min=0, max=len(values) - 1)]


def _if(rows: Tensor, these: Tensor, those: Tensor) -> Tensor:
    return torch.where(per_row(rows, these).bool(), these, those)
