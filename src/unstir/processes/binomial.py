"""Binomial diffusion: the 2015 paper's chain for bits, for any pair of times s < t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unstir.distributions import Bernoulli, Distribution
from unstir.processes.base import Process
from unstir.processes.keeping import log_kept
from unstir.schedules import Schedule
from unstir.shapes import Data, Logits, Raw, Reals, RowTimes, States


class Binomial(Process):
    """The chain ``P(x_t = 1 | x_s) = a x_s + pi (1 - a)`` with ``a = alpha_bar_t / alpha_bar_s`` [SD15 Table App.1].

    Each bit is kept with probability a, or else drawn anew as 1 with probability pi. Data is floating-point 0 and 1, and logits
    come in its dtype; they are computed in float64 from ``log(a / (1 - a))`` alone, and no probability is ever subtracted from 1.

    Args:
        schedule: its ``alpha_bar`` is the probability that a bit of x0 is still kept at t.
        prior: pi, between 0 and 1. The paper's table prints 0.5; its App. D.1.2 takes 0.2, the heartbeat data's mean activity.

    Raises:
        ValueError: if pi is not strictly between 0 and 1, or the schedule has no alpha_bar. Every method: if the data is not
            floating-point, or (on the CPU, where looking costs nothing) not 0 and 1.
    """

    decoder = "reverse"
    prediction = "logits"
    sampler = "ancestral"

    def __init__(self, schedule: Schedule, prior: float = 0.5) -> None:
        if not 0 < prior < 1:
            raise ValueError(f"the prior is the probability of a 1, above 0 and below 1, not {prior}")
        super().__init__(schedule)
        schedule.log_alpha_bar(0)  # a schedule without one says so here
        self.pi = prior
        self._log_one, self._log_zero = math.log(prior), math.log1p(-prior)

    def step(self, x_s: Data, s: RowTimes, t: RowTimes) -> Bernoulli:
        """``q(x_t | x_s)``: a 1 with probability ``a x_s + pi (1 - a)``."""
        one, zero = self._kernel(*self.columns(s, t, x_s))
        return Bernoulli(_choose(_bits(x_s), one, zero))

    def marginal(self, x0: Data, t: RowTimes) -> Bernoulli:
        """``q(x_t | x0)``: a 1 with probability ``alpha_bar_t x0 + pi (1 - alpha_bar_t)``; at t = 0 a point at x0."""
        return self.step(x0, 0, t)

    def posterior(self, x_t: Data, x0: Data | Distribution, s: RowTimes, t: RowTimes) -> Bernoulli:
        """``q(x_s | x_t, x0) ∝ q(x_t | x_s) q(x_s | x0)``, Bayes on the two values of x_s.

        When x0 is itself a distribution p(x0), the posterior is averaged over it: ``sum_x0 p(x0) q(x_s | x_t, x0)``. That is
        ``q(x_s | x_t)`` exactly when p(x0) is ``q(x0 | x_t)``. At s = 0 it is x0 itself.
        """
        s, t = self.columns(s, t, x_t)
        seen = self._likelihood(x_t, s, t)
        one, zero = self._kernel(torch.zeros_like(s), s)
        if isinstance(x0, Tensor):
            return Bernoulli(seen + _choose(_bits(x0), one, zero))
        return _mixture(x0, seen + one.to(x_t.dtype), seen + zero.to(x_t.dtype))

    def joint_posterior(self, x_t: Data, x0: Distribution, s: RowTimes, t: RowTimes) -> Bernoulli:
        """``∝ sum_x0 q(x_s, x_t | x0) p(x0)``, the reverse step of Austin et al. 2021, eq. 4.

        It takes p(x0) for what was known before x_t was seen, so with ``p(x0) = q(x0 | x_t)`` it counts x_t twice, and is another
        thing than :meth:`posterior`; for a point x0 the two agree.
        """
        s, t = self.columns(s, t, x_t)
        one, zero = (logits.to(x_t.dtype) for logits in self._kernel(torch.zeros_like(s), s))
        return Bernoulli(self._likelihood(x_t, s, t) + _mixture(x0, one, zero).logits)

    def prior(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Bernoulli:
        """``p(x_T)``: a 1 with probability pi, for a batch of the given shape (B, *E)."""
        return Bernoulli(torch.full(tuple(shape), self._log_one - self._log_zero, dtype=dtype, device=device))

    def step_entropy(self, x0: Data, s: RowTimes, t: RowTimes) -> Reals:
        active = self.marginal(x0, s).mean
        of_one, of_zero = (self.step(torch.full_like(x0, bit), s, t).entropy() for bit in (1, 0))
        return active * of_one + (1 - active) * of_zero

    def describe(self) -> dict[str, Any]:
        return {"name": "binomial", "prior": self.pi}

    def encode(self, x_t: Data) -> Reals:
        """What a network sees of x_t: ``2 x_t - 1``, (B, *E)."""
        return 2 * _bits(x_t) - 1

    def x0_of(self, raw: Raw) -> Bernoulli:
        """What a network's raw output (B, *E) says about x0: the logits of its bits."""
        return Bernoulli(raw)

    def states_of(self, x0: Data) -> States:
        """Which of the two values each bit has: bool (N, *E, 2)."""
        return torch.stack([x0 == 0, x0 == 1], -1)

    def logits_of(self, log_masses: Logits) -> Reals:
        """What a network would say for log masses (B, *E, 2): the inverse of :meth:`x0_of`."""
        return log_masses[..., 1] - log_masses[..., 0]

    def _kernel(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of x_t given ``x_s = 1`` and given ``x_s = 0``: float64, ±inf where a = 1."""
        log_a, log_rest = log_kept(self.schedule, s, t)
        odds, prior = log_a - log_rest, torch.tensor(self._log_one - self._log_zero, dtype=torch.float64)
        return torch.logaddexp(odds - self._log_zero, prior), -torch.logaddexp(odds - self._log_one, -prior)

    def _likelihood(self, x_t: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """``log q(x_t | x_s = 1) - log q(x_t | x_s = 0)``, what x_t alone says of x_s: (B, *E), in its dtype."""
        log_a, log_rest = log_kept(self.schedule, s, t)
        odds = log_a - log_rest
        # log((a + (1 - a) pi) / ((1 - a) pi)), and the same of the zeros. Torch's softplus would cut its own tail.
        return _choose(_bits(x_t), -logsigmoid(self._log_one - odds), logsigmoid(self._log_zero - odds))


def _choose(x: Tensor, one: Tensor, zero: Tensor) -> Tensor:
    """``one`` where x is 1, ``zero`` where it is 0, in x's dtype."""
    return torch.where(x == 1, one, zero).to(x.dtype)


def _mixture(weight: Distribution, one: Tensor, zero: Tensor) -> Bernoulli:
    """``P(1) sigmoid(one) + P(0) sigmoid(zero)``, P being the weight, through logarithms of both values."""
    if not isinstance(weight, Bernoulli):
        raise ValueError(f"x0 is bits or a Bernoulli distribution of them, not {type(weight).__name__}")
    logits = weight.logits.to(one.dtype)
    log_one, log_zero = logsigmoid(logits), logsigmoid(-logits)
    return Bernoulli(
        torch.logaddexp(log_one + logsigmoid(one), log_zero + logsigmoid(zero))
        - torch.logaddexp(log_one + logsigmoid(-one), log_zero + logsigmoid(-zero))
    )


def _bits(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(f"binomial data is floating-point 0 and 1, not {x.dtype}: convert it with .float()")
    # On a device the check would wait for it.
    if x.device.type == "cpu" and not bool(((x == 0) | (x == 1)).all()):
        raise ValueError("binomial data is 0 and 1, and this holds other values: make bits of it first")
    return x
