"""Distributions: what the chain and the model say about a tensor, element by element, in nats.

Parameters broadcast against the data. Coefficients such as a step's variance may stay float64 of shape (B, 1, …, 1); they
are cast once, where they meet the tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from unstir.noise import NoiseSource
from unstir.shapes import (
    Broadcast,
    Classes,
    Data,
    Elements,
    Numbers,
    Reals,
    RowMask,
    RowSteps,
    Symbols,
    WithStates,
)

_LOG_2PI = math.log(2 * math.pi)


@runtime_checkable
class Distribution(Protocol):
    """What the bound, the objectives and the samplers ask of a distribution: elementwise, in nats.

    Numbers have a mean and a variance as well (:class:`Normal`, :class:`Bernoulli`); a class has neither, it has ``probs``.
    """

    def sample(self, noise: Numbers) -> Elements: ...
    def draw(self, noise: NoiseSource, purpose: str, step: RowSteps = 0, final: RowMask | None = None) -> Data: ...
    def log_prob(self, x: Elements) -> Numbers: ...
    def kl(self, other: Any) -> Numbers: ...
    def entropy(self) -> Numbers: ...
    def times(self, other: Any) -> Any: ...


@dataclass(frozen=True)
class Normal:
    """``N(mean, variance)``, independent in every element.

    Args:
        mean: any shape; its dtype is the distribution's.
        variance: broadcasts against the mean. Zero makes a point: it can be sampled and multiplied, but has no density.
    """

    mean: Numbers
    variance: Broadcast

    def sample(self, noise: Numbers) -> Numbers:
        """``mean + sqrt(variance) noise`` for standard normal noise of the mean's shape."""
        return self.mean + self._cast(self.variance.sqrt()) * noise

    def draw(self, noise: NoiseSource, purpose: str, step: RowSteps = 0, final: RowMask | None = None) -> Reals:
        """A sample whose noise is keyed by (purpose, step).

        Args:
            final: True, (B,), for rows whose draw ends a reverse chain: they get the mean, since the noise of the last step
                is no part of the data [HO20 alg. 2].
        """
        drawn = self.sample(noise.normal(self.mean.shape[1:], purpose, step, dtype=self.mean.dtype))
        if final is None:
            return drawn
        return torch.where(final.reshape(-1, *(1,) * (drawn.ndim - 1)), self.mean, drawn)

    def log_prob(self, x: Numbers) -> Numbers:
        """``-½ ((x - mean)² / variance + log(2 pi variance))``, of the shape of x."""
        log_scale = self._cast(_LOG_2PI + self.variance.log())
        return -0.5 * ((x - self.mean) ** 2 / self._cast(self.variance) + log_scale)

    def kl(self, other: Normal) -> Numbers:
        """``KL(self ‖ other) = ½ (r - 1 - log r + (mean - other.mean)² / other.variance)``, r the ratio of variances.

        A point differs infinitely from all but itself.
        """
        point = other.variance == 0
        variance = torch.where(point, 1.0, other.variance)
        ratio = self.variance / variance
        shape_term = ratio - 1 - ratio.log()
        apart = 0.5 * (self._cast(shape_term) + (self.mean - other.mean) ** 2 / self._cast(variance))
        same = (self.variance == 0) & (self.mean == other.mean)
        return torch.where(point, torch.where(same, 0.0, torch.inf).to(apart), apart)

    def entropy(self) -> Numbers:
        """``½ log(2 pi e variance)``, of the mean's shape."""
        return self._cast(0.5 * (1 + _LOG_2PI + self.variance.log())).expand(self.mean.shape)

    def times(self, other: Normal) -> Normal:
        """The renormalised product of two densities; a point stays where it is [SD15 §2.5]."""
        total = self.variance + other.variance
        mean = self._cast(other.variance / total) * self.mean + self._cast(self.variance / total) * other.mean
        return Normal(mean, self.variance * other.variance / total)

    def _cast(self, coefficient: Tensor) -> Tensor:
        return coefficient.to(self.mean.dtype)


