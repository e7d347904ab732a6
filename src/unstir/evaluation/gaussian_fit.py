"""The normal law that suits data best, for any number of items and dimensions: principal axes and one width for the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDING = 1e-12  # of the largest variance, below which one cannot be told from nothing
_CHECKED = 10  # one item in ten chooses the rank


@dataclass(frozen=True)
class GaussianFit:
    """``N(m, V diag(l - s2) Vᵀ + s2 I)``, most likely at ``l`` the leading variances of the data and ``s2`` the mean of the others.

    Of rank D - 1 it is the full covariance (Tipping & Bishop 1999, eqs. 7 and 8). Data that are levels are spread evenly over
    their bins, of width ``delta``: that adds ``delta²/12`` to each variance, and without it a pixel that never changes would
    have none.

    Args:
        middle: m (D,). axes: V (D, rank). leading: l (rank,). rest: s2, positive. bin_width: delta, 0 of real data.
    """

    middle: Tensor
    axes: Tensor
    leading: Tensor
    rest: float
    bin_width: float = 0.0

    @property
    def rank(self) -> int:
        return len(self.leading)

    @classmethod
    def chosen(cls, x: Tensor, bin_width: float = 0.0) -> GaussianFit | None:
        """The fit to x (N, D), its rank the one that suits every tenth item best when fitted to the others; None of
        fewer than four items, and of real items that are all equal, where no fit has a density.
        """
        if len(x) < 4:
            return None
        x = x.double()
        checked = torch.zeros(len(x), dtype=torch.bool)
        checked[:: _CHECKED if len(x) > 2 * _CHECKED else 2] = True
        trial = Spectrum(x[~checked], bin_width)
        scores = trial.nats(x[checked])
        whole = Spectrum(x, bin_width)
        scores = torch.where(whole.usable[: len(scores)], scores[: len(whole.usable)], math.inf)
        return None if bool(scores.isinf().all()) else whole.fit(int(scores.argmin()))

    @classmethod
    def of(cls, x: Tensor, rank: int, bin_width: float = 0.0) -> GaussianFit:
        """The fit of this rank, 0 … D - 1, to x (N, D)."""
        return Spectrum(x.double(), bin_width).fit(rank)

    def nats(self, x: Tensor) -> Tensor:
        """``E_u[-log N(x + u)] = -log N(x) + tr(C⁻¹) delta²/24`` of each row of x (N, D), u uniform in ±delta/2: (N,), float64.

        Each coordinate of u has variance ``delta²/12``. Less ``D log delta`` it is at least what the normal law's mass of x's bin
        costs (Jensen).
        """
        shifted = x.double() - self.middle
        along = shifted @ self.axes
        others = (shifted.square().sum(1) - along.square().sum(1)).clamp(min=0)
        dims, free = len(self.middle), len(self.middle) - self.rank
        size = self.leading.log().sum() + free * math.log(self.rest) + dims * math.log(2 * math.pi)
        spread = (1 / self.leading).sum() + free / self.rest
        return (
            (along.square() / self.leading).sum(1) + others / self.rest + size + spread * self.bin_width**2 / 12
        ) / 2

    def denoised(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        """``E[x0 | x_t] = m + V diag(alpha l / (alpha² l + sigma²)) Vᵀ (x_t - alpha m)``, and in the same way for the rest: what is
        known of each row of x_t (N, D) if the data are this law, (N, D) in float64."""
        centred = x_t.double() - alpha * self.middle
        along = centred @ self.axes
        shrunk = alpha * self.leading / (alpha**2 * self.leading + sigma**2)
        rest = alpha * self.rest / (alpha**2 * self.rest + sigma**2)
        return self.middle + rest * centred + (along * (shrunk - rest)) @ self.axes.T

    def unknown(self, ratio: float) -> float:
        """``sum_i s² l_i / (l_i + s²) / sum_i l_i`` over all D variances, s = sigma/alpha: the share of the variance that
        :meth:`denoised` leaves unknown, rising from 0 to 1 with the noise."""
        free = len(self.middle) - self.rank
        left = (self.leading / (self.leading + ratio**2)).sum() + free * self.rest / (self.rest + ratio**2)
        return float(left * ratio**2 / self.variance)

    @property
    def variance(self) -> float:
        """The sum of all D variances."""
        return float(self.leading.sum()) + (len(self.middle) - self.rank) * self.rest


class Spectrum:
    """Variances of x (N, D) on its principal axes, falling, and with them the fits of all ranks at once."""

    def __init__(self, x: Tensor, bin_width: float) -> None:
        n, self.dims = x.shape
        self.bin_width = bin_width
        self.middle = x.mean(0)
        shifted = x - self.middle
        if n < self.dims:
            # The inner products of N items have the same eigenvalues as the covariance of D numbers, and are fewer.
            values, turns = torch.linalg.eigh(shifted @ shifted.T / n)
        else:
            values, turns = torch.linalg.eigh(shifted.T @ shifted / n)
        self.total = float(values.clamp(min=0).sum()) + self.dims * bin_width**2 / 12
        kept = (values > _ROUNDING * values[-1]).nonzero()[:, 0].flip(0)[: self.dims - 1]
        self.values, self.turns = values[kept], turns[:, kept]
        self.items = shifted if n < self.dims else None
        # Of rank 0, 1, … all: the leading variances with their share of the bins', and the mean of what is left.
        self.leading = self.values + bin_width**2 / 12
        self.free = self.dims - torch.arange(len(kept) + 1, dtype=torch.float64)
        self.rest = ((self.total - _up_to(self.leading)) / self.free).clamp(min=bin_width**2 / 12)
        self.usable = self.rest > _ROUNDING * self.total

    def fit(self, rank: int) -> GaussianFit:
        return GaussianFit(self.middle, self._axes(rank), self.leading[:rank], float(self.rest[rank]), self.bin_width)

    def nats(self, x: Tensor) -> Tensor:
        """The mean over rows of x of each rank's :meth:`GaussianFit.nats`, inf where there is no density."""
        shifted = x - self.middle
        squares = (shifted @ self._axes(len(self.values))).square().mean(0)
        whole = shifted.square().sum(1).mean()
        rest = torch.where(self.usable, self.rest, 1.0)
        others = (whole - _up_to(squares)).clamp(min=0)
        size = _up_to(self.leading.log()) + self.free * rest.log() + self.dims * math.log(2 * math.pi)
        spread = _up_to(1 / self.leading) + self.free / rest
        nats = (_up_to(squares / self.leading) + others / rest + size + spread * self.bin_width**2 / 12) / 2
        return torch.where(self.usable, nats, math.inf)

    def _axes(self, rank: int) -> Tensor:
        if self.items is None:
            return self.turns[:, :rank]
        return self.items.T @ (self.turns[:, :rank] / (len(self.items) * self.values[:rank]).sqrt())


def _up_to(terms: Tensor) -> Tensor:
    """Sums of none, one, two … all of the terms, (K + 1,)."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), terms.cumsum(0)])
