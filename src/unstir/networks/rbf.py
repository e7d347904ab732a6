"""The network of [SD15] for the swiss roll: one layer of normalised radial basis functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unstir.errors import UserError
from unstir.networks.conditioning import unconditional
from unstir.networks.embedding import Labels
from unstir.networks.readouts import StepReadout
from unstir.shapes import Features, Points, RowNumbers


@dataclass(frozen=True)
class RBFConfig:
    """A network of radial basis functions in plain values.

    Args:
        in_features, out_features: numbers in a point, and in the answer for it; a learned variance doubles out_features.
        steps: number of times, each with a readout of its own.
        units: radial basis functions.
    """

    in_features: int
    out_features: int
    steps: int
    units: int = 16

    def __post_init__(self) -> None:
        if min(self.in_features, self.out_features, self.steps, self.units) < 1:
            raise UserError("the RBF network's features, steps and units must be at least 1")


class RBF(nn.Module):
    """``y = phi(x) W_t`` with ``phi_j(x) = exp(-|x - c_j|² / 2w_j²) / sum_k exp(-|x - c_k|² / 2w_k²)`` [SD15 App. D.1].

    Centres c and widths w are shared by all times and by all outputs; the readout W_t is each time's own. It has no bias: the
    phi_j sum to one, so that the same number added to all of W_t's rows is one. W_t starts with the centres as its first columns.
    """

    whole_times = True  # each time has a readout of its own, and between them there is none

    def __init__(self, config: RBFConfig) -> None:
        super().__init__()
        self.config = config
        self.centres = nn.Parameter(_spread(config.units, config.in_features))
        # In the plane the distance between neighbours among so many points of a standard normal; in any dimension a width at
        # which each unit has a share of such points, and a point a few units.
        spacing = 2 * config.units ** (-1 / config.in_features)
        self.log_widths = nn.Parameter(torch.full((config.units,), math.log(spacing)))
        self.readout = StepReadout(config.steps, config.units, config.out_features, bias=False)
        # Untrained, it answers with the centre that is near: from zero, 40 readouts of a small network find worse places to end.
        with torch.no_grad():
            self.readout.weight[:, :, : config.in_features] = self.centres[:, : config.out_features]

    def activations(self, x: Points) -> Features:
        """The phi_j(x): (B, in_features) to (B, units), positive, each row summing to one."""
        distances = (x[:, None] - self.centres).square().sum(2)
        return torch.softmax(-0.5 * distances * (-2 * self.log_widths).exp(), 1)

    def forward(self, x: Points, time: RowNumbers, condition: Labels | None = None) -> Features:
        """The raw output, (B, out_features).

        Args:
            x: (B, in_features).
            time: (B,), read at the nearest of 0 … steps - 1.
            condition: has no label for this network, which knows no classes.
        """
        unconditional(len(x), condition)
        return self.readout(self.activations(x), time)


def _spread(units: int, features: int) -> Tensor:
    """Where the centres begin, for data with variance 1: (units, features).

    In the plane evenly over a disc of radius 2, each turned by the golden angle from the one before and the first at random, so
    that none are close; elsewhere at random, standard normal.
    """
    if features != 2:
        return torch.randn(units, features)
    place = torch.arange(units) + 0.5
    angle = 2 * math.pi * torch.rand(1) + place * math.pi * (3 - math.sqrt(5))
    return 2 * (place / units).sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