@dataclass(frozen=True)
class DiscretizedNormal:
    """A normal on the scaled axis gathered into the 256 bins of 8-bit levels: the decoder of [HO20 eq. 13].

    Level k stands at ``2k/255 - 1`` and owns the interval ``± 1/255`` around it; the first and the last bin own everything
    below and above, so the 256 masses sum to one.

    Args:
        mean: on the scaled axis, any shape.
        variance: broadcasts against the mean, positive.
    """

    mean: Numbers
    variance: Broadcast
    levels: int = 256

    def log_prob(self, x: Numbers) -> Numbers:
        """The log mass of the bin that each x stands in, nats, of the shape of x.

        Raises:
            ValueError: if x does not lie on the levels ``2k/255 - 1``: a mass of such data has no meaning.
        """
        half = 1 / (self.levels - 1)
        level = (x + 1) / (2 * half)
        nearest = level.round()
        on_level = ((level - nearest).abs() <= 1e-2) & (nearest >= 0) & (nearest <= self.levels - 1)
        if not bool(on_level.all()):  # asked this way round, NaN is refused too
            raise ValueError(
                f"the data does not lie on the {self.levels} levels 2k/{self.levels - 1} - 1, "
                'so it has no bin masses: use decoder="normal"'
            )
        scale = self.variance.sqrt().to(self.mean.dtype)
        offset = x - self.mean
        low = torch.where(nearest == 0, -torch.inf, (offset - half) / scale)
        high = torch.where(nearest == self.levels - 1, torch.inf, (offset + half) / scale)
        # Both ends are mirrored into the lower tail, where log_ndtr keeps its digits; there the mass is the difference.
        mirror = low + high > 0
        low, high = torch.where(mirror, -high, low), torch.where(mirror, -low, high)
        log_high = torch.special.log_ndtr(high)
        return log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high))

    def log_masses(self) -> WithStates:
        """The log masses of all levels, shape (*mean.shape, levels)."""
        grid = torch.arange(self.levels, dtype=self.mean.dtype, device=self.mean.device) * 2 / (self.levels - 1) - 1
        variance = self.variance.expand(self.mean.shape)[..., None]
        wide = DiscretizedNormal(self.mean[..., None].expand(*self.mean.shape, self.levels), variance, self.levels)
        return wide.log_prob(grid.expand(*self.mean.shape, self.levels))


@dataclass(frozen=True)
class Bernoulli:
    """``P(1) = sigmoid(logits)`` for data that is 0 or 1, independent in every element.

    Both ``log P(1) = logsigmoid(logits)`` and ``log P(0) = logsigmoid(-logits)`` keep all their digits, however rare the value.

    Args:
        logits: ``log P(1) - log P(0)``, any shape, float32 or float64; ``±inf`` makes a point.
    """

    logits: Numbers

    @classmethod
    def from_probs(cls, p: Numbers) -> Bernoulli:
        """The distribution with ``P(1) = p``.

        Raises:
            ValueError: if a p lies outside 0 … 1.
        """
        if not bool(((p >= 0) & (p <= 1)).all()):  # asked this way round, NaN is refused too
            raise ValueError("a probability lies between 0 and 1: some of these do not")
        return cls(torch.logit(p))

    @property
    def mean(self) -> Numbers:
        """``P(1)``, of the logits' shape."""
        return self.logits.sigmoid()

    @property
    def mode(self) -> Numbers:
        """The likelier value, 0 or 1."""
        return (self.logits > 0).to(self.logits.dtype)

    @property
    def variance(self) -> Numbers:
        """``P(0) P(1)``, of the logits' shape."""
        return self.logits.sigmoid() * (-self.logits).sigmoid()

    def sample(self, noise: Numbers) -> Numbers:
        """1 where ``noise < P(1)``, else 0, in the logits' dtype; noise uniform in (0, 1), of the logits' shape."""
        p = self.logits.double().sigmoid()
        # Noise rounded to 1 must not move a point.
        return ((noise < p) | (p == 1)).to(self.logits.dtype)

    def draw(self, noise: NoiseSource, purpose: str, step: RowSteps = 0, final: RowMask | None = None) -> Reals:
        """A sample whose noise is keyed by (purpose, step). ``final`` changes nothing: a mass is drawn at the last step too."""
        return self.sample(noise.uniform(self.logits.shape[1:], purpose, step))

    def log_prob(self, x: Elements) -> Numbers:
        """``log P(x)``, of the shape of x.

        Raises:
            ValueError: if x holds anything but 0 and 1.
        """
        ones = x == 1
        if not bool((ones | (x == 0)).all()):
            raise ValueError("the data holds values other than 0 and 1, which have no mass here")
        return logsigmoid(torch.where(ones, self.logits, -self.logits))

    def kl(self, other: Bernoulli) -> Numbers:
        """``KL(self ‖ other) = sum_x P(x) log(P(x) / other.P(x))``: inf where the other lacks what this one has.

        Two close distributions differ by d and their divergence by d², which float32 would lose in terms of size d: the sum
        is taken in float64.
        """
        (p0, p1), (q0, q1) = self._logs(), other._logs()
        return (_surplus(p0, q0) + _surplus(p1, q1)).to(self.logits.dtype)

    def entropy(self) -> Numbers:
        """``-sum_x P(x) log P(x)``, 0 for a point; of the logits' shape."""
        (p0, p1), zero = self._logs(), self.logits.new_zeros(())
        return -(_surplus(p0, zero) + _surplus(p1, zero)).to(self.logits.dtype)

    def times(self, other: Bernoulli) -> Bernoulli:
        """The renormalised product, ``P(1) = c d / (c d + (1 - c)(1 - d))``: logits add [SD15 Table App.1].

        A point stays where it is; two opposite points have no product, and give NaN.
        """
        return Bernoulli(self.logits + other.logits)

    def _logs(self) -> tuple[Tensor, Tensor]:
        """``log P(0), log P(1)`` in float64."""
        wide = self.logits.double()
        return logsigmoid(-wide), logsigmoid(wide)


