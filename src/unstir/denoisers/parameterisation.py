"""What a network says about x_t, and how that is read: the translation between the walk and the network.

A parameterisation owns the whole way there and back: what goes into the network for (x_t, t), what its raw output means, and
how wrong an output is, which is what training makes small.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from unstir.denoisers.prediction import PredictionBase, VarianceRule
from unstir.processes import Process
from unstir.shapes import Data, LeadingB, Raw, Reals, Rows, Rows64


class Parameterisation:
    """The network of the DDPM family: it sees x_t as it is, and the time ``t - 1`` that those papers count from.

    Attributes:
        processes: the kinds of chain it can be read on.
        consecutive: whether the network speaks of the step from t to t - 1 alone, so that no time may be left out.
        variances: the rules for the reverse variance that it can be read with, or None for all.
    """

    name: ClassVar[str]
    processes: ClassVar[tuple[type[Process], ...]] = (Process,)
    consecutive: ClassVar[bool] = False
    variances: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, process: Process) -> None:
        self.process = process
        self.schedule = process.schedule

    def inputs(self, x_t: Data, t: Rows) -> tuple[Raw, Rows]:
        """The network's input (B, *E) and its time (B,), float32 (float64 when x_t is)."""
        return x_t, (t - 1).to(time_dtype(x_t))

    def read(self, raw: Raw, spread: Raw | None, x_t: Data, t: Rows, variance: VarianceRule) -> PredictionBase:
        """What a raw output says about x_t.

        Args:
            spread: the output's second half, where the variance is learned.
            variance: the denoiser's rule for the reverse step, which Gaussian predictions carry.
        """
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def error(self, raw: Raw, x0: Data, eps: Reals, t: Rows) -> Reals:
        """How wrong a raw output is, number by number, (B, *E): what the simple objective averages.

        Args:
            eps: the noise that x_t was made with.
        """
        raise ValueError(
            f'the prediction "{self.name}" has no error of its own: it learns by the bound, objective "variational"'
        )

    def x0_error(self, t: Rows) -> Rows64:
        """How far x0 moves for a unit of raw output: float64, (B,)."""
        raise ValueError(
            f'the prediction "{self.name}" has no weight between objectives: it learns by the bound, objective "variational"'
        )

    def describe(self) -> str | dict[str, Any]:
        """What :func:`unstir.denoisers.registry.get` needs to make it again."""
        return self.name


def time_dtype(x_t: LeadingB) -> torch.dtype:
    """The dtype in which a network is told the time."""
    return torch.float64 if x_t.dtype == torch.float64 else torch.float32
