"""What can be said of x0 from x_t without a network: by a normal law, by the training items themselves, place by place."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unstir.data import DataSpec, Split
from unstir.denoisers.oracles import EmpiricalDenoiser
from unstir.evaluation.gaussian_fit import GaussianFit
from unstir.processes import Process

SHARES = (0.03, 0.1, 0.25, 0.5, 0.75, 0.95)
"""Of the variance (of bits and symbols: of the places), that is unknown at the levels of noise that are looked at."""

_FITTED, _NUMBERS = 5_000, 1 << 22  # training items that yardsticks know, and how many numbers these may have together
_OUTERMOST = 1e4  # sigma/alpha beyond which all is noise


@dataclass(frozen=True)
class Level:
    """One level of noise.

    Args:
        share: of the data that is unknown there. t: when the run's own schedule has it. alpha, sigma: the schedule's then.
        unit: the mean square error that data of one variance in all directions would leave: 1 of bits and symbols.
    """

    share: float
    t: float
    alpha: float
    sigma: float
    unit: float

    @property
    def noise(self) -> float:
        """``sigma / alpha``."""
        return self.sigma / self.alpha if self.alpha else math.inf


@dataclass(frozen=True)
class Known:
    """Yardsticks made of training items.

    Args:
        items: training items as a network sees them, (M, *E).
        fit: their normal law; None of bits and symbols, and of items that are all equal.
        marginals: log probabilities of each place's states, (*E, K), of bits and symbols.
    """

    process: Process
    items: Tensor
    fit: GaussianFit | None
    marginals: Tensor | None

    @classmethod
    def of(cls, training: Split, spec: DataSpec, process: Process) -> Known:
        """From training items spread evenly over the split."""
        count = max(2, min(_FITTED, _NUMBERS // math.prod(spec.shape)))
        items = spec.inside(np.asarray(training.x[training.spread(count)]))
        if process.continuous:
            return cls(process, items, GaussianFit.chosen(items.flatten(1), 2 / 255 if spec.eight_bit else 0.0), None)
        has = process.states_of(items).double()  # type: ignore[attr-defined]  # both discrete processes have it
        return cls(process, items, None, ((has.sum(0) + 1) / (len(items) + has.shape[-1])).log())

    @property
    def variance(self) -> float:
        """The mean variance of a number, real data."""
        return max(self.fit.variance / len(self.fit.middle) if self.fit else 0.0, 1e-12)

    def levels(self, whole: bool) -> list[Level]:
        """The run's times at which the shares :data:`SHARES` are unknown: to the fit, or (of bits and symbols) erased.

        Args:
            whole: for networks that know whole times alone.
        """
        schedule = self.process.schedule
        times: dict[float, float] = {}
        for share in SHARES:
            if self.process.continuous:
                log_snr = -2 * math.log(self._ratio(share))
            else:
                log_snr = math.log((1 - share) / share)
            t = float(schedule.time(log_snr))
            t = min(max(t, 1e-3), schedule.T)
            times.setdefault(float(max(1, round(t))) if whole else t, share)
        levels = []
        for t, share in times.items():
            alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
            unit = 1.0
            if self.process.continuous:
                unit = self.variance * sigma**2 / (sigma**2 + self.variance * alpha**2)
            levels.append(Level(share, t, alpha, sigma, unit))
        return levels

    def errors(self, x_t: Tensor, x0: Tensor, level: Level) -> dict[str, Tensor]:
        """Losses of each yardstick on items (N,), in the level's unit; of bits and symbols nats a place."""
        if self.marginals is not None:
            return {"marginals": -self._by_place(x_t, level.t).log_prob(x0).flatten(1).mean(1)}
        known = {}
        if self.fit is not None:
            gaussian = self.fit.denoised(x_t.flatten(1), level.alpha, level.sigma)
            known["Gaussian"] = (gaussian - x0.flatten(1)).square().mean(1) / level.unit
        nearest = EmpiricalDenoiser(self.process, self.items).predict(x_t, level.t).x0  # type: ignore[arg-type]
        known["training items"] = (nearest.double() - x0).square().flatten(1).mean(1) / level.unit
        return known

    def _ratio(self, share: float) -> float:
        """The sigma/alpha at which the fit leaves this share of the variance unknown: by bisection, since that rises."""
        fit = self.fit
        if fit is None:
            return math.sqrt(share / (1 - share))
        low, high = math.log(1e-4), math.log(_OUTERMOST)
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if fit.unknown(math.exp(middle)) < share else (low, middle)
        return math.exp(low)

    def _by_place(self, x_t: Tensor, t: float):
        """``p(x0 | x_t) ∝ p_d(x0) q(x_t | x0)`` of each place d alone."""
        assert self.marginals is not None
        process, states = self.process, self.marginals.shape[-1]
        seen = []
        for k in range(states):
            x0 = torch.full_like(x_t, k)
            seen.append(process.marginal(x0, t).log_prob(x_t).double())
        masses = torch.stack(seen, -1) + self.marginals
        return process.x0_of(process.logits_of(masses))  # type: ignore[attr-defined]
