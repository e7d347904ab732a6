"""How well a score tells two sets apart: the area under the ROC curve, by ranks, and how sure it is."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from unstir.bound.interval import Z95, student


class Auroc(NamedTuple):
    """The area, and the interval that holds it."""

    value: float
    low: float
    high: float


def auroc(strange: np.ndarray, usual: np.ndarray, z: float = Z95) -> Auroc:
    """``P(s > u) + P(s = u) / 2`` for a strange score s and a usual one u: 1/2 tells nothing, 1 everything.

    The variance is that of DeLong, DeLong & Clarke-Pearson (1988): of each score's share of the other set that it lies on the
    right side of, ``var / m + var / n``. The interval is even on the scale of ``log(A / (1 - A))``, so that it stays within 0 … 1
    (Pepe 2003, §5.2.4), and as wide as Student's quantile of ``k - 1`` degrees of freedom makes it, ``k = min(m, n)``: a variance
    found from 5 items is itself unsure.

    Where the scores show no spread at all, as those of sets that do not overlap, this variance is 0, which says too much. There a
    share ``1 - r`` of one set may lie elsewhere, unseen, ``r^k = 0.05`` (exact for the k pairs that share no item): the
    interval is ``r A … 1 - r (1 - A)``. And since nothing is surer than no overlap, an interval's low end is never above r, nor its
    high end below ``1 - r``: of 5 items against many a value near 1 is as unsure as 1 itself.

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
    value, error = float(above.mean()), math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    reach = math.erfc(z / math.sqrt(2)) ** (1 / min(m, n))
    if error < _ROUNDING or value in (0.0, 1.0):
        return Auroc(value, reach * value, 1 - reach * (1 - value))
    width = _student(z, min(m, n) - 1) * error / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return Auroc(value, min(_logistic(odds - width), reach), max(_logistic(odds + width), 1 - reach))


_ROUNDING = 1e-12  # a standard error of values that are all the same
_student = functools.cache(student)  # an area for each score, of the same items


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1 up; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
