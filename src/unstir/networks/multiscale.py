"""The network of [SD15] for pictures: convolutions at several scales at once, dense layers beside them, and a readout in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.networks.conditioning import unconditional
from unstir.networks.embedding import Labels
from unstir.networks.readouts import TemporalReadout
from unstir.shapes import Images, ImagesOut, ImagesResized, RowNumbers


@dataclass(frozen=True)
class MultiScaleConfig:
    """The 2015 network for pictures in plain values; layers and widths are those of its authors' code.

    Args:
        in_channels, out_channels: of the images; a learned variance doubles out_channels.
        size: (H, W). Only the dense layers are tied to it.
        steps: number of times that the readout's bumps are spread over.
        scales: sizes that each convolutional layer works at: full, half, a quarter …; 0: no convolutions, as for MNIST.
        conv_layers, conv_hidden: convolutional layers, and channels of each.
        dense_layers, dense_hidden: layers on the whole image at once, and width of all but the last; 0 layers: none.
        dense_features: channels that the last dense layer gives each pixel.
        upper_layers, upper_hidden: layers on each pixel's features, the readout being the last, and width of the others.
        temporal_basis: bumps in time, J.
    """

    in_channels: int
    out_channels: int
    size: tuple[int, int]
    steps: int
    scales: int = 3
    conv_layers: int = 4
    conv_hidden: int = 20
    dense_layers: int = 0
    dense_hidden: int = 500
    dense_features: int = 2
    upper_layers: int = 2
    upper_hidden: int = 20
    temporal_basis: int = 10

    def __post_init__(self) -> None:
        # JSON has lists alone; equality and hashing want tuples.
        object.__setattr__(self, "size", tuple(self.size))
        _check(self)


class MultiScale(nn.Module):
    """x (B, C, H, W) and time (B,) to (B, out_channels, H, W) [SD15 App. D.2].

    ``features = [convolutions(x), dense(x)]`` pixel by pixel, tanh layers on each pixel's, then the :class:`TemporalReadout`.
    The readout starts at zero.
    """

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.config = config
        features = 0
        self.convolutions = nn.Sequential()
        if config.scales:
            widths = [config.in_channels] + [config.conv_hidden] * config.conv_layers
            self.convolutions.extend(
                MultiScaleConv(a, b, config.scales, after_softplus=layer > 0)
                for layer, (a, b) in enumerate(pairwise(widths))
            )
            features += config.conv_hidden
        self.dense = nn.Sequential()
        if config.dense_layers:
            pixels = math.prod(config.size)
            widths = [config.in_channels * pixels] + [config.dense_hidden] * (config.dense_layers - 1)
            self.dense.extend(_tanh_layers([*widths, config.dense_features * pixels], nn.Linear))
            features += config.dense_features
        widths = [features] + [config.upper_hidden] * (config.upper_layers - 1)
        self.upper = nn.Sequential(*_tanh_layers(widths, lambda a, b: nn.Conv2d(a, b, 1)))
        self.readout = TemporalReadout(config.steps, config.temporal_basis, widths[-1], config.out_channels)

    def forward(self, x: Images, time: RowNumbers, condition: Labels | None = None) -> ImagesOut:
        """The raw output, (B, out_channels, H, W).

        Args:
            x: (B, in_channels, H, W).
            time: (B,), real, from 0 to steps - 1.
            condition: has no label for this network, which knows no classes.

        Raises:
            UserError: for images of another size than the dense layers'.
        """
        unconditional(len(x), condition)
        size = x.shape[-2:]
        features = []
        if self.config.scales:
            features.append(self.convolutions(x))
        if self.config.dense_layers:
            if tuple(size) != self.config.size:
                made, given = (f"{width}×{height}" for height, width in (self.config.size, size))
                raise UserError(f"this network's dense layers see images of {made} pixels, not {given}")
            features.append(self.dense(x.flatten(1)).unflatten(1, (self.config.dense_features, *size)))
        return self.readout(self.upper(torch.cat(features, 1)), time)


class MultiScaleConv(nn.Module):
    """``softplus(sum_k up_k(conv_k(pool_k(x))))``, pool_k the mean over blocks of 2^k × 2^k pixels [SD15 App. D.2].

    One convolution whose kernel is fine in the middle and coarse far out, up to the blocks. Where the size is no multiple of
    2^k, the last blocks are the means of the pixels that there are.

    Args:
        in_channels, out_channels: of the images.
        scales: k = 0 … scales - 1.
        after_softplus: whether x comes from another such layer, which the weights then begin in accord with.
    """

    def __init__(self, in_channels: int, out_channels: int, scales: int, *, after_softplus: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            # One bias is enough for a sum.
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=k == 0)
            for k in range(scales)
        )
        _initialise(self.convs, after_softplus=after_softplus)

    def forward(self, x: Images) -> ImagesOut:
        total = None
        # From the coarsest down, doubling the sum so far: one enlargement a scale.
        for k in reversed(range(len(self.convs))):
            here = self.convs[k](pool(x, k))
            if total is not None:
                height, width = here.shape[-2:]
                here = here + F.interpolate(total, scale_factor=2.0, mode="nearest")[..., :height, :width]
            total = here
        assert total is not None
        return F.softplus(total)


def pool(x: Images, k: int) -> ImagesResized:
    """Means over blocks of 2^k × 2^k pixels, (B, C, H, W) to (B, C, ⌈H/2^k⌉, ⌈W/2^k⌉); cut blocks average what they have."""
    return F.avg_pool2d(x, 2**k, ceil_mode=True, count_include_pad=False) if k else x


def _initialise(convs: nn.ModuleList, *, after_softplus: bool) -> None:
    # softplus(z) is ln 2 + z/2 near 0: weights twice as large undo the half, the bias undoes the ln 2, and what varies in the
    # image lasts through the layers. The scales share the variance among them: a smooth image shows in all of them alike.
    total = torch.zeros(())
    for conv in convs:
        assert isinstance(conv, nn.Conv2d)
        gain = 2 if after_softplus else 1
        nn.init.normal_(conv.weight, std=gain / math.sqrt(9 * conv.in_channels * len(convs)))
        total = total + conv.weight.detach().sum((1, 2, 3))
    finest = convs[0].bias
    assert isinstance(finest, nn.Parameter)
    with torch.no_grad():
        finest.copy_(-math.log(2) * total if after_softplus else torch.zeros_like(total))


def _tanh_layers(widths: list[int], layer: Callable[[int, int], nn.Linear | nn.Conv2d]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        linear = layer(a, b)
        nn.init.xavier_normal_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return layers


def _check(config: MultiScaleConfig) -> None:
    def need(holds: bool, message: str) -> None:
        if not holds:
            raise UserError(f"the multi-scale network's {message}")

    sizes = (config.in_channels, config.out_channels, *config.size, config.steps, config.upper_layers)
    need(len(config.size) == 2, "size is (height, width)")
    need(min(sizes) >= 1, "channels, size, steps and upper_layers must be at least 1")
    need(min(config.scales, config.dense_layers) >= 0, "scales and dense_layers cannot be negative")
    need(
        config.scales + config.dense_layers > 0, "scales and dense_layers cannot both be 0: it would not see its input"
    )
    hidden = (config.conv_layers, config.conv_hidden, config.dense_hidden, config.dense_features, config.upper_hidden)
    need(min(hidden) >= 1, "conv_layers and hidden widths must be at least 1")
    coarsest = 2 ** max(config.scales - 1, 0)
    need(coarsest <= max(config.size), f"coarsest of {config.scales} scales has blocks larger than the image")
    need(1 <= config.temporal_basis <= config.steps, "temporal_basis must lie between 1 and steps")
