"""The network of [SD15] for the binary heartbeat: sigmoid layers, and a readout for each step of the chain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from unstir.errors import UserError
from unstir.networks.conditioning import unconditional
from unstir.networks.embedding import Labels
from unstir.networks.readouts import NestedReadout
from unstir.shapes import Features, Points, RowNumbers


@dataclass(frozen=True)
class StepMLPConfig:
    """A sigmoid network with a readout for each step in plain values.

    Args:
        in_features, out_features: numbers in a point, and in the answer for it.
        steps: number of times, each with a readout of its own.
        width: of each hidden layer.
        depth: hidden layers.
        levels: of the readout, see :class:`NestedReadout`: more than 1 helps a long chain to learn what its times share.
    """

    in_features: int
    out_features: int
    steps: int
    width: int = 50
    depth: int = 3
    levels: int = 1

    def __post_init__(self) -> None:
        if min(self.in_features, self.out_features, self.steps, self.width, self.depth, self.levels) < 1:
            raise UserError("the step MLP's features, steps, width, depth and levels must be at least 1")


class StepMLP(nn.Module):
    """``h_l = sigmoid(h_{l-1} A_l + a_l)``, ``h_0 = x``, ``y = h_depth W_t + b_t`` [SD15 App. D.1].

    The hidden layers are shared by all times; the readout (W_t, b_t) is each time's own.
    """

    whole_times = True  # each time has a readout of its own, and between them there is none

    def __init__(self, config: StepMLPConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.in_features] + [config.width] * config.depth
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.readout = NestedReadout(config.steps, config.width, config.out_features, config.levels)
        for layer, linear in enumerate(self.hidden):
            assert isinstance(linear, nn.Linear)
            _initialise(linear, after_sigmoid=layer > 0)

    def forward(self, x: Points, time: RowNumbers, condition: Labels | None = None) -> Features:
        """The raw output, (B, out_features).

        Args:
            x: (B, in_features).
            time: (B,), read at the nearest of 0 … steps - 1.
            condition: has no label for this network, which knows no classes.
        """
        unconditional(len(x), condition)
        h = x
        for linear in self.hidden:
            h = torch.sigmoid(linear(h))
        return self.readout(h, time)


def _initialise(linear: nn.Linear, *, after_sigmoid: bool) -> None:
    # sigmoid(z) = 1/2 + tanh(z/2)/2, so these weights and biases begin as the tanh network that Glorot & Bengio 2010 found to
    # train: the 2 undoes z/2, another 2 the halved tanh, and the bias the 1/2 that every unit of the layer before adds.
    # At torch's own weights, which leave a seventh at each layer, the heartbeat had taught nothing after 4000 updates.
    nn.init.xavier_normal_(linear.weight, gain=4 if after_sigmoid else 2)
    nn.init.zeros_(linear.bias)
    if after_sigmoid:
        with torch.no_grad():
            linear.bias.copy_(-linear.weight.sum(1) / 2)
