"""Multistep solvers: every step looks back at the answers of the steps before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row
from unstir.samplers.singlestep import Stages
from unstir.samplers.weights import Form, ddim, weights
from unstir.schedules import Schedule
from unstir.shapes import LeadingB, Reals, RowLabels, RowMask, Rows64, RowTable, Vector

STARTS = {1: Stages(), 2: Stages((1.0,)), 3: Stages((1 / 3, 2 / 3))}
"""How a multistep method of the next order starts: DDIM; Heun's method on the grid's own times; DPM-Solver++ (3S)."""


Others = list[tuple[Rows64, Reals]]
"""Answers with the times they were given at."""


class Multistep(Sampler):
    """``x_s = DDIM(x_t) + sum_j w_j (f_j - f_t)``, f_j the answers at t and at the times before it (see :mod:`.weights`).

    The first steps have too few answers behind them. They are single steps of one order less than the method, wherever the
    answers at hand do not give as much, so that the start costs no order; a step to t = 0 is the DDIM step, which is x0.

    Args:
        nodes: how many answers a step uses, its own included.
        start: the order of the first steps, see :data:`STARTS`.
        starts: how many there are; they cost ``start - 1`` calls more each.
        form: which answer: ``x0`` or ``eps``.
        options: of :func:`unstir.samplers.weights.weights`.
    """

    def __init__(self, nodes: int, start: int = 1, starts: int = 0, form: Form = "x0", **options: Any) -> None:
        self.nodes, self.kept, self.starts = nodes, nodes - 1, starts
        self.form: Form = form
        self.stages, self.options = STARTS[start], options
        self.between = any(place != 1 for place in self.stages.places) and starts > 0

    def calls(self, steps: int) -> int:
        return steps + len(self.stages.places) * min(self.starts, steps - 1)

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        history = {f"past {j}": torch.zeros_like(x) for j in range(1, self.kept + 1)}
        if self.starts:
            history |= self.stages.begin(x, state.time())
        return replace(state, history=history)

    def query(self, state: State) -> tuple[Reals, Rows64]:
        return state.x, state.history["at"] if self.starts else state.time()

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        schedule, answer = prediction.process.schedule, prediction.x0 if self.form == "x0" else prediction.eps
        x_t, kept = self.corrected(state, answer, schedule)
        x = ddim(schedule, x_t, prediction.x0, state.time(), state.time(1))
        if self.nodes > 1:
            behind = [(state.time(-j), state.history[f"past {j}"]) for j in range(1, self.nodes)]
            x = x + self.bent(schedule, state.time(), state.time(1), state.position, answer, behind)
        pushed = [answer, *(state.history[f"past {j}"] for j in range(1, self.kept + 1))]
        history = dict(state.history) | kept | {f"past {j}": pushed[j - 1] for j in range(1, self.kept + 1)}
        moved = replace(state, x=x, position=state.position + 1, history=history)
        if not self.starts:
            return moved
        moved.history.update({"stage": torch.zeros_like(state.position), "at": state.time(1)})
        starting = state.position < self.starts
        return self._with_starts(state, moved, starting, prediction) if bool(starting.any()) else moved

    def _with_starts(self, state: State, moved: State, starting: RowMask, prediction: Prediction) -> State:
        """``moved``, but for the rows that are still starting."""
        x, kept, ends = self.stages.move(state, prediction.x0, prediction.process.schedule)
        on_the_way = state.history["stage"] > 0  # an answer between the grid's times, or a second one there: not kept
        history = {
            name: _chosen(starting, kept[name], value)
            if name in kept
            else _chosen(on_the_way, state.history[name], value)
            for name, value in moved.history.items()
        }
        position = state.position + (ends | ~starting).long()
        return replace(moved, x=_chosen(starting, x, moved.x), position=position, history=history)

    def bent(self, schedule: Schedule, t: Rows64, s: Rows64, count: RowLabels, answer: Reals, others: Others) -> Reals:
        """``sum_j w_j (f_j - f_t)`` over the other answers, each with its times (B,), of which a row uses the first ``count``."""
        w = weights(schedule, t, s, torch.stack([at for at, _ in others], 1), count, form=self.form, **self.options)
        moved = (per_row(w[:, j], answer) * (other - answer) for j, (_, other) in enumerate(others))
        return sum(moved, torch.zeros_like(answer))

    def corrected(self, state: State, answer: Reals, schedule: Schedule) -> tuple[Reals, dict[str, LeadingB]]:
        """x at t once the answer there is known, and what is kept of it: of a method without a corrector, x and nothing."""
        return state.x, {}


def _chosen(rows: Tensor, this: Tensor, other: Tensor) -> Tensor:
    return torch.where(per_row(rows, this).bool(), this, other)


class DPMMultistep(Multistep):
    """DPM-Solver++(2M) and (3M): x0 as a polynomial in lambda = log(alpha / sigma) through the last two or three answers.

    (2M) is Lu et al. 2022b, alg. 2: ``x_s = DDIM(x_t; D)`` with ``D = x0_t + (x0_t - x0_r) h / (2 h_r)``, h the step in
    lambda and h_r the one before it, from r. (3M) integrates the parabola through three answers exactly. As commonly published, its
    second difference enters by half, which leaves the method second order; ``published=True`` is that one.

    (3M) starts with one step of Heun's method (the published one with a DDIM and a (2M) step).

    Args:
        order: 2 or 3.
        published: of (3M), the formula of second order. (2M) is the published one.
    """

    def __init__(self, order: int, published: bool = False) -> None:
        if order not in (2, 3):
            raise ValueError(f"multistep DPM-Solver++ has order 2 or 3, not {order}")
        self.reference = "Lu et al. 2022b, alg. 2"
        self.order = 2 if published else order
        if order == 2:
            super().__init__(2, line="half")
        elif published:
            self.reference = "Lu et al. 2022b, their code"
            super().__init__(3, line="half", second=0.5)
        else:
            self.reference = "Lu et al. 2022b, their code, corrected"
            super().__init__(3, start=2, starts=1)
