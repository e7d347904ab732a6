"""Parts of a set of features, and what they say of a number: the floor, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import Tensor

from unstir.bound.interval import Z95, student
from unstir.noise import NoiseSource


def shuffled(features: Tensor, seed: int, purpose: str, step: int = 0) -> Tensor:
    """The rows in an order that depends on nothing but the seed, the purpose, the step and how many rows there are."""
    return features[_orders(len(features), seed, purpose, 1, step)[:, 0].to(features.device)]


def _orders(n: int, seed: int, purpose: str, many: int, step: int = 0) -> Tensor:
    """So many orders of n rows, a column each, (n, many)."""
    return NoiseSource(seed, range(n)).uniform((many,), purpose, step).argsort(dim=0, stable=True)


def halves(features: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two random halves of (N, F) that share no row; of an odd number one is left out.

    Their distance is the floor: what even perfect samples, half as many as the data, would have.
    """
    if len(features) < 2:
        raise ValueError(f"two halves need two samples, and here are {len(features)}")
    half = len(features) // 2
    mixed = shuffled(features, seed, "halves")
    return mixed[:half], mixed[half : 2 * half]


@overload
def bootstrap_interval(
    measure: Callable[..., float], *sets: Tensor, draws: int = ..., z: float = ..., seed: int = ...
) -> tuple[float, float]: ...
@overload
def bootstrap_interval(
    measure: Callable[..., Sequence[float]], *sets: Tensor, draws: int = ..., z: float = ..., seed: int = ...
) -> list[tuple[float, float]]: ...
def bootstrap_interval(
    measure: Callable[..., float | Sequence[float]], *sets: Tensor, draws: int = 100, z: float = Z95, seed: int = 0
) -> tuple[float, float] | list[tuple[float, float]]:
    """The value, and half of the interval that holds what it is on average over new sets of these sizes: ``t sd``.

    ``sd`` is the spread of the measure over random halves of each set. A half drawn without replacement lies as far from the
    whole as the whole from all that there is: ``1/(N/2) - 1/N = 1/N`` (half-sampling, a delete-d jackknife: Shao & Wu 1989).
    Drawn with replacement, copies would stand nearest to one another and no measure by neighbours would keep its meaning.
    t is Student's quantile of draws - 1 degrees of freedom.

    The interval is about the number at these counts: a bias, as the Fréchet distance has, is not in it. Where a measure stands
    still to first order, as a distance between equal laws does, the interval is too wide rather than too narrow.

    Args:
        measure: of as many feature sets as are given, a number or several.
        sets: features (N, F), each drawn anew. What is to stay, as a fixed reference, belongs into the measure.
        draws: how many halves, two at least.
        z: how much is within, as in :func:`~unstir.bound.interval.mean_interval`; 95 % by default.

    Returns:
        (value, half), or one such pair for each number of the measure.
    """
    if draws < 2:
        raise ValueError(f"a spread takes at least two draws, not {draws}")
    if not sets or min(map(len, sets)) < 4:
        raise ValueError("an interval takes sets of at least 4 samples")
    found = measure(*sets)
    orders = [_orders(len(x), seed, f"half {i}", draws)[: len(x) // 2].to(x.device) for i, x in enumerate(sets)]
    drawn = [measure(*(x[order[:, draw]] for x, order in zip(sets, orders))) for draw in range(draws)]
    spread = torch.as_tensor(drawn, dtype=torch.float64).std(0)
    # An odd set's half is a little less than half; with sets of about the same evenness one factor serves.
    small = min(len(x) for x in sets)
    spread = student(z, draws - 1) * math.sqrt((small // 2) / (small - small // 2)) * spread
    if isinstance(found, Sequence):
        return list(zip(map(float, found), spread.tolist()))
    return float(found), float(spread)
