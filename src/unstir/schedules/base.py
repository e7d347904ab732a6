"""What every schedule answers, and what follows from it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unstir.shapes import Numbers, Numbers64, Steps64, Table64, Times

Time = int | float | Times
"""A time, or a tensor of times of any shape."""

PRIOR_KL_LIMIT = 1e-3
"""Bits/dim: what a chain may leave behind at T before it is worth a sentence."""


class Schedule(ABC):
    """The pair of functions ``alpha(t), sigma(t)`` that scale signal and noise, ``x_t = alpha_t x0 + sigma_t eps``.

    Times are real, ``0 <= t <= T``, 0 clean and T noise: ``alpha(0) = 1``, ``sigma(0) = 0``, and the ratio of the two falls
    strictly. Everything is float64.

    Attributes:
        T: the number of steps.
        prior_variance: that of p(x_T) in the Gaussian chain.
    """

    T: int
    prior_variance: float = 1.0

    @abstractmethod
    def alpha(self, t: Time) -> Numbers64:
        """The scale of the signal; float64, of t's shape."""

    @abstractmethod
    def sigma(self, t: Time) -> Numbers64:
        """The scale of the noise; float64, of t's shape."""

    @abstractmethod
    def log_snr(self, t: Time) -> Numbers64:
        """``log(alpha² / sigma²)``, natural log: +inf at t = 0, falling in t; float64, of t's shape."""

    @abstractmethod
    def time(self, log_snr: Numbers | float) -> Numbers64:
        """The t at which :meth:`log_snr` takes a value; values beyond the chain's ends give T and 0. Float64."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What :func:`unstir.schedules.from_description` needs to build this schedule again, as plain JSON values."""

    def log_alpha_bar(self, t: Time) -> Numbers64:
        """``log alpha_bar(t)`` of a schedule that preserves variance, float64, of t's shape.

        Raises:
            ValueError: for a schedule that does not: it has alpha and sigma, and no one number that stands for both.
        """
        raise self._no_alpha_bar()

    @property
    def alpha_bar(self) -> Table64:
        """The table ``alpha_bar_0 … alpha_bar_T``, float64 (T + 1,), of a schedule that preserves variance."""
        raise self._no_alpha_bar()

    @property
    def betas(self) -> Steps64:
        """The chain's ``beta_1 … beta_T``, float64 (T,), of a schedule that preserves variance."""
        raise self._no_alpha_bar()

    def prior_kl_bits(self, mean_square: float = 1.0, t: float | None = None) -> float:
        """``E KL(q(x_T | x0) ‖ p(x_T)) / ln 2 = (r - 1 - log r + alpha_T² E x0² / c) / (2 ln 2)`` with ``r = sigma_T² / c``.

        Bits/dim of the Gaussian chain, c its prior's variance: what no denoiser can win back, since sampling starts from
        the prior and not from q(x_T) (the first term of HO20 eq. 5).

        Args:
            mean_square: E x0², averaged over the data's numbers, on the scaled axis.
            t: where sampling starts, instead of T.
        """
        t = self.T if t is None else t
        with torch.no_grad():
            excess = float(self.sigma(t)) ** 2 / self.prior_variance - 1
            signal = float(self.alpha(t)) ** 2 * mean_square / self.prior_variance
        return (excess - math.log1p(excess) + signal) / (2 * math.log(2))

    def prior_report(self, mean_square: float = 1.0) -> str | None:
        """One line with the number when :meth:`prior_kl_bits` is above 1e-3 bits/dim; None when all is well."""
        kl = self.prior_kl_bits(mean_square)
        if kl <= PRIOR_KL_LIMIT:
            return None
        with torch.no_grad():
            left = float(torch.sigmoid(self.log_snr(self.T)).sqrt())
        return (
            f"the chain's end is not yet noise: prior KL {kl:.3g} bits/dim, above {PRIOR_KL_LIMIT:g} "
            f"(signal left at T = {self.T}: {left:.3g}); every bound is that much worse and samples start off the data's "
            "path: use a schedule that forgets more, or one rescaled to this many steps"
        )

    def _no_alpha_bar(self) -> ValueError:
        return ValueError(
            f"{type(self).__name__} does not preserve variance, so it has no alpha_bar: use alpha and sigma"
        )

    def _inside(self, t: Time) -> Numbers64:
        """t as a float64 tensor. A number must lie in [0, T]; tensors are not checked, since that would wait for the device."""
        if not isinstance(t, Tensor):
            if not 0 <= t <= self.T:
                raise ValueError(f"time {t} lies outside 0 … {self.T}")
            t = torch.tensor(t, dtype=torch.float64)
        return t.to(torch.float64)


class VariancePreserving(Schedule):
    """``alpha² + sigma² = 1``: everything follows from ``alpha_bar = alpha²``."""

    @abstractmethod
    def log_alpha_bar(self, t: Time) -> Numbers64:
        """``log alpha_bar(t)``, float64, of t's shape.

        Raises:
            ValueError: if t is a number outside [0, T]. Tensors are not checked, since that would wait for the device.
        """

    def alpha(self, t: Time) -> Numbers64:
        """``alpha(t) = sqrt(alpha_bar(t))``, the scale of the signal; float64, of t's shape."""
        return (0.5 * self.log_alpha_bar(t)).exp()

    def sigma(self, t: Time) -> Numbers64:
        """``sigma(t) = sqrt(1 - alpha_bar(t))``, the scale of the noise; float64, of t's shape."""
        variance = -torch.expm1(self.log_alpha_bar(t))
        if not variance.requires_grad:
            return variance.sqrt()
        # A schedule that learns stays at sigma = 0 in t = 0 whatever it learns, but the root's slope there is infinite.
        noisy = variance > 0
        return torch.where(noisy, torch.where(noisy, variance, 1.0).sqrt(), 0.0)

    def log_snr(self, t: Time) -> Numbers64:
        log_ab = self.log_alpha_bar(t)
        return log_ab - torch.log(-torch.expm1(log_ab))


def log_alpha_bar_at(log_snr: Numbers) -> Numbers:
    """``log alpha_bar = -log(1 + exp(-log_snr))`` of a variance-preserving schedule."""
    return logsigmoid(log_snr)


def steps(T: int) -> int:
    """T, checked to be a number of steps."""
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ValueError(f"T must be a whole number of steps, at least 1, not {T!r}")
    return T
