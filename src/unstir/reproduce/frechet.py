"""The Fréchet distance between samples and data, in features that need no network from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unstir.evaluation.distances import frechet_distance, moments

FILTERS, SIDE = 64, 3
KEPT = 32


@dataclass(frozen=True)
class Features:
    """``f(x) = (pool(relu(W * x + b)) - m) V``: 64 random 3×3 filters, rectified, averaged over each quarter of the picture.

    Means and covariances of pixels alone cannot tell pictures from a Gaussian fog with theirs. Behind a rectifier they depend
    on all moments of a neighbourhood. W and b are normal from a fixed seed; V holds the 32 leading principal components of
    the data's own features, divided by one number so that their mean square on the data is 1: distances have a scale.
    """

    weight: Tensor
    bias: Tensor
    middle: Tensor
    project: Tensor

    @classmethod
    def fitted(cls, x: Tensor) -> Features:
        """The features for pictures like x (N, C, H, W), -1 … 1, which axes and scale are taken from."""
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(FILTERS, x.shape[1], SIDE, SIDE, generator=generator, dtype=torch.float64) / SIDE
        bias = torch.randn(FILTERS, generator=generator, dtype=torch.float64)
        middle, covariance = moments(_quarters(x, weight, bias))
        values, vectors = torch.linalg.eigh(covariance)
        size = values[-KEPT:].clamp(min=0).sum().sqrt()
        return cls(weight, bias, middle, vectors[:, -KEPT:] / size.clamp(min=1e-12))  # pictures that are all alike

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 32), float64."""
        return (_quarters(x, self.weight, self.bias) - self.middle) @ self.project

    def distance(self, first: Tensor, second: Tensor) -> float:
        """The :func:`~unstir.evaluation.distances.frechet_distance` between two sets of pictures, (N, C, H, W) and (M, C, H, W)."""
        return frechet_distance(self(first), self(second))


def _quarters(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    parts = []
    for part in x.split(500):  # all filters' answers to a large set would not fit at once
        seen = F.relu(F.conv2d(part, weight.to(x.dtype), bias.to(x.dtype), padding=SIDE // 2))
        parts.append(F.adaptive_avg_pool2d(seen, 2).flatten(1).double())
    return torch.cat(parts)
