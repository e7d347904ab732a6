"""Schedules whose signal keeps its size while the noise grows over it."""

from __future__ import annotations

from typing import Any

import torch

from unstir.schedules.base import Schedule, Time, steps
from unstir.shapes import Numbers, Numbers64


class EDMSigma(Schedule):
    """``sigma(t) = (m + (t - 1)/(T - 1) (M - m))^rho``, ``m = sigma_min^(1/rho)``, ``M = sigma_max^(1/rho)``; ``alpha = 1``.

    Karras et al. 2022 (eq. 5, counted from the clean end: our t is their N - i), for real t from 1 to T. Their grid jumps from
    sigma_min to 0; here, between t = 0 and 1, ``sigma(t) = t sigma_min``, so sigma(0) = 0 exactly and sigma rises strictly
    throughout. The prior is N(0, sigma_max²).

    Variance explodes: there is no alpha_bar, and no betas.
    """

    def __init__(self, T: int = 1000, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        self.T = steps(T)
        if not (0 < sigma_min < sigma_max and rho > 0):
            raise ValueError(
                f"sigma must rise from above 0 and rho be positive, not {sigma_min} … {sigma_max} with rho = {rho}"
            )
        self._arguments = {"T": T, "sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
        self.prior_variance = sigma_max**2
        self.rho = rho
        # A grid of one step is its first entry, sigma_max (and then 0).
        self._first = sigma_max if T == 1 else sigma_min
        self._low, self._high = self._first ** (1 / rho), sigma_max ** (1 / rho)

    def alpha(self, t: Time) -> Numbers64:
        """1: the signal keeps its size; float64, of t's shape."""
        return torch.ones_like(self._inside(t))

    def sigma(self, t: Time) -> Numbers64:
        t = self._inside(t)
        place = (t - 1).clamp(min=0) / max(self.T - 1, 1)
        return t.clamp(max=1) * (self._low + place * (self._high - self._low)) ** self.rho

    def log_snr(self, t: Time) -> Numbers64:
        return -2 * self.sigma(t).log()

    def time(self, log_snr: Numbers | float) -> Numbers64:
        sigma = (-0.5 * torch.as_tensor(log_snr, dtype=torch.float64)).exp()
        if self.T == 1:
            return (sigma / self._first).clamp(0, 1)
        place = (sigma ** (1 / self.rho) - self._low) / (self._high - self._low)
        return torch.where(sigma < self._first, sigma / self._first, 1 + (self.T - 1) * place).clamp(0, self.T)

    def describe(self) -> dict[str, Any]:
        return {"name": "edm_sigma", **self._arguments}
