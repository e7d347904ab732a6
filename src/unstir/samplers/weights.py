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


def ddim(schedule: Schedule, x: Reals, x0: Reals, t: Rows64, s: Rows64) -> Reals:
    """The step from t to s, (B,), that is exact while x0 (and with it eps) does not change: x (B, *E) to (B, *E)."""
    alpha, sigma = _scales(schedule, t, s)
    kept = sigma[:, 1] / sigma[:, 0]
    return per_row(kept, x) * x + per_row(alpha[:, 1] - alpha[:, 0] * kept, x) * x0


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
    alpha, sigma = _scales(schedule, t, s, others)
    dark = (alpha == 0).any(1)[:, None]
    z = _depth(alpha, sigma, dark)
    step = (z[:, 1] - z[:, 0])[:, None]
    if form == "x0":
        whole = (alpha[:, 1] - alpha[:, 0] * (sigma[:, 1] / sigma[:, 0]))[:, None]
    else:
        whole = (sigma[:, 1] - sigma[:, 0] * (alpha[:, 1] / alpha[:, 0]))[:, None]

    if even:
        at, integrals = -powers.double().expand(len(t), -1), whole / (powers + 1)
    else:
        # By quadrature along z, in which closed forms would cancel for small steps.
        nodes, parts = _NODES.to(t.device), _PARTS.to(t.device)
        along = torch.lerp(z[:, :1], z[:, 1:2], nodes)
        theta, place = nodes.expand_as(along), z
        if clock == "t":
            place = torch.where(dark, z, torch.cat([t[:, None], s[:, None], others], 1))
            theta = torch.where(dark, theta, (schedule.time(2 * along) - t[:, None]) / (s - t)[:, None])
        elif clock == "ratio":
            place = torch.where(dark, z, sigma / alpha)
        at = (place[:, 2:] - place[:, :1]) / (place[:, 1:2] - place[:, :1])
        rate = parts * step * _rate(alpha[:, 1:2], sigma[:, 1:2], along, dark, form)
        integrals = (rate[:, None] * theta[:, None] ** powers[:, None]).sum(-1)
        if clock == "ratio":
            integrals = torch.where(dark, integrals, whole / (powers + 1))
    if line != "exact":
        short = whole if line == "half" else step * _rate(alpha[:, 1:2], sigma[:, 1:2], z[:, 1:2], dark, form)
        integrals = torch.where((count[:, None] == 1) & (powers == 1), short / 2, integrals)
    integrals = torch.where(used, integrals * torch.where(powers == 2, second, 1.0), 0.0)
    # Rows that use fewer answers solve a smaller system: the rest of theirs reads w = 0.
    rest = torch.eye(len(powers), dtype=torch.float64, device=t.device)
    table = torch.where(used[:, :, None], at[:, None] ** powers[:, None], rest)
    return integrals / table[:, 0] if len(powers) == 1 else torch.linalg.solve(table, integrals)


def between(schedule: Schedule, t: Rows64, s: Rows64, part: Rows64) -> Rows64:
    """The time that lies a part of the way from t to s, 0 … 1, in lambda; in asinh(alpha / sigma) from alpha = 0. All (B,)."""
    alpha, sigma = _scales(schedule, t, s)
    dark = alpha[:, 0] == 0
    ends = _depth(alpha, sigma, dark[:, None])
    z = torch.lerp(ends[:, 0], ends[:, 1], part)
    return torch.where(part == 1, s, schedule.time(2 * torch.where(dark, z.sinh().log(), z)))


def _scales(schedule: Schedule, t: Tensor, s: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at t, at s, and at other times, (B, 2 + m)."""
    times = torch.cat([t[:, None], s[:, None], *others], 1)
    return schedule.alpha(times), schedule.sigma(times)


def _depth(alpha: Tensor, sigma: Tensor, dark: Tensor) -> Tensor:
    """z = lambda, or asinh(alpha / sigma) where dark."""
    ratio = alpha / sigma
    return torch.where(dark, ratio.asinh(), ratio.log())


def _rate(alpha: Tensor, sigma: Tensor, z: Tensor, dark: Tensor, form: Form) -> Tensor:
    """``sigma_s d(alpha/sigma)/dz``, or ``alpha_s d(sigma/alpha)/dz``, from the scales at s."""
    if form == "x0":
        return sigma * torch.where(dark, z.cosh(), z.exp())
    return -alpha * torch.where(dark, z.cosh() / z.sinh() ** 2, (-z).exp())


def _gauss(points: int) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on 0 … 1 (Golub & Welsch 1969)."""
    k = torch.arange(1, points, dtype=torch.float64)
    beside = k / (4 * k**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (nodes + 1) / 2, vectors[0] ** 2


_NODES, _PARTS = _gauss(8)
