"""Formulas of the derivation that no other room needs as code: the stations between one result and the next.

``docs/derivation.en.md`` and ``docs/derivation.zh.md`` number their formulas and name the function that computes each. Most
live where they are used; these are left, so that every line of the derivation can be run. ``s < t`` are times, x is elementwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from unstir.denoisers import DenoiserBase
from unstir.distributions import Normal
from unstir.processes import Gaussian, Process
from unstir.processes.base import column
from unstir.schedules import Schedule, Time
from unstir.shapes import Broadcast, Column64, Data, Numbers, Numbers64, Reals, Rows64, RowTimes, Times

Path = Sequence[Data]
"""One walk of the chain: ``x_0, x_1, …, x_T``, each (B, *E)."""


# --- the chain --------------------------------------------------------------------------------------------------------


def independent_sum(first: Normal, second: Normal) -> Normal:
    """``N(m1, v1) + N(m2, v2) = N(m1 + m2, v1 + v2)`` for independent draws: variances add, not deviations."""
    return Normal(first.mean + second.mean, first.variance + second.variance)


def compose(first: tuple[Broadcast, Broadcast], second: tuple[Broadcast, Broadcast]) -> tuple[Broadcast, Broadcast]:
    """``(a2 a1, a2² v1 + v2)``: two kernels x -> N(a x, v), one after the other, are one.

    Args:
        first, second: pairs (a, v), in the order in which they act.
    """
    (a1, v1), (a2, v2) = first, second
    return a2 * a1, a2**2 * v1 + v2


def reverse_cumulants(
    process: Gaussian, x_t: Reals, derivatives: Sequence[Reals], s: RowTimes, t: RowTimes
) -> list[Reals]:
    """``kappa_n[x_s | x_t] = (s2/a)^n d^n/dx^n (log q(x) + x²/(2 s2))`` at x = x_t: the shape of the true reverse step.

    The step q(x_t | x_s) makes ``q(x_s | x_t)`` an exponential family in x_t, whose cumulants are derivatives of its
    normaliser. The first two are mean (Robbins 1956) and variance; the others vanish as s2^n, so short steps back are Gaussian.

    Args:
        x_t: (B, 1), one number each.
        derivatives: the first, second, … derivative of log q(x_t), each of x_t's shape.
    """
    step = process.step(torch.ones_like(x_t), s, t)
    a, s2 = step.mean, step.variance
    gaussian = [x_t / s2, 1 / s2] + [torch.zeros_like(x_t)] * len(derivatives)
    return [(s2 / a) ** n * (d + g) for n, (d, g) in enumerate(zip(derivatives, gaussian), start=1)]


# --- the bound --------------------------------------------------------------------------------------------------------


def forward_log_prob(process: Process, path: Path) -> Rows64:
    """``log q(x_{1:T} | x0) = sum_{t=1..T} log q(x_t | x_{t-1})``, nats, float64 (B,) [HO20 eq. 2]."""
    parts = [process.step(a, t, t + 1).log_prob(b) for t, (a, b) in enumerate(pairwise(path))]
    return _nats(parts)


def backward_log_prob(process: Process, path: Path) -> Rows64:
    """``log q(x_{1:T} | x0) = log q(x_T | x0) + sum_{t=2..T} log q(x_{t-1} | x_t, x0)``, nats, float64 (B,).

    The same number as :func:`forward_log_prob`: Bayes at every step, and what is left of the marginals telescopes.
    """
    x0, T = path[0], len(path) - 1
    parts = [process.posterior(path[t], x0, t - 1, t).log_prob(path[t - 1]) for t in range(2, T + 1)]
    return _nats([process.marginal(x0, T).log_prob(path[T]), *parts])


def telescoped_log_prob(process: Process, path: Path) -> Rows64:
    """``sum_{t=2..T} log q(x_t | x0) / q(x_{t-1} | x0) = log q(x_T | x0) - log q(x_1 | x0)``, nats, float64 (B,)."""
    x0, T = path[0], len(path) - 1
    return _nats([process.marginal(x0, T).log_prob(path[T])]) - _nats([process.marginal(x0, 1).log_prob(path[1])])


def data_log_prob(process: Gaussian, data: Normal, path: Path) -> Rows64:
    """``log q(x_{0:T}) = log q(x_T) + sum_{t=1..T} log q(x_{t-1} | x_t)``, nats, float64 (B,) [HO20 eqs. 23 to 25].

    The true chain read backwards without knowing x0: for Gaussian data each step is the posterior averaged over ``q(x0 | x_t)``.
    The same number as ``log q(x0)`` and :func:`forward_log_prob` together.

    Args:
        data: N(m, c) in every number, of a shape that broadcasts against x (B, *E).
    """
    T = len(path) - 1
    parts = [_noised(process, data, path[T], T)[0].log_prob(path[T])]
    for t in range(1, T + 1):
        x0 = _noised(process, data, path[t], t)[1]
        parts.append(process.posterior(path[t], x0, t - 1, t).log_prob(path[t - 1]))
    return _nats(parts)


def model_log_prob(denoiser: DenoiserBase, path: Path) -> Rows64:
    """``log p(x_{0:T}) = log p(x_T) + sum_{t=1..T} log p(x_{t-1} | x_t)``, nats, float64 (B,) [HO20 eq. 1].

    The denoiser's own reverse step serves as the last one too, so a ``small`` variance, which is 0 there, gives no density.
    """
    x_T, T = path[-1], len(path) - 1
    parts = [denoiser.process.prior(x_T.shape, x_T.dtype, x_T.device).log_prob(x_T)]
    for t in range(1, T + 1):
        before = torch.full((len(x_T),), t - 1, dtype=torch.float64, device=x_T.device)
        parts.append(denoiser.predict(path[t], t).reverse(before).log_prob(path[t - 1]))
    return _nats(parts)


def path_nats(denoiser: DenoiserBase, path: Path) -> Rows64:
    """``log q(x_{1:T} | x0) / p(x_{0:T})``, nats, float64 (B,).

    Its mean over paths from q is the bound; the mean of ``exp(-path_nats)`` is p(x0) itself [SD15 §2.3; HO20 eq. 3].
    """
    return forward_log_prob(denoiser.process, path) - model_log_prob(denoiser, path)


# --- the posterior ----------------------------------------------------------------------------------------------------


def completed_square(
    process: Gaussian, x_t: Reals, x0: Reals, s: RowTimes, t: RowTimes
) -> tuple[Column64, Reals, Reals]:
    """``A, B, C`` of ``A x_s² - 2 B x_s + C``, which is -2 times the exponent of q(x_t|x_s) q(x_s|x0) / q(x_t|x0).

    ``A = a²/s2 + 1/sigma_s²``, ``B = a x_t/s2 + alpha_s x0/sigma_s²``, and C, all the rest, is exactly B²/A: completing the
    square leaves ``A (x_s - B/A)²`` and nothing else. So 1/A and B/A are the posterior's variance and mean.
    """
    a, s2, alpha_s, alpha_t, var_s, var_t = _coefficients(process.schedule, s, t, x_t)
    A = a**2 / s2 + 1 / var_s
    B = a * x_t / s2 + alpha_s * x0 / var_s
    C = x_t**2 / s2 + (alpha_s * x0) ** 2 / var_s - (x_t - alpha_t * x0) ** 2 / var_t
    return A, B, C


# --- the road to the simple loss --------------------------------------------------------------------------------------


def mean_from_eps(process: Gaussian, x_t: Reals, eps: Reals, s: RowTimes, t: RowTimes) -> Reals:
    """``(x_t - s2/sigma_t eps) / a``: the posterior's mean, with x0 written through x_t and eps [HO20 eqs. 10, 11]."""
    a, s2, _, _, _, var_t = _coefficients(process.schedule, s, t, x_t)
    return (x_t - s2 / var_t.sqrt() * eps) / a


