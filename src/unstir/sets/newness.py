"""Are samples as new as held-out items? Tests of one number each, small for copies, calibrated by exchangeability alone.

If samples come from the law of the data, independent of the training items, then given these the numbers of samples and of
held-out items are exchangeable: every order of them all is equally likely, whatever the number measures.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unstir.noise import NoiseSource

TAIL = 0.01
"""The share of held-out items beyond which a sample stands out: chosen before anything is measured."""

_DRAWS, _AT_ONCE = 3_999, 400
_FEW = 20  # of either kind, below which a sum of ranks is not yet normal
_LUMP = 0.1  # share of equal numbers above which it is not either


class Newness(NamedTuple):
    """Samples against held-out items by one number, small for copies.

    Args:
        rank: r of the tail test. nearer: samples nearer than the r-th nearest held-out item. expected: as many by chance.
        tail_p: the chance of so many or more.
        share: of all pairs of a sample and a held-out item those where the sample is nearer, ties half; 1/2 by chance.
        whole_p: the chance of so large a share.
    """

    rank: int
    nearer: int
    expected: float
    tail_p: float
    share: float
    whole_p: float

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


def compare(samples: np.ndarray, heldout: np.ndarray) -> Newness:
    """Both tests, by numbers (n,) of samples and (m,) of held-out items."""
    rank = max(int(TAIL * len(heldout)), 1)
    count, tail_p = tail_test(samples, heldout, rank)
    share, whole_p = rank_test(samples, heldout)
    return Newness(rank, count, rank * len(samples) / (len(heldout) + 1), tail_p, share, whole_p)


def tail_test(samples: np.ndarray, heldout: np.ndarray, rank: int) -> tuple[int, float]:
    """How many of n samples lie below the r-th smallest of m held-out items, and the chance of so many or more.

    ``P(K >= k) = sum_{j<r} C(m, j) C(n, k+r-1-j) / C(n+m, k+r-1)``: K is negative hypergeometric, and reaches k when among
    the k + r - 1 smallest of all fewer than r are held out. Exact, in whole numbers; conservative where there are ties, since a
    sample as near as the r-th counts as farther.
    """
    n, m = len(samples), len(heldout)
    if not (n and 1 <= rank <= m):
        raise ValueError(f"a tail takes samples and a rank from 1 to {m}, not {rank} and {n} samples")
    count = int((samples < np.partition(heldout, rank - 1)[rank - 1]).sum())
    among = count + rank - 1
    ways = sum(math.comb(m, j) * math.comb(n, among - j) for j in range(rank) if j <= among)
    return count, ways / math.comb(n + m, among)


def rank_test(samples: np.ndarray, heldout: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Mann-Whitney's ``U / (n m)``, the share of pairs where the sample's number is smaller, and the chance of so large a one.

    Of Mann & Whitney (1947), on data copying Meehan, Chaudhuri & Dasgupta (2020), without their cells. With N = n + m and
    groups of t equal numbers, which share their mean rank,

        ``Var U = n m / 12 (N + 1 - sum (t³ - t) / (N (N - 1)))``

    exactly; p is normal, with the correction for continuity. Where it would not be nearly right (fewer than 20 of either kind;
    more than a tenth all equal) p counts random orders instead, (1 + how many have as large a U) / 4,000, which is valid
    whatever the numbers.
    """
    n, m = len(samples), len(heldout)
    if not (n and m):
        raise ValueError("ranks compare at least one sample with at least one held-out item")
    _, groups, ties = np.unique(np.concatenate([samples, heldout]), return_inverse=True, return_counts=True)
    ranks = (ties.cumsum() - (ties - 1) / 2)[groups]
    total = n + m
    u = float(ranks[n:].sum()) - m * (m + 1) / 2
    if min(n, m) < _FEW or ties.max() > _LUMP * total:
        drawn = np.concatenate([_sums(ranks, m, seed, i) for i in range(math.ceil(_DRAWS / _AT_ONCE))])[:_DRAWS]
        p = (1 + int((drawn >= ranks[n:].sum() - 1e-6).sum())) / (_DRAWS + 1)
        return u / (n * m), p
    counts = ties.astype(np.float64)
    variance = n * m / 12 * (total + 1 - float((counts**3 - counts).sum()) / (total * (total - 1)))
    return u / (n * m), math.erfc((u - n * m / 2 - 0.5) / math.sqrt(2 * variance)) / 2


def _sums(ranks: np.ndarray, m: int, seed: int, part: int) -> np.ndarray:
    """Sums of m ranks out of all, drawn anew each time."""
    draws = NoiseSource(seed, range(len(ranks))).uniform((_AT_ONCE,), "orders", part).numpy()
    return ranks @ (draws <= np.partition(draws, m - 1, axis=0)[m - 1])


def conformal(samples: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """``p_i = (1 + #{held-out <= own}) / (m + 1)`` of each sample, (n,): at most a with chance at most a (Vovk et al. 2005)."""
    return (1 + np.searchsorted(np.sort(heldout), samples, side="right")) / (len(heldout) + 1)
