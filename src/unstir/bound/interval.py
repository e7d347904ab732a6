"""Confidence intervals of means, by Student's t: few values tell little about how much they differ."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from unstir.shapes import Vector

Z95 = 1.96
"""95 % of the standard normal lies within."""


def mean_interval(values: Vector, z: float = Z95) -> tuple[float, float]:
    """Mean of independent values, and half of the interval that holds their expectation: ``t sd / sqrt(n)``.

    t is Student's quantile of n - 1 degrees of freedom that leaves as much outside as z does of the standard normal (95 % by
    default). Exact for values that are normal, and near it for many of any kind. A single value has an infinite interval.

    Raises:
        ValueError: without a value.
    """
    n = len(values)
    if not n:
        raise ValueError("an interval needs at least one value")
    values = values.double()
    half = student(z, n - 1) * float(values.std()) / math.sqrt(n) if n > 1 else math.inf
    return float(values.mean()), half


@lru_cache(maxsize=256)
def student(z: float, freedom: float) -> float:
    """The quantile of Student's t beyond which lies as much as beyond z in the standard normal."""
    if not 0 < freedom < 1e4:
        return z
    # With t = sqrt(freedom) tan(angle) the density of the angle is cos(angle)^(freedom - 1), on a quarter turn.
    angle = torch.linspace(0, math.pi / 2, 100_001, dtype=torch.float64)[:-1]
    density = angle.cos() ** (freedom - 1)
    within = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(density, angle)])
    place = int(torch.searchsorted(within, math.erf(z / math.sqrt(2)) * within[-1]))
    return math.sqrt(freedom) * math.tan(float(angle[min(place, len(angle) - 1)]))


def within(value: float, half: float) -> str:
    """A number and half of its interval, to two digits of the latter."""
    digits = max(0, 1 - math.floor(math.log10(half))) if 0 < half < math.inf else 4
    return f"{round(value, digits) + 0.0:,.{digits}f} ± {half:,.{digits}f}".replace("-", "−")
