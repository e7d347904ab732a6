"""Schedules: how fast the chain forgets.

A schedule is the pair of functions ``alpha(t), sigma(t)`` that scale signal and noise, ``x_t = alpha_t x0 + sigma_t eps``,
for real times ``0 <= t <= T`` with 0 clean and T noise. The schedules here preserve variance, ``alpha² + sigma² = 1``,
and are given by the table ``alpha_bar_t = alpha_t²`` of a discrete chain, ``alpha_bar_t = prod_{i<=t} (1 - beta_i)``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

Time = int | float | Tensor


class Schedule:
    """A variance-preserving schedule from the table of its chain.

    ``log alpha_bar`` is linear in t between the table's entries; on a last interval that ends at ``alpha_bar = 0`` it is
    ``alpha_bar`` itself that is linear. Everything is float64.

    Args:
        betas: ``beta_1 … beta_T``, shape (T,), each in (0, 1]; only the last may be 1.
    """

    prior_variance: float = 1.0
    """Of p(x_T) in the Gaussian chain."""

    def __init__(self, betas: Tensor) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64).detach().cpu().clone()  # the caller's may change
        if betas.ndim != 1 or len(betas) == 0:
            raise ValueError(
                f"betas must be a vector with one entry for each of the T steps, not of shape {tuple(betas.shape)}"
            )
        if not bool(((betas > 0) & (betas <= 1)).all()) or bool((betas[:-1] == 1).any()):
            raise ValueError("every beta must lie in (0, 1), and only the last may be 1: this schedule's do not")
        self.betas = betas
        self.T = len(betas)
        # log1p keeps the small betas' digits, which 1 - beta would round away.
        self._log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
        self.alpha_bar = self._log_alpha_bar.exp()
        self._copies: dict[torch.device, Tensor] = {}

    def log_alpha_bar(self, t: Time) -> Tensor:
        """``log alpha_bar(t)``, float64, of t's shape.

        Raises:
            ValueError: if t is a number outside [0, T]. Tensors are not checked, since that would wait for the device.
        """
        if not isinstance(t, Tensor):
            if not 0 <= t <= self.T:
                raise ValueError(f"time {t} lies outside 0 … {self.T}")
            t = torch.tensor(t, dtype=torch.float64)
        table = self._on(t.device)
        t = t.to(torch.float64)
        low = t.floor().clamp(0, self.T - 1)
        i, part = low.long(), t - low
        below, above = table[i], table[i + 1]
        # alpha_bar = 0 at T has no finite logarithm to be linear in, so there alpha_bar is.
        ends_at_zero = torch.isinf(above)
        inside = torch.lerp(below, torch.where(ends_at_zero, below, above), part)
        return torch.where(ends_at_zero, below + torch.log1p(-part), inside)

    def alpha(self, t: Time) -> Tensor:
        """``alpha(t) = sqrt(alpha_bar(t))``, the scale of the signal; float64, of t's shape."""
        return (0.5 * self.log_alpha_bar(t)).exp()

    def sigma(self, t: Time) -> Tensor:
        """``sigma(t) = sqrt(1 - alpha_bar(t))``, the scale of the noise; float64, of t's shape."""
        return (-torch.expm1(self.log_alpha_bar(t))).sqrt()

    def log_snr(self, t: Time) -> Tensor:
        """``log(alpha² / sigma²)``, natural log: +inf at t = 0, falling in t; float64, of t's shape."""
        log_ab = self.log_alpha_bar(t)
        return log_ab - torch.log(-torch.expm1(log_ab))

    def time(self, log_snr: Tensor | float) -> Tensor:
        """The t at which :meth:`log_snr` takes a value; values beyond the chain's ends give T and 0. Float64."""
        wanted = torch.as_tensor(log_snr, dtype=torch.float64)
        # log alpha_bar = -log(1 + exp(-log_snr)), then the table is inverted where it falls past that value.
        log_ab = -torch.nn.functional.softplus(-wanted)
        table = self._on(wanted.device)
        i = torch.searchsorted(-table, -log_ab.contiguous(), right=True).clamp(1, self.T)
        below, above = table[i - 1], table[i]
        to_zero = torch.isinf(above)
        linear = (below - log_ab) / torch.where(to_zero, torch.ones_like(below), below - above)
        part = torch.where(to_zero, -torch.expm1(log_ab - below), linear)
        return (i - 1 + part).clamp(0, self.T)

    def describe(self) -> dict[str, Any]:
        """What :func:`from_description` needs to build this schedule again, as plain JSON values."""
        return {"name": "from_betas", "betas": self.betas.tolist()}

    def _on(self, device: torch.device) -> Tensor:
        # A copy for each device, made once: indexing a CPU table with a device's times would wait for the device.
        if device.type == "cpu":
            return self._log_alpha_bar
        if device not in self._copies:
            self._copies[device] = self._log_alpha_bar.to(device)
        return self._copies[device]


