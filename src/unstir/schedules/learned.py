"""Schedules that learn: their curves are differentiable functions of free parameters.

They answer everything a schedule answers, with a graph: a process built on one gives gradients through its kernels. The
parameters are float64 and belong to the schedule alone; no network's state holds them. How they are trained stands in
:mod:`unstir.schedule_fit`; once trained, ``freeze()`` makes a plain chain of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from unstir.schedules.base import Schedule, Time, VariancePreserving, log_alpha_bar_at, steps
from unstir.schedules.chains import Chain, FromBetas, cumulative
from unstir.shapes import Anything, Numbers, Numbers64, Steps64, Table64

EDGE = 1e-9
"""Learned betas stay in EDGE … 1 - EDGE, strictly inside (0, 1) in float64 too, however far the parameters run."""


class Learned(Chain):
    """``beta_t = e + (1 - 2e) sigmoid(logit_t)`` for t = 2 … T, ``e = 1e-9``, and beta_1 fixed [SD15 §2.4.1].

    The paper learns beta_2 … beta_T by gradient ascent on its bound K with frozen noise, and fixes beta_1 to keep the chain
    from not moving at all. Training starts from ``beta_t = 1/(T - t + 2)``, which erases equal parts of the signal and leaves
    1/T of it.

    Args:
        first_beta: beta_1.
        logits: where to start, (T - 1,); default as above. See also :meth:`from_schedule`.
    """

    def __init__(self, T: int, first_beta: float = 1e-3, logits: Anything | Sequence[float] | None = None) -> None:
        self.T = steps(T)
        if not 0 < first_beta < 1:
            raise ValueError(f"first_beta must lie in (0, 1), not {first_beta}")
        self.first_beta = float(first_beta)
        if logits is None:
            logits = _logit(1 / torch.arange(T, 1, -1, dtype=torch.float64))
        self.logits = torch.as_tensor(logits, dtype=torch.float64).detach().cpu().clone().requires_grad_()
        if self.logits.shape != (T - 1,):
            raise ValueError(f"T = {T} steps have {T - 1} learned betas, not {tuple(self.logits.shape)}")

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> Learned:
        """The chain of another schedule as a start; its betas must lie in (0, 1)."""
        betas = schedule.betas.detach()
        if bool((betas[1:] >= 1 - EDGE).any()) or bool((betas[1:] <= EDGE).any()):
            raise ValueError("only a chain whose betas lie in (0, 1) can be learned on from: this one's do not")
        return cls(schedule.T, float(betas[0]), _logit(betas[1:]))

    def parameters(self) -> list[Anything]:
        """What an optimiser trains."""
        return [self.logits]

    @property
    def betas(self) -> Steps64:
        """``beta_1 … beta_T``, (T,), with a graph from :meth:`parameters`."""
        first = torch.tensor([self.first_beta], dtype=torch.float64)
        return torch.cat([first, EDGE + (1 - 2 * EDGE) * torch.sigmoid(self.logits)])

    @property
    def alpha_bar(self) -> Table64:
        """``alpha_bar_0 … alpha_bar_T``, (T + 1,), with a graph from :meth:`parameters`."""
        return self._table(self.logits.device).exp()

    def freeze(self) -> FromBetas:
        """The same chain as a plain table."""
        return FromBetas(self.betas)

    def describe(self) -> dict[str, Any]:
        return {"name": "learned", "T": self.T, "first_beta": self.first_beta, "logits": self.logits.tolist()}

    def _table(self, device: torch.device) -> Tensor:
        return cumulative(self.betas).to(device)


class MonotoneLogSNR(VariancePreserving):
    """``log_snr(t) = -gamma(u)``, ``u = (t - 1)/(T - 1)``, with gamma a rising network between two learned ends.

    ``gamma(u) = gamma_0 + (gamma_1 - gamma_0) (g(u) - g(0)) / (g(1) - g(0))`` and
    ``g(u) = u + sum_k a_k sigmoid(b_k (u - c_k))`` with a, b > 0 (Kingma et al. 2021, eqs. 4, 5 and the appendix on learning
    the schedule). Then ``alpha² = sigmoid(-gamma)`` and ``sigma² = sigmoid(gamma)``, for real t in closed form. Their time 0, where
    the decoder takes over, is our t = 1; from there to the clean data at t = 0 log alpha_bar is linear, as in every chain.

    Args:
        T: at least 2.
        ends: gamma at t = 1 and t = T.
        width: K, the number of sigmoids.
        interior: a, b (before the softplus that makes them positive) and c, (3, K); default an almost straight line.
    """

    def __init__(
        self,
        T: int = 1000,
        ends: Sequence[float] = (-13.3, 10.0),
        width: int = 32,
        interior: Anything | Sequence[Sequence[float]] | None = None,
    ) -> None:
        if steps(T) < 2:
            raise ValueError("a learned log-SNR has two ends, so its chain needs at least T = 2 steps")
        self.T = T
        first, last = ends
        if not first < last:
            raise ValueError(f"gamma must rise from its first end to its last, not from {first} to {last}")
        self.ends = torch.tensor([first, last], dtype=torch.float64, requires_grad=True)
        if interior is None:
            centres = (torch.arange(width, dtype=torch.float64) + 0.5) / width
            interior = torch.stack([torch.full_like(centres, _before_softplus(x)) for x in (1 / width, 16.0)])
            interior = torch.cat([interior, centres[None]])
        self.interior = torch.as_tensor(interior, dtype=torch.float64).detach().cpu().clone().requires_grad_()
        if self.interior.ndim != 2 or len(self.interior) != 3:
            raise ValueError(f"the interior is three rows of numbers, not of shape {tuple(self.interior.shape)}")

    def parameters(self) -> list[Anything]:
        """What an optimiser trains: the ends (2,) and the interior (3, K)."""
        return [self.ends, self.interior]

    def gamma(self, u: Numbers) -> Numbers64:
        """``gamma(u) = -log_snr``, u in [0, 1]; float64, of u's shape."""
        first, last = self.ends.to(u.device)
        low, high = self._shape(u.new_tensor([0.0, 1.0]))
        return first + (last - first) * (self._shape(u) - low) / (high - low)

    def slope(self, u: Numbers) -> Numbers64:
        """``gamma'(u)``, positive; float64, of u's shape."""
        first, last = self.ends.to(u.device)
        low, high = self._shape(u.new_tensor([0.0, 1.0]))
        a, b, c = self._weights(u.device)
        bump = torch.sigmoid(b * (u[..., None] - c))
        return (last - first) * (1 + (a * b * bump * (1 - bump)).sum(-1)) / (high - low)

    def log_alpha_bar(self, t: Time) -> Numbers64:
        t = self._inside(t)
        u = ((t - 1) / (self.T - 1)).clamp(0, 1)
        return t.clamp(max=1) * log_alpha_bar_at(-self.gamma(u))

    @torch.no_grad()
    def time(self, log_snr: Numbers | float) -> Numbers64:
        gamma = -torch.as_tensor(log_snr, dtype=torch.float64)
        # Halving: gamma rises, and a network has no inverse in closed form.
        low, high = torch.zeros_like(gamma), torch.ones_like(gamma)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.gamma(middle) > gamma
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        before_1 = log_alpha_bar_at(-gamma) / log_alpha_bar_at(-self.ends[0].to(gamma.device))
        return torch.where(gamma < self.ends[0].to(gamma.device), before_1, 1 + (low + high) / 2 * (self.T - 1))

    @property
    def alpha_bar(self) -> Table64:
        """The table at whole times, (T + 1,), with a graph from :meth:`parameters`."""
        return self.log_alpha_bar(torch.arange(self.T + 1, dtype=torch.float64)).exp()

    @property
    def betas(self) -> Steps64:
        """The betas of the chain at whole times, (T,), with a graph from :meth:`parameters`."""
        return -torch.expm1(self.log_alpha_bar(torch.arange(self.T + 1, dtype=torch.float64)).diff())

    def freeze(self) -> FromBetas:
        """The chain at whole times as a plain table; between them it is linear in log alpha_bar."""
        return FromBetas(self.betas)

    def describe(self) -> dict[str, Any]:
        return {
            "name": "monotone_log_snr",
            "T": self.T,
            "ends": self.ends.tolist(),
            "interior": self.interior.tolist(),
        }

    def _shape(self, u: Tensor) -> Tensor:
        a, b, c = self._weights(u.device)
        return u + (a * torch.sigmoid(b * (u[..., None] - c))).sum(-1)

    def _weights(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        a, b, c = self.interior.to(device)
        return softplus(a), softplus(b), c


def _logit(betas: Tensor) -> Tensor:
    return torch.logit((betas - EDGE) / (1 - 2 * EDGE))


def _before_softplus(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).expm1().log())
