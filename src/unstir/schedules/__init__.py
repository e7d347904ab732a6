"""Schedules: how fast the chain forgets.

A schedule is the pair of functions ``alpha(t), sigma(t)`` that scale signal and noise, ``x_t = alpha_t x0 + sigma_t eps``,
for real times ``0 <= t <= T`` with 0 clean and T noise. Most preserve variance, ``alpha² + sigma² = 1``, and are given by the
table ``alpha_bar_t = alpha_t²`` of a discrete chain; one explodes, and two learn.
"""

from __future__ import annotations

from typing import Any

from unstir.schedules.base import PRIOR_KL_LIMIT, Schedule, Time, VariancePreserving
from unstir.schedules.chains import (
    Chain,
    Constant,
    Cosine,
    FromBetas,
    InverseTime,
    LinearBeta,
    Quadratic,
    Rescaled,
    SigmoidAlphaBar,
    SigmoidBeta,
)
from unstir.schedules.curves import Curves, schedule_curves
from unstir.schedules.exploding import EDMSigma
from unstir.schedules.learned import Learned, MonotoneLogSNR

__all__ = [
    "NAMES",
    "PRIOR_KL_LIMIT",
    "Chain",
    "Constant",
    "Cosine",
    "Curves",
    "EDMSigma",
    "FromBetas",
    "InverseTime",
    "Learned",
    "LinearBeta",
    "MonotoneLogSNR",
    "Quadratic",
    "Rescaled",
    "Schedule",
    "SigmoidAlphaBar",
    "SigmoidBeta",
    "Time",
    "VariancePreserving",
    "from_description",
    "schedule_curves",
]

_BY_NAME: dict[str, type[Schedule]] = {
    "linear_beta": LinearBeta,
    "cosine": Cosine,
    "inverse_time": InverseTime,
    "sigmoid_alpha_bar": SigmoidAlphaBar,
    "sigmoid_beta": SigmoidBeta,
    "constant": Constant,
    "quadratic": Quadratic,
    "edm_sigma": EDMSigma,
    "rescaled": Rescaled,
    "learned": Learned,
    "monotone_log_snr": MonotoneLogSNR,
    "from_betas": FromBetas,
}
NAMES = tuple(_BY_NAME)


def from_description(description: dict[str, Any]) -> Schedule:
    """The schedule whose :meth:`Schedule.describe` gave this: a ``name``, and the arguments of that class.

    Raises:
        ValueError: for a name that no schedule has.
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in _BY_NAME:
        raise ValueError(f"no schedule is called {name!r}; there are {', '.join(NAMES)}")
    return _BY_NAME[name](**arguments)
