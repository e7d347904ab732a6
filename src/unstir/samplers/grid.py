"""Grids: the times a sampler visits, written out, so that every step is an explicit pair (t, s)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from unstir.samplers.options import parsed
from unstir.schedules import Schedule
from unstir.shapes import Anything

SPACINGS = ("uniform", "leading", "trailing", "quadratic", "log-snr", "rho")


@dataclass(frozen=True)
class Grid:
    """Strictly falling times ``t_0 > t_1 > … > t_n >= 0``: n steps, each from t_i to t_{i+1}, with no gaps between them.

    Args:
        times: (n + 1,), float64.
    """

    times: Anything

    def __post_init__(self) -> None:
        times = torch.as_tensor(self.times, dtype=torch.float64).clone()  # the caller's may change
        object.__setattr__(self, "times", times)
        if times.ndim != 1 or len(times) < 2:
            raise ValueError("a grid needs at least two times, the first and the last")
        if not bool((times.diff() < 0).all()) or float(times[-1]) < 0:
            raise ValueError("a grid's times must fall strictly and end at 0 or above")

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def pairs(self) -> list[tuple[float, float]]:
        """The steps as pairs (t, s), s < t; each s is the next t."""
        times = self.times.tolist()
        return list(pairwise(times))

    def whole(self) -> Grid:
        """The nearest whole times that still fall strictly, for networks that know no others; the last time stays.

        Raises:
            ValueError: for more steps than there are whole times.
        """
        times, n = torch.floor(self.times + 0.5), self.steps
        times[-1] = self.times[-1]
        places = torch.arange(n + 1, dtype=torch.float64)
        if float(times[0] - times[-1]) < n:
            raise ValueError(f"{n} steps on whole times need as many of them, and here are {float(times[0]):g}")
        times = (times + places).cummin(0).values - places  # each at least 1 below the one before it
        return Grid(torch.maximum(times, self.times[-1].ceil() + n - places))

    def describe(self, schedule: Schedule) -> str:
        """First and last visited time with the signal left there, for the user to see where sampling starts and ends."""
        first, last = self.times[0], self.times[-2]
        return (
            f"{self.steps} steps, from t = {float(first):g} (sqrt alpha_bar {float(schedule.alpha(first)):.4f}) "
            f"by t = {float(last):g} ({float(schedule.alpha(last)):.4f}) to {float(self.times[-1]):g}"
        )

    @classmethod
    def uniform(cls, schedule: Schedule, steps: int) -> Grid:
        """``t_i = T (1 - i/n)``: real times, evenly spread over the whole chain."""
        return cls(torch.linspace(schedule.T, 0, _checked(steps) + 1, dtype=torch.float64))

    @classmethod
    def trailing(cls, schedule: Schedule, steps: int) -> Grid:
        """:meth:`uniform` rounded to whole times: starts at T itself, for networks that know only whole times."""
        _within(steps, schedule.T)
        return cls(torch.floor(torch.linspace(schedule.T, 0, steps + 1, dtype=torch.float64) + 0.5))

    @classmethod
    def leading(cls, schedule: Schedule, steps: int) -> Grid:
        """Whole times ``1, 1 + k, 1 + 2k, …`` with ``k = T // n``, then 0: the grid of the DDPM and DDIM codes.

        It starts below T, where some of the signal is left: kept for comparison, not advised.
        """
        _within(steps, schedule.T)
        times = 1 + torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (schedule.T // steps)
        return cls(torch.cat([times, torch.zeros(1, dtype=torch.float64)]))

    @classmethod
    def log_snr(cls, schedule: Schedule, steps: int, last: float = 1.0) -> Grid:
        """Even steps in log-SNR from T to t = ``last``, then one to 0, where log-SNR is infinite.

        A chain that ends at alpha_bar_T = 0 has no log-SNR there: its first time is T and the even steps begin at T - 1.
        """
        _checked(steps)
        return cls(
            _along(schedule, steps, last, lambda low, high, n: torch.linspace(low, high, n, dtype=torch.float64))
        )

    @classmethod
    def quadratic(cls, schedule: Schedule, steps: int) -> Grid:
        """``t_i = T (1 - i/n)²``: real times, closer together near the data (Song, Meng & Ermon 2021, App. D.2)."""
        return cls(schedule.T * torch.linspace(1, 0, _checked(steps) + 1, dtype=torch.float64) ** 2)

    @classmethod
    def rho(cls, schedule: Schedule, steps: int, rho: float = 7.0, last: float = 1.0) -> Grid:
        """``k_i = (k_max^(1/rho) + i/(n-1) (k_min^(1/rho) - k_max^(1/rho)))^rho``, then 0, with ``k = sigma/alpha``.

        (Karras et al. 2022, eq. 5.) k_max is that of T, k_min that of t = ``last``. A chain that ends at alpha_T = 0 has no k
        there: its first time is T and the grid begins at T - 1. Larger rho puts more of the steps near the data.
        """
        _checked(steps)
        if not rho > 0:
            raise ValueError(f"rho is an exponent above 0, not {rho}")

        def curve(low: float, high: float, n: int) -> Tensor:
            first, end = (math.exp(-level / 2 / rho) for level in (low, high))  # k^(1/rho), of log-SNR = -2 log k
            return -2 * rho * torch.linspace(first, end, n, dtype=torch.float64).log()

        return cls(_along(schedule, steps, last, curve))

    @classmethod
    def named(cls, spacing: str, schedule: Schedule, steps: int) -> Grid:
        """A grid by the name of its spacing, one of :data:`SPACINGS`, with options after a colon, such as ``rho:rho=5``.

        Raises:
            ValueError: for a name or an option that does not exist, and for more steps than whole times.
        """
        name, options = parsed(spacing)
        if name not in SPACINGS:
            raise ValueError(f"no spacing is called {name!r}; there are {', '.join(SPACINGS)}")
        try:
            return getattr(cls, name.replace("-", "_"))(schedule, steps, **options)
        except TypeError:
            raise ValueError(f"the spacing {name!r} does not take these options: {spacing}") from None

    @classmethod
    def custom(cls, times: Sequence[float]) -> Grid:
        """A grid from a list of falling times."""
        return cls(torch.tensor(list(times), dtype=torch.float64))


def _along(schedule: Schedule, steps: int, last: float, levels: Callable[[float, float, int], Tensor]) -> Tensor:
    """Times at log-SNR levels from that of T to that of ``last``, then 0; T itself first where it has no log-SNR."""
    first = torch.tensor([float(schedule.T)], dtype=torch.float64)
    finite = bool(torch.isfinite(schedule.log_snr(first)))
    begin = first if finite else first - 1
    head = [] if finite else first.tolist()
    inner = steps - len(head)
    if steps == 1:
        return torch.tensor([schedule.T, 0.0], dtype=torch.float64)
    if inner == 1:
        return torch.tensor([*head, last if head else schedule.T, 0.0], dtype=torch.float64)
    middle = schedule.time(levels(float(schedule.log_snr(begin)), float(schedule.log_snr(last)), inner))
    middle[0] = begin
    return torch.cat([torch.tensor(head, dtype=torch.float64), middle, torch.zeros(1, dtype=torch.float64)])


def _checked(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")
    return steps


def _within(steps: int, T: int) -> None:
    if _checked(steps) > T:
        raise ValueError(f"{steps} steps on whole times need a chain of at least as many; this one has {T}")