def x0_weight(process: Gaussian, s: Rows64, t: Rows64, variance: Rows64) -> Rows64:
    """``(alpha_s s2/sigma_t²)² / (2 variance)``: what an error of x0 costs in the step's KL; float64 (B,)."""
    _, s2, alpha_s, _, _, var_t = _coefficients(process.schedule, s, t, variance)
    return (alpha_s * s2 / var_t) ** 2 / (2 * variance)


def eps_weight(process: Gaussian, s: Rows64, t: Rows64, variance: Rows64) -> Rows64:
    """``s2² / (2 variance a² sigma_t²)``: what an error of eps costs in the step's KL; float64 (B,) [HO20 eq. 12]."""
    a, s2, _, _, _, var_t = _coefficients(process.schedule, s, t, variance)
    return s2**2 / (2 * variance * a**2 * var_t)


def snr_weight(schedule: Schedule, s: Times, t: Times) -> Numbers64:
    """``(SNR_s - SNR_t) / 2``: :func:`x0_weight` when the variance is the posterior's; float64, of t's shape (Kingma et al. 2021)."""
    return (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) / 2


def wrong_variance_nats(ratio: Numbers) -> Numbers:
    """``½ (ratio - 1 - log ratio)``: the KL of two Gaussians of one mean, ratio being true over modelled variance; nats."""
    return (ratio - 1 - ratio.log()) / 2


