"""The one sum behind the fast solvers: what other answers weigh in the solution of a step.

The probability-flow ODE has two forms in which only the network's answer is left under an integral,

    ``x_s = (sigma_s / sigma_t) x_t + sigma_s ∫ x0 d(alpha / sigma)``
    ``x_s = (alpha_s / alpha_t) x_t + alpha_s ∫ eps d(sigma / alpha)``

(Lu et al. 2022a, eq. 3.4; 2022b, eq. 8; Zhang & Chen 2023, eq. 11). An answer that does not change gives the DDIM step; one that
is a polynomial in some clock, through the answers at hand, gives the solvers of the DPM, UniPC and Adams families.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unstir.samplers.base import per_row
from unstir.schedules import Schedule
from unstir.shapes import Reals, RowLabels, Rows64, RowTable64

Form = Literal["x0", "eps"]
"""Which answer stands under the integral."""

Clock = Literal["log-snr", "t", "ratio"]
"""What the polynomial is a polynomial in: lambda = log(alpha / sigma), half the log-SNR; t itself; or sigma / alpha."""

Line = Literal["exact", "half", "end"]
"""How a straight line, the polynomial through two answers, is integrated: exactly, or by a published short cut."""


def ddim(schedule: Schedule, x: Reals, answer: Reals, t: Rows64, s: Rows64, form: Form = "x0") -> Reals:
    """The step from t to s, (B,), that is exact while the answer does not change: x (B, *E) to (B, *E)."""
    alpha, sigma = schedule.alpha(s), schedule.sigma(s)
    if form == "x0":
        kept = sigma / schedule.sigma(t)
    else:
        kept = alpha / schedule.alpha(t)
    return per_row(kept, x) * x + per_row(_whole(schedule, t, s, form), x) * answer


def weights(
    schedule: Schedule,
    t: Rows64,
    s: Rows64,
    others: RowTable64,
    count: RowLabels,
    *,
    form: Form = "x0",
    clock: Clock = "log-snr",
    line: Line = "exact",
    second: float = 1.0,
    even: bool = False,
) -> RowTable64:
    """``w_j`` of the step ``x_s = DDIM(x_t) + sum_j w_j (f_j - f_t)`` that is exact for polynomials in the clock.

    They solve ``sum_j w_j theta_j^k = ∫ theta^k``, k = 1 … count, with theta the clock, set to 0 at t and to 1 at s. A row that
    looks back to alpha = 0, where log-SNR and sigma / alpha are infinite, reads ``asinh(alpha / sigma)`` in their place: 0 there,
    and log(2 alpha / sigma) where the signal is the larger.

    Args:
        t, s: where the step begins and ends, (B,).
        others: the times of the other answers f_j, (B, m).
        count: how many of the others each row uses at most, from the first on, (B,). A step to s = 0 uses none.
        line: for rows that use one: the integral of theta exactly; as half of 1's (``half``: the midpoint rule of Lu et al. 2022b,
            B2(h) of Zhao et al. 2023); or as half of what it would be at the end's rate (``end``: their B1(h)).
        second: a factor on the integral of theta², for a published formula that lacks one.
        even: take the times as evenly spread, and the integral as even in them, as fixed coefficients do.

    Returns:
        (B, m), float64.
    """
    powers, count = torch.arange(1, others.shape[1] + 1, device=t.device), count.clamp(max=others.shape[1])
    used = (powers <= count[:, None]) & ((s > 0) & (s < t))[:, None]
    dark = (schedule.alpha(t) == 0) | (schedule.alpha(others) == 0).any(1)
    if even:
        at, whole = -powers.double().expand(len(t), -1), _whole(schedule, t, s, form)
        integrals = whole[:, None] / (powers + 1)
    else:
        begin, end = _read(schedule, t, dark, clock), _read(schedule, s, dark, clock)
        at = (_read(schedule, others, dark[:, None], clock) - begin[:, None]) / (end - begin)[:, None]
        integrals = _integrals(schedule, t, s, powers, dark, form, clock)
    if line != "exact":
        short = _whole(schedule, t, s, form) if line == "half" else _at_the_ends_rate(schedule, t, s, dark, form)
        integrals = torch.where((count[:, None] == 1) & (powers == 1), short[:, None] / 2, integrals)
    integrals = torch.where(used, integrals * torch.where(powers == 2, second, 1.0), 0.0)
    # Rows that use fewer answers solve a smaller system: the rest of theirs reads w = 0.
    rest = torch.eye(len(powers), dtype=torch.float64, device=t.device)
    table = torch.where(used[:, :, None], at[:, None] ** powers[:, None], rest)
    return integrals / table[:, 0] if len(powers) == 1 else torch.linalg.solve(table, integrals)


def _read(schedule: Schedule, times: Tensor, dark: Tensor, clock: Clock = "log-snr") -> Tensor:
    """The clock at some times, and ``asinh(alpha / sigma)`` where ``dark``; both of one shape."""
    ratio = schedule.alpha(times) / schedule.sigma(times)
    if clock == "t":
        own = times
    elif clock == "ratio":
        own = 1 / ratio
    else:
        own = schedule.log_snr(times) / 2
    return torch.where(dark, ratio.asinh(), own)


def between(schedule: Schedule, t: Rows64, s: Rows64, part: Rows64) -> Rows64:
    """The time that lies a part of the way from t to s, 0 … 1, in lambda; in asinh(alpha / sigma) from alpha = 0. All (B,)."""
    dark = schedule.alpha(t) == 0
    z = torch.lerp(_read(schedule, t, dark), _read(schedule, s, dark), part)
    inner = schedule.time(2 * torch.where(dark, z.sinh().log(), z))
    return torch.where(part == 1, s, inner)


def _whole(schedule: Schedule, t: Tensor, s: Tensor, form: Form) -> Tensor:
    """``sigma_s ∫ d(alpha / sigma)``, or ``alpha_s ∫ d(sigma / alpha)``: what an answer that does not change adds."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = ((schedule.alpha(u), schedule.sigma(u)) for u in (t, s))
    if form == "x0":
        return alpha_s - alpha_t * (sigma_s / sigma_t)
    return sigma_s - sigma_t * (alpha_s / alpha_t)


