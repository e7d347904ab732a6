"""The border between pictures as stored (uint8 NHWC) and pictures as learned (float32 NCHW): one function each way.

torch is imported when it is first needed: looking at a data set does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def to_float(uint8_nhwc: np.ndarray | Tensor) -> Tensor:
    """Level k becomes ``2k/255 - 1``.

    Args:
        uint8_nhwc: uint8 (B, H, W, C), an array or a tensor.

    Returns:
        float32 (B, C, H, W) in [-1, 1], contiguous, on the tensor's device.

    Raises:
        ValueError: for another dtype or number of dimensions.
    """
    import torch

    # A copy, because an array out of a read-only memory map cannot become a tensor without a warning.
    levels = torch.from_numpy(np.array(uint8_nhwc)) if isinstance(uint8_nhwc, np.ndarray) else uint8_nhwc
    if levels.dtype != torch.uint8 or levels.ndim != 4:
        raise ValueError(f"expected uint8 (B, H, W, C), got {levels.dtype} {tuple(levels.shape)}")
    return levels.permute(0, 3, 1, 2).contiguous().to(torch.float32).mul_(2).div_(255).sub_(1)


def to_uint8(x: Tensor) -> np.ndarray:
    """The nearest level ``k = 255 (x + 1) / 2``, clamped to 0…255; the inverse of ``to_float`` on all 256 levels.

    Args:
        x: floating point (B, C, H, W). NaN becomes level 0.

    Returns:
        uint8 (B, H, W, C).

    Raises:
        ValueError: for another dtype or number of dimensions.
    """
    import torch

    if not x.is_floating_point() or x.ndim != 4:
        raise ValueError(f"expected floating point (B, C, H, W), got {x.dtype} {tuple(x.shape)}")
    levels = x.detach().to(torch.float32).add(1).mul_(127.5).round_().clamp_(0, 255).nan_to_num_(nan=0.0)
    return levels.permute(0, 2, 3, 1).contiguous().to(torch.uint8).cpu().numpy()
