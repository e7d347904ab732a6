"""The schedules of the tests, and alpha_bar read from their betas by other means than the library's."""

from __future__ import annotations

import math

import numpy as np
import torch

from unstir.schedules import (
    Constant,
    Cosine,
    EDMSigma,
    FromBetas,
    InverseTime,
    Learned,
    LinearBeta,
    MonotoneLogSNR,
    Quadratic,
    Rescaled,
    Schedule,
    SigmoidAlphaBar,
    SigmoidBeta,
)

SCHEDULES: dict[str, Schedule] = {
    "linear-1000": LinearBeta(),
    "rescaled-50": LinearBeta.rescaled(50),
    "cosine-100": Cosine(100),
    "inverse-time-60": InverseTime(60),
    "from-betas": FromBetas(torch.tensor([0.001, 0.5, 0.02, 0.9, 0.3], dtype=torch.float64)),
}
ENDING_ABOVE_ZERO = {name: s for name, s in SCHEDULES.items() if not isinstance(s, InverseTime)}

CHAINS: dict[str, Schedule] = SCHEDULES | {
    "quadratic-1000": Quadratic(),
    "constant-200": Constant(200, 0.03),
    "sigmoid-in-beta-300": SigmoidBeta(300, 1e-3, 0.05),
    "sigmoid-in-alpha-bar-100": SigmoidAlphaBar(100),
    "sharp-sigmoid-in-alpha-bar-64": SigmoidAlphaBar(64, 0.0, 3.0, 0.7),
    "rescaled-sigmoid-9": SigmoidBeta.rescaled(9),
    "rescaled-inverse-time-7": Rescaled(InverseTime(60), 7),
    "learned-25": Learned(25, 0.002),
}
PRESERVING: dict[str, Schedule] = CHAINS | {
    "monotone-60": MonotoneLogSNR(60),
    "bent-monotone-9": MonotoneLogSNR(9, (-4.0, 6.0), interior=[[2.0, -3.0], [3.0, 30.0], [0.2, 0.7]]),
}
EXPLODING: dict[str, Schedule] = {
    "edm-18": EDMSigma(18),
    "edm-1000-rho-3": EDMSigma(1000, 0.01, 50, 3),
    "edm-1": EDMSigma(1),
}
EVERY: dict[str, Schedule] = PRESERVING | EXPLODING


class Curve:
    """``alpha_bar(t)`` as ``cumprod(1 - beta)``, its logarithm linear in between, itself linear down to a zero."""

    def __init__(self, schedule: Schedule) -> None:
        self.table = np.concatenate([[1.0], np.cumprod(1 - schedule.betas.detach().numpy())])

    def __call__(self, t: float) -> float:
        i = min(math.floor(t), len(self.table) - 2)
        below, above, part = self.table[i], self.table[i + 1], t - i
        if above == 0:
            return float(below * (1 - part))
        return float(below ** (1 - part) * above**part)
