"""Distributions: what the chain and the model say about a tensor, element by element, in nats.

Parameters broadcast against the data. Coefficients such as a step's variance may stay float64 of shape (B, 1, …, 1); they
are cast once, where they meet the tensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unstir.noise import NoiseSource

_LOG_2PI = math.log(2 * math.pi)


class Distribution(Protocol):
    """What the bound, the objectives and the samplers ask of a distribution: elementwise, in nats."""

    @property
    def mean(self) -> Tensor: ...
    @property
    def variance(self) -> Tensor: ...
    def sample(self, noise: Tensor) -> Tensor: ...
    def draw(
        self, noise: NoiseSource, purpose: str, step: int | Tensor = 0, final: Tensor | None = None
    ) -> Tensor: ...
    def log_prob(self, x: Tensor) -> Tensor: ...
    def kl(self, other: Any) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def times(self, other: Any) -> Any: ...


@dataclass(frozen=True)
class Normal:
    """``N(mean, variance)``, independent in every element.

    Args:
        mean: any shape; its dtype is the distribution's.
        variance: broadcasts against the mean. Zero makes a point: it can be sampled and multiplied, but has no density.
    """

    mean: Tensor
    variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + sqrt(variance) noise`` for standard normal noise of the mean's shape."""
        return self.mean + self._cast(self.variance.sqrt()) * noise

    def draw(self, noise: NoiseSource, purpose: str, step: int | Tensor = 0, final: Tensor | None = None) -> Tensor:
        """A sample whose noise is keyed by (purpose, step).

        Args:
            final: True, (B,), for rows whose draw ends a reverse chain: they get the mean, since the noise of the last step
                is no part of the data [HO20 alg. 2].
        """
        drawn = self.sample(noise.normal(self.mean.shape[1:], purpose, step, dtype=self.mean.dtype))
        if final is None:
            return drawn
        return torch.where(final.reshape(-1, *(1,) * (drawn.ndim - 1)), self.mean, drawn)

    def log_prob(self, x: Tensor) -> Tensor:
        """``-½ ((x - mean)² / variance + log(2 pi variance))``, of the shape of x."""
        log_scale = self._cast(_LOG_2PI + self.variance.log())
        return -0.5 * ((x - self.mean) ** 2 / self._cast(self.variance) + log_scale)

    def kl(self, other: Normal) -> Tensor:
        """``KL(self ‖ other) = ½ (r - 1 - log r + (mean - other.mean)² / other.variance)``, r the ratio of variances."""
        ratio = self.variance / other.variance
        shape_term = ratio - 1 - ratio.log()
        return 0.5 * (self._cast(shape_term) + (self.mean - other.mean) ** 2 / self._cast(other.variance))

    def entropy(self) -> Tensor:
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

    mean: Tensor
    variance: Tensor
    levels: int = 256

    def log_prob(self, x: Tensor) -> Tensor:
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

    def log_masses(self) -> Tensor:
        """The log masses of all levels, shape (*mean.shape, levels)."""
        grid = torch.arange(self.levels, dtype=self.mean.dtype, device=self.mean.device) * 2 / (self.levels - 1) - 1
        variance = self.variance.expand(self.mean.shape)[..., None]
        wide = DiscretizedNormal(self.mean[..., None].expand(*self.mean.shape, self.levels), variance, self.levels)
        return wide.log_prob(grid.expand(*self.mean.shape, self.levels))
