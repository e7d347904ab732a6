"""Grids: the times a sampler visits, written out, so that every step is an explicit pair (t, s)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from unstir.schedules import Schedule
from unstir.shapes import Anything

SPACINGS = ("uniform", "leading", "trailing", "log-snr")


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
        first = torch.tensor([float(schedule.T)], dtype=torch.float64)
        begin = first if bool(torch.isfinite(schedule.log_snr(first))) else first - 1
        head = first[: len(first) if begin is not first else 0]
        low, high = float(schedule.log_snr(begin)), float(schedule.log_snr(last))
        inner = steps - len(head)
        if steps == 1:
            return cls(torch.tensor([schedule.T, 0.0]))
        if inner == 1:
            return cls(torch.tensor([*head.tolist(), last if len(head) else schedule.T, 0.0]))
        middle = schedule.time(torch.linspace(low, high, inner, dtype=torch.float64))
        middle[0] = begin
        return cls(torch.cat([head, middle, torch.zeros(1, dtype=torch.float64)]))

    @classmethod
    def named(cls, spacing: str, schedule: Schedule, steps: int) -> Grid:
        """A grid by the name of its spacing: uniform, leading, trailing or log-snr."""
        if spacing not in SPACINGS:
            raise ValueError(f"no spacing is called {spacing!r}; there are {', '.join(SPACINGS)}")
        return getattr(cls, spacing.replace("-", "_"))(schedule, steps)

    @classmethod
    def custom(cls, times: Sequence[float]) -> Grid:
        """A grid from a list of falling times."""
        return cls(torch.tensor(list(times), dtype=torch.float64))


def _checked(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"sampling needs at least one step, not {steps}")
    return steps


def _within(steps: int, T: int) -> None:
    if _checked(steps) > T:
        raise ValueError(f"{steps} steps on whole times need a chain of at least as many; this one has {T}")
