"""Gaussian diffusion: the forward chain q of both papers' continuous half, for any pair of times s < t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unstir.distributions import Normal
from unstir.noise import NoiseSource
from unstir.processes.base import Process
from unstir.shapes import Anything, Column64, Data, Reals, RowSteps, RowTimes


class Gaussian(Process):
    """The chain ``q(x_t | x_s) = N(a x_s, s2)`` with ``a = alpha_t / alpha_s`` and ``s2 = sigma_t² - a² sigma_s²``.

    Only ``alpha`` and ``sigma`` are asked of the schedule. Every method refuses whole numbers, which alpha would be rounded to.
    """

    continuous = True
    decoder = "discretized"
    prediction = "eps"
    sampler = "ddim"

    def step(self, x_s: Data, s: RowTimes, t: RowTimes) -> Normal:
        """``q(x_t | x_s) = N(a x_s, s2)`` [HO20 eq. 2 at s = t - 1]."""
        s, t = self.columns(s, t, _real(x_s))
        a, s2 = self._kernel(s, t)
        return Normal(a.to(x_s.dtype) * x_s, s2)

    def marginal(self, x0: Data, t: RowTimes) -> Normal:
        """``q(x_t | x0) = N(alpha_t x0, sigma_t²)`` [HO20 eq. 4]; at t = 0 a point at x0."""
        t = self.column(t, _real(x0))
        return Normal(self.schedule.alpha(t).to(x0.dtype) * x0, self.schedule.sigma(t) ** 2)

    def posterior(self, x_t: Data, x0: Data | Normal, s: RowTimes, t: RowTimes) -> Normal:
        """``q(x_s | x_t, x0) = N((a sigma_s²/sigma_t²) x_t + (alpha_s s2/sigma_t²) x0, s2 sigma_s²/sigma_t²)``.

        [HO20 eqs. 6, 7] at s = t - 1. At s = 0 it is a point at x0. When x0 is itself a distribution, the posterior is
        averaged over it: the mean moves to its mean, and its variance comes in through the square of x0's coefficient.
        """
        from_t, from_0, variance = self.posterior_coefficients(s, t, _real(x_t))
        if isinstance(x0, Normal):
            variance = variance + from_0**2 * x0.variance
            x0 = x0.mean
        return Normal(from_t.to(x_t.dtype) * x_t + from_0.to(x_t.dtype) * x0, variance)

    def prior(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Normal:
        """``p(x_T) = N(0, prior_variance)`` for a batch of the given shape (B, *E); 1 where the schedule preserves variance."""
        variance = torch.full((1,) * len(shape), self.schedule.prior_variance, dtype=torch.float64, device=device)
        return Normal(torch.zeros(tuple(shape), dtype=dtype, device=device), variance)

    def noise(
        self,
        source: NoiseSource,
        shape: Sequence[int],
        purpose: str,
        step: RowSteps = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Reals:
        return source.normal(shape, purpose, step, dtype)

    def step_entropy(self, x0: Reals, s: RowTimes, t: RowTimes) -> Reals:
        return self.step(x0, s, t).entropy()  # the same wherever x_s is

    def describe(self) -> dict[str, Any]:
        return {"name": "gaussian"}

    def variances(self, s: RowTimes, t: RowTimes, like: Anything) -> tuple[Column64, Column64]:
        """``(s2 sigma_s²/sigma_t², s2)``: the posterior's variance and the step's, the papers' beta-tilde_t and beta_t.

        Float64, of shape (B, 1, …, 1) to meet ``like`` (B, *E). They bound the variance of ``q(x_s | x_t)`` from below and,
        for data of unit variance at most, from above on average over x_t [SD15 App. A].
        """
        s, t = self.columns(s, t, like)
        return self._coefficients(s, t)[2], self._kernel(s, t)[1]

    def posterior_coefficients(self, s: RowTimes, t: RowTimes, like: Anything) -> tuple[Column64, Column64, Column64]:
        """``(a sigma_s²/sigma_t², alpha_s s2/sigma_t², s2 sigma_s²/sigma_t²)``: of x_t, of x0, and the variance.

        Float64, of shape (B, 1, …, 1) to meet ``like`` (B, *E).
        """
        return self._coefficients(*self.columns(s, t, like))

    def _coefficients(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, s2 = self._kernel(s, t)
        var_s, var_t = self.schedule.sigma(s) ** 2, self.schedule.sigma(t) ** 2
        return a * var_s / var_t, self.schedule.alpha(s) * s2 / var_t, s2 * var_s / var_t

    def _kernel(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a = self.schedule.alpha(t) / self.schedule.alpha(s)
        return a, self.schedule.sigma(t) ** 2 - a**2 * self.schedule.sigma(s) ** 2


def _real(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(
            f"Gaussian data is real numbers, not {x.dtype}: bring it to floating point, and levels to -1 … 1"
        )
    return x
