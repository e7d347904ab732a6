"""Who stands nearest to whom, exactly, in blocks: neighbours of new items among old ones, and old ones nearly equal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unstir.sets.distances import BLOCK

Rows = Callable[[np.ndarray], Tensor]
"""Indices (B,) to what stands there, (B, F): real numbers."""

NEXT = 10
"""How many different items after the nearest make the scale of a ratio."""

PAIRS = 10_000
"""Nearly equal pairs after which no more are looked for."""

_QUERIES = 512  # rows that are searched for at a time
_NUMBERS = 1 << 25  # of one block of rows: 128 MB in float32
_SPARE = 6  # more neighbours are taken to the exact distances than are asked for
_AXES = 8  # on which pairs must be near before their distance is taken


def neighbours(
    new: Rows, count: int, old: Rows, among: np.ndarray, k: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """For each new item the k old ones with the least ``|x - y|²``, nearest first.

    All pairs are compared in float32, about a point in the old ones' midst since squares of numbers far from 0 lose their
    differences. The nearest few go on to float64, where the squares are sums of squared differences: of equal items exactly 0,
    right to the last digits however near. An item may be passed over only for others as near as float32 can tell.

    Args:
        new, old: items by index; neither is held in memory as a whole.
        count: new items are 0 … count - 1.
        among: indices of old items that count as neighbours, (N,).
        k: how many, at most N.
        progress: called with (new items done, all).

    Returns:
        Indices of old items, and their squared distances in float64, both (count, k).
    """
    if not 1 <= k <= len(among):
        raise ValueError(f"{len(among)} items have from 1 to {len(among)} neighbours, not {k}")
    middle = old(among[:: max(len(among) // 1000, 1)]).double().mean(0)
    step = max(min(BLOCK // _QUERIES, _NUMBERS // len(middle)), 1)
    kept = min(k + _SPARE, len(among))
    found, squares = np.empty((count, k), np.int64), np.empty((count, k))
    for first in range(0, count, _QUERIES):
        block = np.arange(first, min(first + _QUERIES, count))
        x = new(block).double()
        shifted = (x - middle).float()
        near, places = torch.empty(len(block), 0), torch.empty(len(block), 0, dtype=torch.int64)
        for start in range(0, len(among), step):
            y = (old(among[start : start + step]) - middle).float()
            # |x|² is the same for all of a row.
            here, at = torch.addmm(y.square().sum(1), shifted, y.T, alpha=-2).topk(min(kept, len(y)), largest=False)
            near, order = torch.cat([near, here], 1).topk(min(kept, near.shape[1] + here.shape[1]), largest=False)
            places = torch.cat([places, at + start], 1).gather(1, order)
        candidates = among[places.numpy()]
        exact = _squares(x, old, candidates)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]  # of equally near ones the first, whatever the blocks
        found[block] = np.take_along_axis(candidates, order, 1)
        squares[block] = np.take_along_axis(exact, order, 1)
        if progress:
            progress(int(block[-1]) + 1, count)
    return found, squares


def standing_out(
    new: Rows,
    count: int,
    old: Rows,
    among: np.ndarray,
    *,
    squared: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much nearer each new item is to one old item than to the next: ``distance to the nearest / mean of the next 10``.

    Args:
        new, count, old, among, progress: as of :func:`neighbours`; ``among`` are different from one another, two at least.
        squared: the distance is ``|x - y|²``, which of bits counts the places that differ.

    Returns:
        The nearest old item's index, its distance, and the ratio, each (count,).
    """
    found, squares = neighbours(new, count, old, among, min(NEXT + 1, len(among)), progress=progress)
    far = squares if squared else np.sqrt(squares)
    beyond = far[:, 1:].mean(1)
    # Where the next are no farther, nothing stands out: features may be equal where items are not.
    ratio = np.divide(far[:, 0], beyond, out=np.ones(len(far)), where=beyond > 0)
    return found[:, 0], far[:, 0], ratio


def _squares(x: Tensor, old: Rows, candidates: np.ndarray) -> np.ndarray:
    """Sums of squared differences between rows of x (B, F) and each row's candidates (B, K): (B, K) in float64."""
    step = max(_NUMBERS // 4 // (candidates.shape[1] * x.shape[1]), 1)
    parts = []
    for rows, theirs in zip(x.split(step), np.split(candidates, range(step, len(candidates), step))):
        others = old(theirs.ravel()).double().reshape(*theirs.shape, -1)
        parts.append((others - rows[:, None]).square().sum(2))
    return torch.cat(parts).numpy()


def nearly_equal(x: Tensor, within: float, most: int = PAIRS) -> list[tuple[int, int, float]]:
    """All pairs of rows i < j with ``|x_i - x_j| <= within``, nearest first, as (i, j, distance); once ``most`` are found, no more.

    Rows that near are as near on any axis. In the order of the axis of most spread only neighbours need be compared, so it is
    quick where few rows are that near on it.

    Args:
        x: (N, F).
    """
    x = x.double()
    some = x[:: max(len(x) // 500, 1)]
    axes = torch.linalg.svd(some - some.mean(0), full_matrices=False)[2][:_AXES]
    seen = (x - some.mean(0)) @ axes.T
    order = seen[:, 0].argsort(stable=True)
    seen, found = seen[order], []
    room = within * (1 + 1e-9) + 1e-9 * float(seen.abs().max())  # projections are rounded
    for apart in range(1, len(x)):
        alive = ((seen[apart:, 0] - seen[:-apart, 0]) <= room).nonzero()[:, 0]
        if not len(alive):
            break
        alive = alive[((seen[alive + apart] - seen[alive]).abs() <= room).all(1)]
        first, second = order[alive], order[alive + apart]
        distance = (x[first] - x[second]).square().sum(1).sqrt()
        found += [
            (min(i, j), max(i, j), d)
            for i, j, d in zip(first.tolist(), second.tolist(), distance.tolist())
            if d <= within
        ]
        if len(found) >= most:
            break
    return sorted(found, key=lambda pair: (pair[2], pair))[:most]
