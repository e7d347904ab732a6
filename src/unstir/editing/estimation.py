"""How noisy a picture is, from the picture alone."""

from __future__ import annotations

import torch

from unstir.shapes import Images, Rows64

_NORMAL_MEDIAN = 0.6744897501960817  # of |n|, n ~ N(0, 1)
_BLOCK = 2


def noise_level(x: Images) -> Rows64:
    """``sigma = median |d| / 0.6745``, d the finest diagonal Haar coefficients ``(x_00 - x_01 - x_10 + x_11)/2`` of all 2×2 blocks,
    at every offset (Donoho & Johnstone 1994, §4.2), float64 (B,).

    Noise alone makes each d a draw of N(0, sigma²), and the median does not mind the few blocks where an edge runs aslant. What is
    flat across most of a picture, or fine texture all over it, it takes for what it looks like: no noise, and noise. Noise that
    was cut off at black or white is lower there, and found lower: blocks with a pixel at the picture's own lowest or highest level
    count only where fewer than an eighth of the blocks have none.

    Args:
        x: pictures of at least 2×2 pixels; channels are taken together.

    Raises:
        ValueError: for smaller ones.
    """
    if min(x.shape[2:]) < _BLOCK:
        raise ValueError("a picture of less than 2×2 pixels does not show its noise")
    values = x.double()
    blocks = values.unfold(2, _BLOCK, 1).unfold(3, _BLOCK, 1).flatten(4).flatten(1, 3)  # (B, blocks, 4)
    diagonal = (blocks[..., 0] - blocks[..., 1] - blocks[..., 2] + blocks[..., 3]).abs() / 2
    flat = values.flatten(1)
    low, high = (end[:, None, None] for end in (flat.amin(1), flat.amax(1)))
    inner = ((blocks > low) & (blocks < high)).all(-1)
    enough = inner.sum(1, keepdim=True) * 8 >= inner.shape[1]
    counted = torch.where(enough & ~inner, torch.nan, diagonal)
    return counted.nanmedian(1).values / _NORMAL_MEDIAN
