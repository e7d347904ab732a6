"""Averages of the weights over the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unstir.averaging import gamma_of


class PowerEMA:
    """A power-function average: weights at step i count as ``i^gamma`` (Karras et al. 2024, eqs. 121, 123, 127).

    The update is ``ema <- beta ema + (1 - beta) weights`` with ``beta_n = (1 - 1/n)^(gamma + 1)``, so the first update forgets the
    initial weights altogether: the average is right from the first minute, and its memory grows with the run.

    Args:
        parameters: the tensors to follow; they are copied.
        width: the profile's standard deviation as a share of the run so far, in (0, 0.28]; 0.1 looks back over about the
            last fifth. It fixes gamma.
    """

    def __init__(self, parameters: Sequence[Tensor], width: float = 0.1) -> None:
        self.gamma = gamma_of(width)
        self.updates = 0
        self.values = [p.detach().clone().float() for p in parameters]

    @torch.no_grad()
    def update(self, parameters: Sequence[Tensor]) -> None:
        """Absorbs the weights after an optimizer step."""
        self.updates += 1
        beta = (1 - 1 / self.updates) ** (self.gamma + 1)
        torch._foreach_lerp_(self.values, [p.float() for p in parameters], 1 - beta)
