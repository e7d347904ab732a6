"""How well a score tells two sets apart: the area under the ROC curve, by ranks, and how sure it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from unstir.bound.interval import Z95


class Auroc(NamedTuple):
    """The area, and the interval that holds it."""

    value: float
    low: float
    high: float


def auroc(strange: np.ndarray, usual: np.ndarray, z: float = Z95) -> Auroc:
    """``P(s > u) + P(s = u) / 2`` for a strange score s and a usual one u: 1/2 tells nothing, 1 everything.

    The variance is that of DeLong, DeLong & Clarke-Pearson (1988): of each score's share of the other set that it lies on the
    right side of, ``var / m + var / n``. The interval is even on the scale of ``log(A / (1 - A))``, so that it stays within 0 … 1
    (Pepe 2003, §5.2.4). Where the sets do not overlap at all this variance is 0, which says too much: there the interval is
    the exact binomial one of the min(m, n) pairs that share no item.

    Args:
        strange, usual: scores, (m,) and (n,), two at least of each.
        z: how much is within, 95 % by default.

    Raises:
        ValueError: for fewer, and for scores that are not a number.
    """
    m, n = len(strange), len(usual)
    if min(m, n) < 2:
        raise ValueError(f"an area takes two items at least on each side, not {m} and {n}")
    both = np.concatenate([np.asarray(strange, np.float64), np.asarray(usual, np.float64)])
    if np.isnan(both).any():
        raise ValueError("some of the scores are not a number")
    ranks = _ranks(both)
    above = (ranks[:m] - _ranks(both[:m])) / n  # of the usual ones, the share below this strange one (Sun & Xu 2014)
    below = 1 - (ranks[m:] - _ranks(both[m:])) / m
    value = float(above.mean())
    if value in (0.0, 1.0):
        reach = math.erfc(z / math.sqrt(2)) ** (1 / min(m, n)) if z else 1.0
        return Auroc(value, *((reach, 1.0) if value else (0.0, 1 - reach)))
    width = z * math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return Auroc(value, _logistic(odds - width), _logistic(odds + width))


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1 up; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