def _gauss(points: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on 0 … 1 (Golub & Welsch 1969)."""
    k = torch.arange(1, points, dtype=torch.float64)
    beside = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (nodes + 1) / 2, vectors[0] ** 2


_NODES, _PARTS = _gauss(8)


def _integrals(
    schedule: Schedule, t: Tensor, s: Tensor, powers: Tensor, dark: Tensor, form: Form, clock: Clock
) -> Tensor:
    """The form's integral of each power of theta from t to s, (B, m).

    By quadrature along lambda (asinh(alpha / sigma) where dark), in which closed forms would cancel for small steps.
    """
    nodes, parts = _NODES.to(t.device), _PARTS.to(t.device)
    start, end = _read(schedule, t, dark), _read(schedule, s, dark)
    z = torch.lerp(start[:, None], end[:, None], nodes)
    theta = nodes
    if clock == "t":
        theta = torch.where(dark[:, None], nodes, (schedule.time(2 * z) - t[:, None]) / (s - t)[:, None])
    rate = _rate(schedule, s[:, None], z, dark[:, None], form) * (end - start)[:, None]
    integrals = ((parts * rate)[:, None] * theta.expand_as(z)[:, None] ** powers[:, None]).sum(-1)
    if clock == "ratio" and form == "eps":  # the form's own variable
        integrals = torch.where(dark[:, None], integrals, _whole(schedule, t, s, form)[:, None] / (powers + 1))
    return integrals


def _at_the_ends_rate(schedule: Schedule, t: Tensor, s: Tensor, dark: Tensor, form: Form) -> Tensor:
    start, end = _read(schedule, t, dark), _read(schedule, s, dark)
    return (end - start) * _rate(schedule, s, end, dark, form)


def _rate(schedule: Schedule, s: Tensor, z: Tensor, dark: Tensor, form: Form) -> Tensor:
    """``sigma_s d(alpha/sigma)/dz``, or ``alpha_s d(sigma/alpha)/dz``, with z = lambda, or asinh(alpha / sigma) where dark."""
    alpha, sigma = schedule.alpha(s), schedule.sigma(s)
    away = z - schedule.log_snr(s) / 2
    if form == "x0":
        return torch.where(dark, sigma * z.cosh(), alpha * away.exp())
    return torch.where(dark, -alpha * z.cosh() / z.sinh() ** 2, -sigma * (-away).exp())
