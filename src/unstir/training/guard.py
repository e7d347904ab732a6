"""When numbers stop being finite: whether that is one bad batch or the end of the run, and what it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from unstir.training.loop import Trainer

PATIENCE = 50
"""How many more updates may be skipped than made: so many in a row, or for a while more than every other one."""

LOWER = 0.5
"""What the learning rate is multiplied by when a run is rolled back."""


@dataclass
class Trouble:
    """Skipped updates that are not outnumbered by made ones yet.

    Attributes:
        since: the image count before the first of them.
    """

    count: int = 0
    since: int = 0

    def note(self, skipped: bool, before: int) -> bool:
        """Counts an update that began at this image count; whether patience is at its end."""
        if skipped and not self.count:
            self.since = before
        self.count = max(self.count + (1 if skipped else -1), 0)
        return self.count >= PATIENCE


class Diverged(Exception):
    """Training cannot go on from where it is: the message is the diagnosis, one line."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number is finite, with one look at the device for all of them."""
    # An infinity makes its sum infinite or NaN, and nothing finite does: sums in float64 do not overflow float32 numbers.
    sums = [tensor.sum(dtype=torch.float64) for tensor in tensors if tensor.is_floating_point()]
    return not sums or bool(torch.isfinite(torch.stack(sums)).all())


@torch.no_grad()
def diagnosis(trainer: Trainer, first: int) -> str:
    """Why the batch that begins with this global image index has no finite loss or gradient, in one sentence.

    Asked in the order of causes: weights, data, half precision; a finite loss leaves the gradient alone.
    """
    for name, parameter in zip(trainer.names, trainer.parameters, strict=True):
        if not all_finite([parameter]):
            return f"the weights {name} are not finite: lower optimiser.learning_rate"
    batch = trainer.batches.of(np.arange(first, first + trainer.config.optimiser.batch))
    strange = ~torch.isfinite(batch.x0.flatten(1).double().sum(1))
    if bool(strange.any()):
        return f"{int(strange.sum())} of {len(strange)} items of the batch hold numbers that are not finite: see unstir inspect"

    def loss() -> Tensor:
        return trainer.objective(trainer.denoiser, batch.x0, batch.t, batch.eps, batch.condition).mean()

    if not all_finite([loss()]):
        return "the loss itself is not finite, though the weights and the data are: lower optimiser.learning_rate"
    if trainer.engine.precision != "fp32":
        with trainer.engine.autocast():
            if not all_finite([loss()]):
                return f"the loss is finite in float32 and not in {trainer.engine.precision}: use --precision fp32"
    return "the loss is finite and its gradient is not: lower optimiser.learning_rate"
