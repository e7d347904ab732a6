"""Schedules side by side: the numbers of a figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from unstir.schedules.base import Schedule, log_alpha_bar_at
from unstir.shapes import OtherVector64, Vector64


@dataclass(frozen=True)
class Curves:
    """One schedule's curves over t/T, float64.

    A schedule that does not preserve variance is shown as the one that does and has the same log-SNR, since x_t divided by
    ``sqrt(alpha² + sigma²)`` is that one's.

    Args:
        place: t/T of ``signal`` and ``log_snr``, evenly spread over 0 … 1, (n,).
        signal: ``sqrt alpha_bar(t)``, (n,).
        log_snr: (n,); +inf at t = 0, and -inf at T where nothing is left of the signal.
        step: t/T of ``beta``, (T,).
        beta: ``beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}`` at whole times, (T,).
    """

    place: Vector64
    signal: Vector64
    log_snr: Vector64
    step: OtherVector64
    beta: OtherVector64


@torch.no_grad()
def schedule_curves(schedules: Mapping[str, Schedule], places: int = 257) -> dict[str, Curves]:
    """What to draw of each schedule: sqrt alpha_bar, log-SNR and the betas against t/T.

    Args:
        places: n, how many times each curve is read at.
    """
    curves = {}
    for name, schedule in schedules.items():
        place = torch.linspace(0, 1, places, dtype=torch.float64)
        log_snr = schedule.log_snr(place * schedule.T)
        whole = log_alpha_bar_at(schedule.log_snr(torch.arange(schedule.T + 1, dtype=torch.float64)))
        step = torch.arange(1, schedule.T + 1, dtype=torch.float64) / schedule.T
        signal = (0.5 * log_alpha_bar_at(log_snr)).exp()
        curves[name] = Curves(place, signal, log_snr, step, -torch.expm1(whole.diff()))
    return curves