class FromBetas(Schedule):
    """The chain with given ``beta_1 … beta_T``: shape (T,), each in (0, 1], only the last may be 1."""


class LinearBeta(Schedule):
    """``beta_t`` linear in t from ``beta_start`` at t = 1 to ``beta_end`` at t = T, as stated for T steps [HO20 §4].

    The defaults are those of T = 1000; another T needs other ends, since the sum of the betas sets how much is forgotten:
    see :meth:`rescaled`.
    """

    def __init__(self, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        self._arguments = {"T": T, "beta_start": beta_start, "beta_end": beta_end}
        super().__init__(torch.linspace(beta_start, beta_end, _steps(T), dtype=torch.float64))

    @classmethod
    def rescaled(cls, T: int) -> FromBetas:
        """A chain of T steps through the alpha_bar of the 1000-step one, so that any T forgets as much.

        Multiplying the betas by 1000/T does that only roughly, and gives beta > 1 below T = 20; reading the same curve at
        T + 1 places does it exactly.
        """
        full = cls()
        log_ab = full.log_alpha_bar(torch.linspace(0, full.T, _steps(T) + 1, dtype=torch.float64))
        return FromBetas(-torch.expm1(log_ab.diff()))

    def describe(self) -> dict[str, Any]:
        return {"name": "linear_beta", **self._arguments}


class Cosine(Schedule):
    """``alpha_bar(t) = f(t) / f(0)``, ``f(t) = cos²((t/T + s) / (1 + s) · pi/2)`` (Nichol & Dhariwal 2021, eq. 17).

    The betas are clipped at ``max_beta`` and alpha_bar is rebuilt from the clipped ones, so that the table and the chain
    agree; they would not at the end, where the cosine reaches 0.
    """

    def __init__(self, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> None:
        self._arguments = {"T": T, "s": s, "max_beta": max_beta}
        t = torch.arange(_steps(T) + 1, dtype=torch.float64) / T
        f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=max_beta))

    def describe(self) -> dict[str, Any]:
        return {"name": "cosine", **self._arguments}


class InverseTime(Schedule):
    """``beta_t = 1 / (T - t + 1)``: each step erases 1/T of the signal, ``alpha_bar_t = 1 - t/T`` [SD15 §2.4.1].

    It ends at alpha_bar_T = 0, where a noise prediction says nothing about x0.
    """

    def __init__(self, T: int) -> None:
        self._arguments = {"T": T}
        super().__init__(1 / torch.arange(_steps(T), 0, -1, dtype=torch.float64))

    def describe(self) -> dict[str, Any]:
        return {"name": "inverse_time", **self._arguments}


_BY_NAME = {"linear_beta": LinearBeta, "cosine": Cosine, "inverse_time": InverseTime}


def from_description(description: dict[str, Any]) -> Schedule:
    """The schedule whose :meth:`Schedule.describe` gave this."""
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name == "from_betas":
        return FromBetas(torch.tensor(arguments["betas"], dtype=torch.float64))
    if name not in _BY_NAME:
        raise ValueError(f"no schedule is called {name!r}; there are {', '.join([*_BY_NAME, 'from_betas'])}")
    return _BY_NAME[name](**arguments)


def _steps(T: int) -> int:
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ValueError(f"T must be a whole number of steps, at least 1, not {T!r}")
    return T
