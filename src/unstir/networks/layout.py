"""Where the weights of convolutions lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def lay_out(module: nn.Module, memory_format: torch.memory_format | None = None) -> None:
    """Puts all weights of four dimensions into a layout; no value changes.

    Args:
        memory_format: by default the one that the network says it is fastest in.
    """
    form = memory_format or getattr(module, "memory_format", torch.contiguous_format)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=form)
