"""Parzen windows: the score by which [SD15] table 2 compares models of MNIST, and why it should not be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIGMAS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""Ten widths from 0.1 to 1, evenly in their logarithm, for pixels in 0 … 1."""

_ROWS = 500  # that meet all centres at once: 20 MB of distances to 10,000 centres


@dataclass(frozen=True)
class Score:
    """What the protocol finds.

    Args:
        bits: mean over the test set of log2 p. standard_error: of that mean, from the spread over the test set.
        sigma: the width that was chosen.
    """

    bits: float
    standard_error: float
    sigma: float


def squared_distances(x: Tensor, centres: Tensor) -> Tensor:
    """``|x_i - c_j|² = |x_i|² + |c_j|² - 2 x_i · c_j``, (N, D) and (M, D) to (N, M)."""
    lengths = x.square().sum(1)[:, None] + centres.square().sum(1)
    return torch.addmm(lengths, x, centres.T, alpha=-2).clamp_(min=0)


def log_likelihood(x: Tensor, centres: Tensor, sigmas: Sequence[float]) -> Tensor:
    """``log p(x) = log (1/M) sum_j N(x; c_j, sigma² I)``: nats, float64 (len(sigmas), N).

    Args:
        x: (N, D). centres: (M, D), the samples of a model.
    """
    count, dims = centres.shape
    # Distances do not mind a shift, but rounding does: it grows with the lengths.
    middle = centres.mean(0)
    x, centres = x - middle, centres - middle
    out = torch.empty(len(sigmas), len(x), dtype=torch.float64)
    for first in range(0, len(x), _ROWS):
        distances = squared_distances(x[first : first + _ROWS], centres)
        for i, sigma in enumerate(sigmas):
            width = 2 * sigma**2
            normaliser = math.log(count) + dims / 2 * math.log(math.pi * width)
            out[i, first : first + _ROWS] = torch.logsumexp(distances / -width, 1).double() - normaliser
    return out


def parzen(samples: Tensor, validation: Tensor, test: Tensor, sigmas: Sequence[float] = SIGMAS) -> Score:
    """The protocol of Goodfellow et al. 2014 (§5): sigma is the best on the validation set, the score is the test set's.

    ``sigma = argmax mean_validation log p``, score ``mean_test log p / ln 2``, p the :func:`log_likelihood` around the samples.
    What it measures is how near the samples come to the test set, not how likely the model finds it (Theis et al. 2016).

    Args:
        samples: (M, D), drawn from a model; 10,000 in the paper, pixels in 0 … 1.
        validation, test: (N, D), neither of which the model was trained on.
    """
    sigma = sigmas[int(log_likelihood(validation, samples, sigmas).mean(1).argmax())]
    bits = log_likelihood(test, samples, [sigma])[0] / math.log(2)
    return Score(float(bits.mean()), float(bits.std() / math.sqrt(len(bits))), sigma)


def kmeans(x: Tensor, count: int, iterations: int, seed: int = 0) -> Tensor:
    """Lloyd's ``c_j = mean {x_i : j = argmin_k |x_i - c_k|}``, begun at rows drawn without repetition: (count, D).

    A centre to which nothing is nearest stays where it is.

    Args:
        x: (N, D), N at least count. iterations: how often all centres move.

    Raises:
        ValueError: for more centres than rows.
    """
    if not 1 <= count <= len(x):
        raise ValueError(f"{count} centres need at least as many rows; there are {len(x)}")
    centres = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:count]].clone()
    for _ in range(iterations):
        nearest = torch.cat([squared_distances(part, centres).argmin(1) for part in x.split(_ROWS)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, x)
        numbers = torch.bincount(nearest, minlength=count)[:, None]
        centres = torch.where(numbers > 0, sums / numbers.clamp(min=1), centres)
    return centres
