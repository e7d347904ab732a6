"""Noisy observations: how y came from x0, for each kind of data, and what that makes of r(x0) = p(y | x0)."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from unstir import distributions
from unstir.distributions import Bernoulli, Distribution, Normal
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.shapes import Data, Meeting

Noise = float | Meeting


@singledispatch
def likelihood(process: Any, y: Data, noise: Noise) -> Distribution:
    """``r(x0) = p(y | x0)`` as a factor, element by element.

    - Real numbers: ``y = x0 + sqrt(noise) n``, so ``r = N(x0; y, noise)``; noise is a variance, 0 … inf.
    - Bits: each flipped with probability ``noise``, 0 … 1, so ``r(y) : r(1 - y) = 1 - noise : noise``.
    - Symbols: each replaced with probability ``noise`` by one of the K - 1 others, all alike.

    Args:
        y: (B, *E). noise: one number, or a tensor that broadcasts against y; 0 is a value known exactly.

    Raises:
        ValueError: for noise that is no variance, respectively no probability, and for a y that is no data.
    """
    raise ValueError(f"a {type(process).__name__} chain has no channel of noise")


@likelihood.register
def _(process: Gaussian, y: Tensor, noise: Noise) -> Normal:
    variance = torch.as_tensor(noise, dtype=torch.float64, device=y.device)
    if not bool((variance >= 0).all()):  # asked this way round, NaN is refused too
        raise ValueError("the noise of an observation is a variance: 0 or above")
    if not y.is_floating_point() or not bool((y.isfinite() | variance.isposinf()).all()):
        raise ValueError(
            "an observation of real numbers is finite and floating-point: give what was not observed an infinite variance"
        )
    return Normal(y, variance)


@likelihood.register
def _(process: Binomial, y: Tensor, noise: Noise) -> Bernoulli:
    flip = _probability(noise, y)
    if not bool(((y == 0) | (y == 1)).all()):
        raise ValueError("an observation of bits is 0 and 1: give what was not observed a noise of 0.5")
    return Bernoulli((2 * y.double() - 1) * (torch.log1p(-flip) - flip.log()))


@likelihood.register
def _(process: Categorical, y: Tensor, noise: Noise) -> distributions.Categorical:
    replaced = _probability(noise, y)[..., None]
    if y.dtype != torch.int64 or not bool(((y >= 0) & (y < process.classes)).all()):
        raise ValueError(
            f"an observation of symbols is int64, 0 … {process.classes - 1}: give what was not observed the noise "
            f"{process.classes - 1}/{process.classes}"
        )
    here = y[..., None] == torch.arange(process.classes, device=y.device)
    return distributions.Categorical(
        torch.where(here, torch.log1p(-replaced), replaced.log() - math.log(process.classes - 1))
    )


@singledispatch
def matched(process: Any, y: Data, noise: float) -> tuple[float, Data]:
    """The time tau at which the forward chain has done to x0 just what the noise did, and y on the scale of x_tau.

    ``q(x_tau | x0)`` is then the likelihood of y, so the reverse chain begun there draws from ``p(x0 | y)`` itself, whatever the
    data. tau is seldom whole, and the denoiser is asked about that very time, below 1 where the noise is less than the first
    step's: a network that learned whole times alone is asked beyond them there. Real numbers: ``sigma_tau² / alpha_tau² = noise``.
    Bits with pi = 1/2: ``alpha_bar_tau = 1 - 2 noise``. Symbols in the uniform chain: ``alpha_bar_tau = 1 - noise K/(K - 1)``.

    Raises:
        ValueError: if there is no such time.
    """
    raise ValueError(f"a {type(process).__name__} chain has no channel of noise")


@matched.register
def _(process: Gaussian, y: Tensor, noise: float) -> tuple[float, Tensor]:
    if not noise > 0:
        raise ValueError(f"the noise of an observation to start from is a variance above 0, not {noise}")
    tau = _time(process, -math.log(noise))
    return tau, process.schedule.alpha(tau).to(y) * y


@matched.register
def _(process: Binomial, y: Tensor, noise: float) -> tuple[float, Tensor]:
    if process.pi != 0.5:
        raise ValueError(
            f"with pi = {process.pi} the chain flips zeros and ones unlike, and its noise is never the observation's: "
            "give the observation as a factor"
        )
    return _time_kept(process, 1 - 2 * noise), y


@matched.register
def _(process: Categorical, y: Tensor, noise: float) -> tuple[float, Tensor]:
    if process.kind != "uniform":
        raise ValueError("behind a mask symbols are never wrong, only hidden: give the observation as a factor")
    return _time_kept(process, 1 - noise * process.classes / (process.classes - 1)), y


def _time_kept(process: Any, kept: float) -> float:
    if not 0 < kept < 1:
        raise ValueError("this noise leaves all of the data, or nothing: there is no time to start from")
    return _time(process, math.log(kept) - math.log1p(-kept))


def _time(process: Any, log_snr: float) -> float:
    if log_snr < float(process.schedule.log_snr(process.T)):
        raise ValueError("the observation is noisier than the chain's end: there is no time to start from")
    return float(process.schedule.time(log_snr))


def _probability(noise: Noise, y: Tensor) -> Tensor:
    p = torch.as_tensor(noise, dtype=torch.float64, device=y.device)
    if not bool(((p >= 0) & (p <= 1)).all()):  # asked this way round, NaN is refused too
        raise ValueError("the noise of an observation is a probability here: between 0 and 1")
    return p
