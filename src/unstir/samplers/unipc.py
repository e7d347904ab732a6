"""UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that costs no call of its own."""

from __future__ import annotations

from typing import Literal

import torch

from unstir.samplers.base import State, per_row
from unstir.samplers.multistep import Multistep
from unstir.samplers.weights import ddim
from unstir.schedules import Schedule
from unstir.shapes import LeadingB, Reals, RowTable, Vector


class UniPC(Multistep):
    """``x_s = DDIM(x_t) + sum_j w_j (x0_j - x0_t)`` twice: before x0_s is known (UniP-p), and again once it is, with it (UniC-p).

    The polynomials in lambda are those of Zhao et al. 2023 (algs. 1, 2, for x0): p answers predict at order p, and with the new one
    correct at order p + 1. The new answer, made at the predicted x_s, also serves the step after. Only where one straight line
    is integrated, in UniP-2 and UniC-1, is there a choice, their B(h): the exact integral would be a third.

    UniPC-3 with its corrector starts with one step of DPM-Solver++ (3S), as its fourth order needs; without it, with one of Heun's
    method. The step to t = 0 is DDIM alone, from a corrected x.

    Args:
        p: 2 or 3; the order is p + 1 with the corrector and p without it.
        b: 2 for ``B(h) = e^h - 1``, 1 for ``B(h) = h``.
    """

    reference = "Zhao et al. 2023, algs. 1, 2, for x0"

    def __init__(self, p: int, corrector: bool = True, b: Literal[1, 2] = 2) -> None:
        if p not in (2, 3):
            raise ValueError(f"UniPC comes with p = 2 or 3, not {p}")
        if b not in (1, 2):
            raise ValueError(f"UniPC's B(h) is 1, h itself, or 2, e^h - 1, not {b}")
        self.order, self.corrector = p + corrector, corrector
        super().__init__(p, start=self.order - 1, starts=p - 2, line="half" if b == 2 else "end")
        self.kept = p if corrector else p - 1

    def start(self, x: Reals, times: Vector | RowTable) -> State:
        state = super().start(x, times)
        if self.corrector:
            state.history["base"] = x
        return state

    def corrected(self, state: State, answer: Reals, schedule: Schedule) -> tuple[Reals, dict[str, LeadingB]]:
        if not self.corrector:
            return state.x, {}
        past = [state.history[f"past {j}"] for j in range(1, self.kept + 1)]
        before, t = state.time(-1), state.time()
        others = [(t, answer), *((state.time(-j), past[j - 1]) for j in range(2, self.kept + 1))]
        x = ddim(schedule, state.history["base"], past[0], before, t)
        x = x + self.bent(schedule, before, t, state.position, past[0], others)
        # The first point is given, and single steps end where they should.
        x = torch.where(per_row(state.position > self.starts, x).bool(), x, state.x)
        return x, {"base": x}
