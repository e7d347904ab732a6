"""Extractors that need no network from elsewhere: their axes and scale are those of the real data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from unstir.evaluation.extractors.base import Fit, identity
from unstir.sets.distances import moments

FILTERS, SIDE = 64, 3
KEPT = 32
_HELD = 1 << 20  # answers of filters at once: 4 MB, which stay in the processor's cache


_PICTURES = (
    "pictures as the network of the run sees them, at their own size; 64 random 3×3 filters, rectified, "
    "averaged over each quarter"
)


@dataclass(frozen=True)
class RandomFilters:
    """``f(x) = (pool(relu(W * x + b)) - m) P``: 64 random 3×3 filters, rectified, averaged over each quarter of the picture.

    Means and covariances of pixels alone cannot tell pictures from a Gaussian fog with theirs. Behind a rectifier they depend
    on all moments of a neighbourhood. W and b are normal from a fixed seed, m is the mean of the data's own features, and P is
    :meth:`fitted` or :meth:`leading`.
    """

    name: str
    rule: str
    hash: str
    """Of the name and of the data that it was fitted to: axes found by another processor differ in their last bits, not in this."""
    weight: Tensor
    bias: Tensor
    middle: Tensor
    project: Tensor

    @classmethod
    def fitted(cls, x: Tensor) -> RandomFilters:
        """``P = V diag(1 / sqrt(l + l̄))`` for pictures like x (N, C, H, W), -1 … 1.

        V are the principal axes of the data's own features, l their variances and l̄ the mean of these. Dividing makes of "far"
        "far for these data": noise, in which the filters answer where the data never vary, stands out as far as a wrong shape
        does; l̄ keeps directions that a few hundred pictures cannot tell from none from counting more than others.
        """
        weight, bias = _filters(x.shape[1])
        middle, covariance = moments(_quarters(x, weight, bias))
        values, vectors = torch.linalg.eigh(covariance)
        values = values.clamp(min=0)
        scale = (values + values.mean().clamp(min=1e-24)).rsqrt()  # data that are all alike have no size
        name = "random-filters-v2"
        rule = f"{_PICTURES}, along the principal axes of the training data, each over the root of its variance and the mean of all"
        return cls(name, rule, identity(name, (x,)), weight, bias, middle, vectors * scale)

    @classmethod
    def leading(cls, x: Tensor) -> RandomFilters:
        """P are the 32 leading axes, over one number, so that the mean square on the data is 1: older tables are in these.

        They cannot see noise that lies off those axes.
        """
        weight, bias = _filters(x.shape[1])
        name, rule = "random-filters-v1", f"{_PICTURES}; 32 leading components of the training data"
        return cls(name, rule, identity(name, (x,)), weight, bias, *_leading(_quarters(x, weight, bias)))

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 256), or (N, 32) of leading axes, float64."""
        return (_quarters(x, self.weight, self.bias) - self.middle) @ self.project


@dataclass(frozen=True)
class Components:
    """``f(x) = (x - m) V``: the 32 leading principal components of the numbers themselves, mean square 1 on the data.

    Symbols are taken one-hot. It sees means and covariances and all that the distance asks of them, but the Fréchet distance in
    it cannot tell data from a Gaussian with theirs: the kernel distance and the overlap can.
    """

    name: str = field(default="components-v1", init=False)
    rule: str = field(
        default="numbers as the network of the run sees them, symbols one-hot; at most 32 leading components of the training data",
        init=False,
    )
    hash: str
    """Of the name and of the data that it was fitted to."""
    classes: int
    """Of symbols; 0 for numbers."""
    middle: Tensor
    project: Tensor

    @classmethod
    def fitted(cls, x: Tensor) -> Components:
        """The features for data like x (N, *E): real numbers, bits as 0 and 1, or symbols as int64."""
        classes = 0 if x.is_floating_point() else int(x.max()) + 1
        return cls(identity("components-v1", (x,)), classes, *_leading(_numbers(x, classes)))

    def __call__(self, x: Tensor) -> Tensor:
        """(N, *E) to (N, F), F at most 32, float64."""
        return (_numbers(x, self.classes) - self.middle) @ self.project


FITTED: dict[str, Fit] = {
    "random-filters": RandomFilters.fitted,
    "random-filters-v1": RandomFilters.leading,
    "components": Components.fitted,
}
"""The built-in extractors by name, each fitted to real data."""


def _filters(channels: int) -> tuple[Tensor, Tensor]:
    """The same for everybody: W (64, C, 3, 3) and b (64,)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(FILTERS, channels, SIDE, SIDE, generator=generator, dtype=torch.float64) / SIDE
    return weight, torch.randn(FILTERS, generator=generator, dtype=torch.float64)


def _leading(features: Tensor) -> tuple[Tensor, Tensor]:
    """Their mean (D,), and their leading principal components, scaled to a mean square of 1 on these very rows: (D, F)."""
    middle, covariance = moments(features)
    values, vectors = torch.linalg.eigh(covariance)
    size = values[-KEPT:].clamp(min=0).sum().sqrt()
    return middle, vectors[:, -KEPT:] / size.clamp(min=1e-12)  # data that are all alike have no size


def _numbers(x: Tensor, classes: int) -> Tensor:
    if classes:
        # A class that the data never showed is none of these, and so all zeros.
        x = x[..., None] == torch.arange(classes, device=x.device)
    return x.flatten(1).double().cpu()


def _quarters(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    parts = []
    for part in x.split(max(_HELD // (FILTERS * x.shape[2] * x.shape[3]), 1)):
        seen = F.relu_(F.conv2d(part, weight.to(x), bias.to(x), padding=SIDE // 2))
        parts.append(F.adaptive_avg_pool2d(seen, 2).flatten(1).double().cpu())
    return torch.cat(parts)