@dataclass(frozen=True)
class Categorical:
    """``P(k) = softmax(logits)_k`` for data that is a class 0 … K-1, independent in every element.

    Args:
        logits: (…, K), log probabilities up to a constant for each element; ``-inf`` rules a class out.
    """

    logits: WithStates

    @property
    def log_probs(self) -> WithStates:
        """``log P(k)``, (…, K)."""
        return self.logits.log_softmax(-1)

    @property
    def probs(self) -> WithStates:
        """``P(k)``, (…, K)."""
        return self.logits.softmax(-1)

    @property
    def mode(self) -> Classes:
        """The likeliest class, int64 (…)."""
        return self.logits.argmax(-1)

    def sample(self, noise: Numbers) -> Classes:
        """The first class whose cumulative probability passes the noise: int64 (…).

        A class of probability 0 is never drawn, whatever way sums and noise are rounded.

        Args:
            noise: (…), one uniform number in (0, 1) for each element.
        """
        probs = self.logits.double().softmax(-1)
        classes = torch.arange(probs.shape[-1], device=probs.device)
        possible = probs > 0
        passed = possible & (probs.cumsum(-1) > noise[..., None])
        # Where no sum passes, since they end a rounding below 1, it is the last class there is.
        last = torch.where(possible, classes, 0).amax(-1)
        return torch.minimum(torch.where(passed, classes, len(classes)).amin(-1), last)

    def draw(self, noise: NoiseSource, purpose: str, step: RowSteps = 0, final: RowMask | None = None) -> Symbols:
        """A sample whose noise is keyed by (purpose, step). ``final`` changes nothing: a mass is drawn at the last step too."""
        return self.sample(noise.uniform(self.logits.shape[1:-1], purpose, step))

    def log_prob(self, x: Elements) -> Numbers:
        """``log P(x)`` of the classes x (…), of the shape of x.

        Raises:
            ValueError: if x is not int64, or holds anything but 0 … K-1.
        """
        classes = self.logits.shape[-1]
        if x.dtype != torch.int64:
            raise ValueError(f"classes are whole numbers of dtype int64, not {x.dtype}: convert them with .long()")
        if not bool(((x >= 0) & (x < classes)).all()):
            raise ValueError(f"the data holds classes outside 0 … {classes - 1}")
        return self.log_probs.expand(*x.shape, classes).gather(-1, x[..., None])[..., 0]

    def kl(self, other: Categorical) -> Numbers:
        """``KL(self ‖ other) = sum_k P(k) log(P(k) / other.P(k))``, (…): inf where the other lacks what this one has.

        In float64 until the sum is taken, as in :meth:`Bernoulli.kl`.
        """
        return _surplus(self._logs(), other._logs()).sum(-1).to(self.logits.dtype)

    def entropy(self) -> Numbers:
        """``-sum_k P(k) log P(k)``, (…), 0 for a point."""
        return -_surplus(self._logs(), self.logits.new_zeros(())).sum(-1).to(self.logits.dtype)

    def times(self, other: Categorical) -> Categorical:
        """The renormalised product of two masses: logits add [SD15 §2.5]. Two that share no class have none, and give NaN."""
        return Categorical(self.logits + other.logits)

    def _logs(self) -> Tensor:
        return self.logits.double().log_softmax(-1)


def _surplus(log_p: Tensor, log_q: Tensor) -> Tensor:
    """``p (log p - log q)``, where 0 log 0 = 0 and a q of 0 under any p above 0 gives inf."""
    ratio = torch.where(log_p == -torch.inf, 0.0, log_p - log_q)
    # Asked of the ratio, since a p may underflow to 0 and would make NaN of it.
    return torch.where(ratio == torch.inf, torch.inf, log_p.exp() * ratio)
