"""What was said about one x_t, in every form the field uses, and the reverse step that follows from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unstir.distributions import Distribution, Normal
from unstir.processes import Gaussian, Process
from unstir.shapes import Data, LeadingB, Reals, Rows

VarianceRule = Callable[[Tensor, Tensor], Tensor]
"""``(s, t) -> variance of p(x_s | x_t)``, s and t of shape (B,), the result meeting x_t (B, *E)."""


@dataclass(frozen=True)
class PredictionBase(ABC):
    """A prediction about x_t (B, *E) at t (B,), whatever the data: it knows the reverse step that follows from it."""

    process: Process
    x_t: Data
    t: Rows

    @abstractmethod
    def reverse(self, s: Rows) -> Distribution:
        """``p(x_s | x_t)`` for earlier times s, (B,), each below t."""

    @property
    @abstractmethod
    def x0(self) -> Any:
        """What the clean sample is thought to be: a point for real numbers, a distribution for the others."""

    @property
    @abstractmethod
    def likeliest(self) -> Data:
        """One clean sample that stands for :attr:`x0`, (B, *E): itself for real numbers, the likeliest value of the others."""

    @abstractmethod
    def distortion(self, x0: Data) -> Reals:
        """How wrong the guess at x0 is, (B, *E): squared for real numbers, 1 where the likeliest value of the others is wrong."""

    @property
    @abstractmethod
    def given(self) -> dict[str, LeadingB]:
        """The one form that was given, under its field's name: what guidance mixes."""


@dataclass(frozen=True)
class Prediction(PredictionBase):
    """A prediction about real numbers: give one of ``x0, eps, v`` (B, *E), the other two follow from

    ``x_t = alpha_t x0 + sigma_t eps`` and ``v = alpha_t eps - sigma_t x0`` (Salimans & Ho 2022, App. D).
    """

    process: Gaussian
    variance: VarianceRule
    given_x0: Reals | None = None
    given_eps: Reals | None = None
    given_v: Reals | None = None

    @property
    def given(self) -> dict[str, LeadingB]:
        """The one form that was given, under its field's name; everything else follows from it linearly."""
        fields = {"given_x0": self.given_x0, "given_eps": self.given_eps, "given_v": self.given_v}
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def x0(self) -> Reals:
        """The predicted clean sample, ``E[x0 | x_t]`` of a perfect denoiser."""
        return self._x0

    @cached_property
    def _x0(self) -> Tensor:
        if self.given_x0 is not None:
            return self.given_x0
        alpha, sigma = self._scales
        if self.given_eps is not None:
            return (self.x_t - sigma * self.given_eps) / alpha
        assert self.given_v is not None
        return (alpha * self.x_t - sigma * self.given_v) / (alpha**2 + sigma**2)

    @property
    def likeliest(self) -> Reals:
        return self.x0

    def distortion(self, x0: Reals) -> Reals:
        return (x0 - self.x0).square()

    @cached_property
    def eps(self) -> Reals:
        """The predicted noise; derived again whenever x0 was changed, so that the pair still makes x_t."""
        if self.given_eps is not None:
            return self.given_eps
        alpha, sigma = self._scales
        if self.given_v is not None:
            return (sigma * self.x_t + alpha * self.given_v) / (alpha**2 + sigma**2)
        return (self.x_t - alpha * self.x0) / sigma

    @cached_property
    def v(self) -> Reals:
        """``alpha_t eps - sigma_t x0``: the velocity along the angle ``atan(sigma / alpha)``."""
        if self.given_v is not None:
            return self.given_v
        alpha, sigma = self._scales
        return alpha * self.eps - sigma * self.x0

    @cached_property
    def score(self) -> Reals:
        """``grad log q(x_t) = -eps / sigma_t`` (Song et al. 2021)."""
        return -self.eps / self._scales[1]

    def reverse(self, s: Rows) -> Normal:
        """``p(x_s | x_t)``: the posterior's mean at the predicted x0 [HO20 eqs. 7, 11], the variance of the denoiser's rule.

        Args:
            s: earlier times, (B,), each below t. At s = 0 samplers use the mean alone.
        """
        mean = self.process.posterior(self.x_t, self.x0, s, self.t).mean
        return Normal(mean, self.variance(s, self.t))

    def with_x0(self, x0: Reals) -> Prediction:
        """The same prediction with another x0, from which eps and v are derived again."""
        return replace(self, given_x0=x0, given_eps=None, given_v=None)

    @cached_property
    def _scales(self) -> tuple[Tensor, Tensor]:
        t = self.t.to(torch.float64).reshape(-1, *(1,) * (self.x_t.ndim - 1))
        schedule, dtype = self.process.schedule, self.x_t.dtype
        return schedule.alpha(t).to(dtype), schedule.sigma(t).to(dtype)
