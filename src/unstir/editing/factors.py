"""Factors: what multiplying by r(x) asks of a distribution beyond ``times``, elementwise.

A factor is a distribution read as a function r up to a constant: ``Normal(y, v)`` is ``exp(-(x - y)²/2v)``, a variance of 0 a
point, an infinite one r = 1; ``Bernoulli(0)`` and equal logits are r = 1 for bits and symbols.
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unstir import processes
from unstir.distributions import Bernoulli, Categorical, Distribution, Normal
from unstir.processes import Process
from unstir.processes.base import column
from unstir.shapes import Column64, Data, Logits, Mask, Rows


def product(distribution: Any, factor: Any, where: Mask | None = None) -> Any:
    """``p(x) r(x) / Z``, in the distribution's dtype, whatever the factor's; where r = 1, p itself to the bit.

    Args:
        where: bool, broadcasting against x; elsewhere r is 1, whatever the factor holds there.

    Raises:
        ValueError: where p and r have no value in common, so that the product has no mass.
    """
    result = _times(distribution, factor)
    return checked(result if where is None else select(where, result, distribution), distribution)


def checked(result: Any, before: Distribution) -> Any:
    """The result of a multiplication, once it is seen to have mass wherever there was mass before.

    Raises:
        ValueError: where it has none, and so no entropy either.
    """
    lacking = result.entropy().isnan()
    # Where the model itself says nothing (a state that its data never reach), no factor is to blame.
    if bool(lacking.any()) and bool((lacking & ~before.entropy().isnan()).any()):
        raise ValueError(
            "the product has no mass: what one factor allows, the model or another factor rules out; "
            "loosen one of them (a noise above 0, fewer known values)"
        )
    return result


@singledispatch
def _times(distribution: Any, factor: Any) -> Any:
    raise ValueError(f"a {type(distribution).__name__} cannot be multiplied")


@_times.register
def _(distribution: Normal, factor: Any) -> Normal:
    y, v = _expected(factor, Normal).mean.to(distribution.mean), factor.variance.to(distribution.variance)
    factor = Normal(y, v)
    # Of variances without end, and of two points at one place, the plain formula makes inf/inf and 0/0.
    result = select(torch.isposinf(distribution.variance), factor, distribution.times(factor))
    same = (distribution.variance == 0) & (v == 0) & (distribution.mean == y)
    return select(torch.isposinf(v) | same, distribution, result)


@_times.register
def _(distribution: Bernoulli, factor: Any) -> Bernoulli:
    return distribution.times(Bernoulli(_expected(factor, Bernoulli).logits.to(distribution.logits)))


@_times.register
def _(distribution: Categorical, factor: Any) -> Categorical:
    logits = _expected(factor, Categorical).logits.to(distribution.logits)
    if logits.shape[-1] == distribution.logits.shape[-1] - 1:
        # A mask may yet become any class: it weighs what they weigh on average.
        average = logits.logsumexp(-1, keepdim=True) - math.log(logits.shape[-1])
        logits = torch.cat([logits, average], -1)
    return distribution.times(Categorical(logits))


def spread(factor: Any, like: Data) -> Any:
    """The factor with a parameter for each element of x (B, *E), on x's device.

    Raises:
        ValueError: if its shape does not broadcast to x's.
    """
    event = (-1,) if isinstance(factor, Categorical) else ()
    first, *others = (getattr(factor, field.name).to(like.device) for field in fields(factor))
    try:
        return type(factor)(first.expand(*like.shape, *event), *others)
    except RuntimeError:
        raise ValueError(
            f"a factor of shape {tuple(first.shape)} does not fit data of shape {tuple(like.shape)}"
        ) from None


@singledispatch
def power(factor: Any, exponent: Column64) -> Any:
    """``r(x)^w`` for w > 0: variances are divided by w, logits multiplied.

    Args:
        exponent: w, float64 (B, 1, …, 1) to meet x (B, *E).
    """
    raise ValueError(f"a {type(factor).__name__} has no power")


@power.register
def _(factor: Normal, exponent: Tensor) -> Normal:
    return Normal(factor.mean, factor.variance / exponent)


@power.register
def _(factor: Bernoulli, exponent: Tensor) -> Bernoulli:
    return Bernoulli(factor.logits * exponent)


@power.register
def _(factor: Categorical, exponent: Tensor) -> Categorical:
    return Categorical(factor.logits * exponent[..., None])


@singledispatch
def carried(factor: Any, process: Process, s: Rows) -> Any:
    """``r_s(x_s) = E[r(x0) | x_s]`` as it were if every x0 were equally likely: ``∝ sum_x0 r(x0) q(x_s|x0) / sum_x0 q(x_s|x0)``.

    For real numbers ``N(alpha_s y, alpha_s² v + sigma_s²)``, by integrating; for bits and symbols the sum over their values.

    Args:
        factor: r on the scale of x0, of x's shape (B, *E). s: times (B,).
    """
    raise ValueError(f"a {type(factor).__name__} cannot be carried along a chain")


@carried.register
def _(factor: Normal, process: Process, s: Tensor) -> Normal:
    marginal = process.marginal(factor.mean, s)
    assert isinstance(marginal, Normal)
    alpha = process.schedule.alpha(column(s, factor.mean))
    return Normal(marginal.mean, marginal.variance + alpha**2 * factor.variance)


@carried.register
def _(factor: Bernoulli, process: Process, s: Tensor) -> Bernoulli:
    # q(x_s | x0), with x0 = 0 and 1 along a last dimension.
    x0 = torch.arange(2, dtype=torch.float64, device=factor.logits.device)
    kernel = process.marginal(x0.expand(len(s), *(1,) * (factor.logits.ndim - 1), 2), s)
    assert isinstance(kernel, Bernoulli)
    wide = factor.logits.double()[..., None]
    r = torch.cat([logsigmoid(-wide), logsigmoid(wide)], -1)
    one, zero = (_averaged(kernel.log_prob(torch.full_like(kernel.logits, bit)), r) for bit in (1, 0))
    return Bernoulli(one - zero)


@carried.register
def _(factor: Categorical, process: Process, s: Tensor) -> Categorical:
    assert isinstance(process, processes.Categorical)
    classes = process.classes  # a mask is never clean data, whatever r says of it
    x0 = torch.arange(classes, device=factor.logits.device)
    kernel = process.marginal(x0.expand(len(s), *(1,) * (factor.logits.ndim - 2), classes), s)
    assert isinstance(kernel, Categorical)
    return Categorical(_averaged(kernel.log_probs.movedim(-2, -1), factor.logits.double()[..., None, :classes]))


def _averaged(log_q: Tensor, log_r: Tensor) -> Tensor:
    """``log (sum_x0 r(x0) q(x_s|x0) / sum_x0 q(x_s|x0))``, x0 along the last dimension; at s = 0 that is r itself.

    A mask at s = 0 comes from no x0 at all; it is given the average r, which it has at every later time.
    """
    total = log_q.logsumexp(-1, keepdim=True)
    log_q = torch.where(total == -torch.inf, -math.log(log_q.shape[-1]), log_q - total)
    return (log_q + log_r).logsumexp(-1)


def select(where: Mask, a: Any, b: Any) -> Any:
    """The distribution that is ``a`` where the mask holds and ``b`` elsewhere, both of one kind.

    Args:
        where: bool, broadcasting against x.
    """
    # Logits of symbols have one dimension more than the symbols.
    mask = where[..., None] if isinstance(b, Categorical) else where
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in fields(b)]
    return type(b)(*(torch.where(mask.to(second.device), first.to(second), second) for first, second in pairs))


def log_masses(factor: Distribution, states: int, like: Data) -> Logits:
    """``log r(k)`` for the states k = 0 … K-1, with 0 for the likeliest: (B, *E, K), so that r = 1 is 0 to the bit.

    Args:
        like: data of the kind and shape (B, *E) that r is about.
    """
    values = torch.stack([factor.log_prob(torch.full_like(like, k)) for k in range(states)], -1)
    return values - values.amax(-1, keepdim=True)


def _expected(factor: Any, kind: type) -> Any:
    if not isinstance(factor, kind):
        raise ValueError(f"this data is multiplied by a {kind.__name__}, not by a {type(factor).__name__}")
    return factor
