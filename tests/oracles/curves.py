"""The schedules of the tests, and alpha_bar read from their betas by other means than the library's."""

from __future__ import annotations

import math

import numpy as np
import torch

from unstir.schedules import Cosine, FromBetas, InverseTime, LinearBeta, Schedule

SCHEDULES: dict[str, Schedule] = {
    "linear-1000": LinearBeta(),
    "rescaled-50": LinearBeta.rescaled(50),
    "cosine-100": Cosine(100),
    "inverse-time-60": InverseTime(60),
    "from-betas": FromBetas(torch.tensor([0.001, 0.5, 0.02, 0.9, 0.3], dtype=torch.float64)),
}
ENDING_ABOVE_ZERO = {name: s for name, s in SCHEDULES.items() if not isinstance(s, InverseTime)}


class Curve:
    """``alpha_bar(t)`` as ``cumprod(1 - beta)``, its logarithm linear in between, itself linear down to a zero."""

    def __init__(self, schedule: Schedule) -> None:
        self.table = np.concatenate([[1.0], np.cumprod(1 - schedule.betas.numpy())])

    def __call__(self, t: float) -> float:
        i = min(math.floor(t), len(self.table) - 2)
        below, above, part = self.table[i], self.table[i + 1], t - i
        if above == 0:
            return float(below * (1 - part))
        return float(below ** (1 - part) * above**part)
