"""Where two sets of features overlap: precision, recall, density, coverage."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from unstir.sets.distances import BLOCK, alike, checked

_ROUNDING = 1e-12


class Overlap(NamedTuple):
    """Shares of samples, 0 … 1; the density can be more."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall(real: Tensor, generated: Tensor, k: int = 3, *, density_k: int = 5) -> Overlap:
    """Balls around each sample that reach its k-th nearest neighbour in its own set, and who stands in the other set's.

    With ``B(x_i)`` the N real balls and ``B(y_j)`` the M generated ones, float64 and Euclidean:

    - precision, the share of generated samples in some real ball; recall, of real samples in some generated ball
      (Kynkäänniemi et al. 2019, k = 3);
    - density ``sum_ij [y_j in B(x_i)] / (k M)``, 1 on average between equal laws; coverage, the share of real balls that hold a
      generated sample (Naeem et al. 2020, k = 5).

    Balls are closed: copies of one picture stand in each other's, and a set against itself has a density of 1 + 1/k. They are
    let out by what float64 may round, so that ties, as between bits or levels, stay ties whatever the order or the axes.

    Args:
        real: (N, F), with more rows than k.
        generated: (M, F), with more rows than k.
        k: neighbours of precision and recall.
        density_k: neighbours of density and coverage.
    """
    if min(k, density_k) < 1:
        raise ValueError(f"neighbours are counted from 1, not {min(k, density_k)}")
    real, generated = checked(real, max(k, density_k) + 1), checked(generated, k + 1)
    alike(real, generated)
    middle = real.mean(0)  # squares of numbers far from 0 would lose their differences
    real, generated = real - middle, generated - middle
    reach, reach_of_density = _reaches(real, k, density_k)
    (reach_back,) = _reaches(generated, k)
    held = torch.zeros(len(generated), dtype=torch.bool, device=generated.device)
    recalled = pairs = covered = 0
    step = max(BLOCK // len(generated), 1)
    for start in range(0, len(real), step):
        rows = slice(start, start + step)
        squares = _squares(real[rows], generated)
        held |= (squares <= reach[rows, None]).any(0)
        recalled += int((squares <= reach_back).any(1).sum())
        inside = squares <= reach_of_density[rows, None]
        pairs += int(inside.sum())
        covered += int(inside.any(1).sum())
    m, n = len(generated), len(real)
    return Overlap(float(held.double().mean()), recalled / n, pairs / (density_k * m), covered / n)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2)


def _reaches(x: Tensor, *ks: int) -> list[Tensor]:
    """For each k the squared distance of every row to its k-th nearest other row, (N,), let out by what may be rounding."""
    step, found = max(BLOCK // len(x), 1), []
    for start in range(0, len(x), step):
        squares = _squares(x[start : start + step], x)
        squares.diagonal(start).fill_(math.inf)
        found.append(squares.topk(max(ks), largest=False).values)
    nearest, norms = torch.cat(found), x.square().sum(1)
    # Squares are off by rounding of the two norms; whoever stands at the rim has one of at most twice norms + nearest.
    return [nearest[:, k - 1].clamp(min=0) * (1 + _ROUNDING) + _ROUNDING * norms for k in ks]
