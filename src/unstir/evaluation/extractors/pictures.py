"""Pictures on their way to a network from elsewhere: their levels, their channels, their size."""

from __future__ import annotations

import torch
from torch import Tensor

from unstir.data import to_uint8


def levels(x: Tensor) -> Tensor:
    """The levels 0…255 that pictures (N, C, H, W) in -1…1 stand for, whole numbers in float32 on their device."""
    return torch.from_numpy(to_uint8(x)).permute(0, 3, 1, 2).to(x.device, torch.float32)


def three_channels(x: Tensor) -> Tensor:
    """(N, 1, H, W) copied to (N, 3, H, W); three channels stay as they are."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def resize_as_in_2015(x: Tensor, side: int) -> Tensor:
    """``y_ij = x`` at row ``i H / side`` and column ``j W / side``, read between the four pixels around it.

    The bilinear resizing of TensorFlow 1, ``align_corners=False`` without half-pixel centres: the first pixel stays in its corner,
    positions beyond the last pixel take it, and nothing is smoothed when pictures shrink. Part of what the FID is (Parmar, Zhang,
    Zhu 2022 show how much hangs on it).

    Args:
        x: (N, C, H, W). side: of the result, (N, C, side, side).
    """
    for axis in (3, 2):
        size = x.shape[axis]
        at = torch.arange(side, dtype=torch.float64, device=x.device) * (size / side)
        low = at.long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        between = (at - low).to(x.dtype).unflatten(0, (-1, *[1] * (3 - axis)))
        x = torch.lerp(x.index_select(axis, low), x.index_select(axis, high), between)
    return x
