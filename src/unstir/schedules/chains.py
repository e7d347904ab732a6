"""Schedules given by the table of a discrete chain, ``alpha_bar_t = prod_{i<=t} (1 - beta_i)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from unstir.schedules.base import Schedule, Time, VariancePreserving, log_alpha_bar_at, steps
from unstir.shapes import Anything, Bordered64, Numbers, Numbers64, Steps64, Table64, Vector64


class Chain(VariancePreserving):
    """A variance-preserving schedule from the table of its chain.

    ``log alpha_bar`` is linear in t between the table's entries; on a last interval that ends at ``alpha_bar = 0`` it is
    ``alpha_bar`` itself that is linear.

    Args:
        betas: ``beta_1 … beta_T``, shape (T,), each in (0, 1]; only the last may be 1.
    """

    def __init__(self, betas: Anything | Sequence[float]) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64).detach().cpu().clone()  # the caller's may change
        if betas.ndim != 1 or len(betas) == 0:
            raise ValueError(
                f"betas must be a vector with one entry for each of the T steps, not of shape {tuple(betas.shape)}"
            )
        if not bool(((betas > 0) & (betas <= 1)).all()) or bool((betas[:-1] == 1).any()):
            raise ValueError("every beta must lie in (0, 1), and only the last may be 1: this schedule's do not")
        self._betas = betas
        self.T = len(betas)
        self._log_alpha_bar = cumulative(betas)
        self._alpha_bar = self._log_alpha_bar.exp()
        self._copies: dict[torch.device, Tensor] = {}

    @property
    def betas(self) -> Steps64:
        return self._betas

    @property
    def alpha_bar(self) -> Table64:
        return self._alpha_bar

    def log_alpha_bar(self, t: Time) -> Numbers64:
        t = self._inside(t)
        table = self._table(t.device)
        low = t.floor().clamp(0, self.T - 1)
        i, part = low.long(), t - low
        below, above = table[i], table[i + 1]
        # alpha_bar = 0 at T has no finite logarithm to be linear in, so there alpha_bar is.
        ends_at_zero = torch.isinf(above)
        inside = torch.lerp(below, torch.where(ends_at_zero, below, above), part)
        return torch.where(ends_at_zero, below + torch.log1p(-part), inside)

    def time(self, log_snr: Numbers | float) -> Numbers64:
        wanted = torch.as_tensor(log_snr, dtype=torch.float64)
        log_ab = log_alpha_bar_at(wanted)
        table = self._table(wanted.device).detach()
        i = torch.searchsorted(-table, -log_ab.contiguous(), right=True).clamp(1, self.T)
        below, above = table[i - 1], table[i]
        to_zero = torch.isinf(above)
        linear = (below - log_ab) / torch.where(to_zero, torch.ones_like(below), below - above)
        part = torch.where(to_zero, -torch.expm1(log_ab - below), linear)
        return (i - 1 + part).clamp(0, self.T)

    def describe(self) -> dict[str, Any]:
        return {"name": "from_betas", "betas": self.betas.tolist()}

    def _table(self, device: torch.device) -> Tensor:
        """``log alpha_bar_0 … log alpha_bar_T``, (T + 1,)."""
        # A copy for each device, made once: indexing a CPU table with a device's times would wait for the device.
        if device.type == "cpu":
            return self._log_alpha_bar
        if device not in self._copies:
            self._copies[device] = self._log_alpha_bar.to(device)
        return self._copies[device]


class FromBetas(Chain):
    """The chain with given ``beta_1 … beta_T``: shape (T,), each in (0, 1], only the last may be 1."""


class Rescaled(Chain):
    """A chain of T steps through another schedule's alpha_bar, so that it forgets as much: ``alpha_bar(t T' / T)`` of T' steps.

    Multiplying the betas by T'/T does that only roughly, and gives beta > 1 for few steps; reading the same curve at T + 1
    places does it exactly.

    Args:
        of: a schedule that preserves variance, given or described.
    """

    def __init__(self, of: Schedule | dict[str, Any], T: int) -> None:
        if isinstance(of, dict):
            from unstir.schedules import from_description  # the one who knows all names; it imports this file

            of = from_description(of)
        self._arguments = {"of": of.describe(), "T": T}
        with torch.no_grad():
            log_ab = of.log_alpha_bar(torch.linspace(0, of.T, steps(T) + 1, dtype=torch.float64))
        super().__init__(-torch.expm1(log_ab.diff()))

    def describe(self) -> dict[str, Any]:
        return {"name": "rescaled", **self._arguments}


class _StatedFor1000(Chain):
    """A chain whose betas are stated for 1000 steps: the sum of the betas sets how much is forgotten."""

    name: ClassVar[str]

    def __init__(self, betas: Vector64, **arguments: Any) -> None:
        self._arguments = arguments
        super().__init__(betas)

    @classmethod
    def rescaled(cls, T: int, **arguments: float) -> Rescaled:
        """A chain of T steps through the alpha_bar of the 1000-step one; see :class:`Rescaled`.

        Args:
            arguments: those of the 1000-step schedule; default its own.
        """
        return Rescaled({"name": cls.name, "T": 1000, **arguments}, T)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **self._arguments}


class LinearBeta(_StatedFor1000):
    """``beta_t`` linear in t from ``beta_start`` at t = 1 to ``beta_end`` at t = T, as stated for T steps [HO20 §4].

    The defaults are those of T = 1000; another T needs other ends, since the sum of the betas sets how much is forgotten:
    see :meth:`rescaled`.
    """

    name = "linear_beta"

    def __init__(self, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        betas = torch.linspace(beta_start, beta_end, steps(T), dtype=torch.float64)
        super().__init__(betas, T=T, beta_start=beta_start, beta_end=beta_end)


class Quadratic(_StatedFor1000):
    """``sqrt(beta_t)`` linear in t from ``sqrt(beta_start)`` to ``sqrt(beta_end)``.

    The quadratic schedule of [HO20 App. B], "scaled linear" elsewhere (Rombach et al. 2022 use 0.00085 … 0.012). Stated for
    T = 1000, like :class:`LinearBeta`: see :meth:`rescaled`.
    """

    name = "quadratic"

    def __init__(self, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        if not (beta_start > 0 and beta_end > 0):
            raise ValueError(f"beta_start and beta_end must be positive, not {beta_start} and {beta_end}")
        roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps(T), dtype=torch.float64)
        super().__init__(roots**2, T=T, beta_start=beta_start, beta_end=beta_end)


class Constant(_StatedFor1000):
    """``beta_t = beta`` at every t, so ``alpha_bar_t = (1 - beta)^t`` (the constant schedule of [HO20 App. B]).

    The default is that of T = 1000, where it forgets as much as :class:`LinearBeta`: see :meth:`rescaled`.
    """

    name = "constant"

    def __init__(self, T: int = 1000, beta: float = 0.01) -> None:
        super().__init__(torch.full((steps(T),), beta, dtype=torch.float64), T=T, beta=beta)


class SigmoidBeta(_StatedFor1000):
    """``beta_t = beta_start + (beta_end - beta_start) sigmoid(z_t)``, z linear in t from ``-span`` at t = 1 to ``span`` at T.

    The "sigmoid schedule" of Xu et al. 2022 (GeoDiff), where the *betas* are a sigmoid; :class:`SigmoidAlphaBar` is the
    other thing of that name. Stated for T = 1000: see :meth:`rescaled`.
    """

    name = "sigmoid_beta"

    def __init__(self, T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02, span: float = 6.0) -> None:
        z = torch.linspace(-span, span, steps(T), dtype=torch.float64)
        betas = beta_start + (beta_end - beta_start) * torch.sigmoid(z)
        super().__init__(betas, T=T, beta_start=beta_start, beta_end=beta_end, span=span)


class SigmoidAlphaBar(Chain):
    """``alpha_bar(t) = (S(end) - S(z)) / (S(end) - S(start))`` with ``S(z) = sigmoid(z / tau)``, z linear in t from start to end.

    The "sigmoid schedule" of Jabri et al. 2022 and Chen 2023 (alg. 1), where *alpha_bar* is a sigmoid; :class:`SigmoidBeta`
    is the other thing of that name. The sigmoid is scaled to run from 1 to 0, and clipped from below at ``clip_min``.

    Raises:
        ValueError: when the clip would flatten more than the last entry: the chain could not be undone there.
    """

    def __init__(
        self, T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0, clip_min: float = 1e-9
    ) -> None:
        self._arguments = {"T": T, "start": start, "end": end, "tau": tau, "clip_min": clip_min}
        if not (start < end and tau > 0 and 0 <= clip_min < 1):
            raise ValueError("a sigmoid in alpha_bar needs start < end, tau > 0 and clip_min in [0, 1)")
        # The falling sigmoid, so that what is left near its end keeps its digits.
        z = torch.linspace(start, end, steps(T) + 1, dtype=torch.float64)
        falling = torch.sigmoid(-z / tau)
        alpha_bar = ((falling - falling[-1]) / (falling[0] - falling[-1])).clamp(min=clip_min)
        if bool((alpha_bar[:-1] == clip_min).any()):
            raise ValueError(
                f"this sigmoid is below clip_min = {clip_min:g} before T = {T}: use a larger tau or a smaller end"
            )
        super().__init__(1 - alpha_bar[1:] / alpha_bar[:-1])

    def describe(self) -> dict[str, Any]:
        return {"name": "sigmoid_alpha_bar", **self._arguments}


class Cosine(Chain):
    """``alpha_bar(t) = f(t) / f(0)``, ``f(t) = cos²((t/T + s) / (1 + s) · pi/2)`` (Nichol & Dhariwal 2021, eq. 17).

    The betas are clipped at ``max_beta`` and alpha_bar is rebuilt from the clipped ones, so that the table and the chain
    agree; they would not at the end, where the cosine reaches 0.
    """

    def __init__(self, T: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> None:
        self._arguments = {"T": T, "s": s, "max_beta": max_beta}
        t = torch.arange(steps(T) + 1, dtype=torch.float64) / T
        f = torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2
        super().__init__((1 - f[1:] / f[:-1]).clamp(max=max_beta))

    def describe(self) -> dict[str, Any]:
        return {"name": "cosine", **self._arguments}


class InverseTime(Chain):
    """``beta_t = 1 / (T - t + 1)``: each step erases 1/T of the signal, ``alpha_bar_t = 1 - t/T`` [SD15 §2.4.1].

    It ends at alpha_bar_T = 0, where a noise prediction says nothing about x0.
    """

    def __init__(self, T: int) -> None:
        self._arguments = {"T": T}
        super().__init__(1 / torch.arange(steps(T), 0, -1, dtype=torch.float64))

    def describe(self) -> dict[str, Any]:
        return {"name": "inverse_time", **self._arguments}


def cumulative(betas: Vector64) -> Bordered64:
    """``log alpha_bar_0 … log alpha_bar_T`` from ``beta_1 … beta_T``: (T,) to (T + 1,)."""
    # log1p keeps the small betas' digits, which 1 - beta would round away.
    return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