# --- multiplying by r(x) ----------------------------------------------------------------------------------------------


def perturbed(step: Normal, slope: Numbers) -> Normal:
    """``N(mu + Sigma grad log r(mu), Sigma)``: a reverse step times r(x), for a log r that is straight across the step.

    [SD15 Table App.1, App. C.] Exact for ``r(x) = exp(slope x)``; otherwise the mean errs by the order of ``Sigma²``.

    Args:
        slope: ``grad log r`` at the step's mean, of its shape.
    """
    return Normal(step.mean + step.variance.to(step.mean.dtype) * slope, step.variance)


def carried_back(step: tuple[Broadcast, Broadcast, Broadcast], r: Normal) -> Normal:
    """``r_t(x_t) = E[r_s(x_s) | x_t] ∝ N(x_t; (y - b)/a, (w + v)/a²)`` for a step N(a x_t + b, v) and ``r_s = N(x_s; y, w)``.

    With these r the chain of multiplied steps samples ``p(x0) r_0(x0) / Z`` itself [SD15 eqs. 16 to 21].

    Args:
        step: a, b and v of an affine reverse step p(x_s | x_t).
        r: r_s, up to a constant.
    """
    a, b, v = step
    return Normal((r.mean - b) / a, (r.variance + v) / a**2)


# --- between two pictures ---------------------------------------------------------------------------------------------


def interpolated(first: Reals, second: Reals, share: float) -> Reals:
    """``(1 - share) x_t + share x_t'``, (B, *E): where a walk back from t begins that ends between two pictures [HO20 §4.4].

    Of independent noises ``((1 - share)² + share²) sigma_t²`` is left, less than an x_t should have.
    """
    return (1 - share) * first + share * second


# --- without noise ----------------------------------------------------------------------------------------------------


def flow_velocity(schedule: Schedule, x_t: Reals, score: Reals, t: Rows64) -> Reals:
    """``dx/dt = f x - ½ g² grad log q(x)``, ``f = d log alpha/dt``, ``g² = d sigma²/dt - 2 f sigma²`` (Song et al. 2021, eq. 13).

    Args:
        x_t, score: (B, *E). t: float64 (B,), strictly between the places where the schedule has a kink.
    """
    with torch.enable_grad():
        t = column(t, x_t).detach().requires_grad_()
        log_alpha, var = schedule.alpha(t).log(), schedule.sigma(t) ** 2
        f, var_rate = (torch.autograd.grad(value.sum(), t)[0] for value in (log_alpha, var))
    g2 = var_rate - 2 * f * var.detach()
    return f * x_t - g2 / 2 * score


def level_bits(k_bits: float, *, dims: int, level_std: float) -> float:
    """``log2 s - K/D``: bits/dim of whole levels, from K in bits of data that were scaled to variance 1.

    Scaling by 1/s multiplies the density by s in each of the D numbers, and a level is one wide. This is the road from
    [SD15 table 1] to the tables of later papers, which printed K itself as bits/dim.

    Args:
        k_bits: of one sample (for [SD15]'s pixels: of one pixel), higher is better.
        dims: D, the numbers in that sample. level_std: s, the standard deviation of the levels.
    """
    return math.log2(level_std) - k_bits / dims


def _coefficients(schedule: Schedule, s: Time, t: Time, like: Tensor) -> tuple[Tensor, ...]:
    """``a, s2, alpha_s, alpha_t, sigma_s², sigma_t²``, float64, to meet a tensor (B, *E)."""
    s, t = column(s, like), column(t, like)
    alpha_s, alpha_t, var_s, var_t = (
        schedule.alpha(s),
        schedule.alpha(t),
        schedule.sigma(s) ** 2,
        schedule.sigma(t) ** 2,
    )
    a = alpha_t / alpha_s
    return a, var_t - a**2 * var_s, alpha_s, alpha_t, var_s, var_t


def _noised(process: Gaussian, data: Normal, x_t: Tensor, t: Time) -> tuple[Normal, Normal]:
    """``q(x_t)`` and ``q(x0 | x_t)`` of data N(m, c)."""
    alpha, noise = process.schedule.alpha(column(t, x_t)), process.schedule.sigma(column(t, x_t)) ** 2
    total = alpha**2 * data.variance + noise
    mean, gain = alpha.to(x_t.dtype) * data.mean, (alpha * data.variance / total).to(x_t.dtype)
    return Normal(mean, total), Normal(data.mean + gain * (x_t - mean), data.variance * noise / total)


def _nats(parts: Sequence[Tensor]) -> Tensor:
    return sum((part.flatten(1).sum(1, dtype=torch.float64) for part in parts), torch.zeros((), dtype=torch.float64))
