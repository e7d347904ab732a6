"""Pictures moved, turned, mirrored and stretched at random, with word of it to the network, so that samples show none of it.

Few pictures are soon learned by heart. Shown in ever new positions they are not, but a network that is not told takes the
positions for a part of the data. It is told how each picture was moved, and asked for samples that were not (Karras et al. 2022,
App. F.2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unstir.noise import NoiseSource
from unstir.shapes import Images, Reals, RowTable

NUMBERS = 6
"""How many say what was done to a picture: the four of its linear map less the identity's, and the two of its shift."""

SCALE = 0.2
"""Standard deviation of log2 of what pictures are enlarged, or stretched, by."""

SHIFT = 0.125
"""Standard deviation of how far they are moved, as a share of each side."""


def augmented(x0: Images, share: float, source: NoiseSource) -> tuple[Images, RowTable]:
    """``x(u) <- x(M^-1 (u - s))`` by a drawn linear map M and shift s of each picture; bicubic, mirrored beyond the border.

    M is the product of a mirroring, a turn by quarters (of square pictures), a turn by any angle, an enlargement and a
    stretching in some direction; each of these, and the shift, with probability ``share``, all keyed by the source. A
    picture to which nothing happens stays as it is, bit for bit.

    Args:
        x0: (B, C, H, W), in -1 … 1. share: 0 … 1.

    Returns:
        The pictures, and what was done to each: ``(M - 1, s)``, (B, 6), with s in shares of the sides. All 0 for nothing.
    """
    m, s = _drawn(share, source, square=x0.shape[2] == x0.shape[3])
    told = torch.cat([(m - torch.eye(2).to(m)).flatten(1), s], 1)
    rows = (told != 0).any(1).nonzero().squeeze(1).to(x0.device)
    told = told.to(x0)
    if len(rows) == 0:
        return x0, told
    return x0.index_copy(0, rows, moved(x0[rows], m[rows], s[rows])), told


def moved(x: Images, m: Tensor, s: Tensor) -> Images:
    """``x(M^-1 (u - s))``, u from the middle of the picture in pixels, first along W, then along H.

    Args:
        m: (B, 2, 2). s: (B, 2), in shares of W and H.
    """
    half = torch.tensor([x.shape[3] / 2, x.shape[2] / 2], dtype=torch.float64, device=m.device)
    # Sampling wants to know where each pixel comes from, in halves of the sides.
    back = torch.linalg.inv(m) * half[None, None, :] / half[None, :, None]
    theta = torch.cat([back, -back @ (2 * s)[:, :, None]], 2).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    found = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return found.clamp(-1, 1)  # bicubic interpolation overshoots at edges


def _drawn(share: float, source: NoiseSource, *, square: bool) -> tuple[Reals, Reals]:
    """M (B, 2, 2) and s (B, 2), in float64."""
    happens = source.uniform((6,), "augment: what happens") < share
    u, z = source.uniform((4,), "augment: angles"), source.normal((4,), "augment: sizes", dtype=torch.float64)
    zero = torch.zeros_like(u[:, 0])
    mirror = torch.where(happens[:, 0] & (u[:, 0] < 0.5), -1.0, 1.0).to(u)
    quarters = torch.where(happens[:, 1] & square, (4 * u[:, 1]).floor(), zero) * (math.pi / 2)
    angle = torch.where(happens[:, 2], (2 * u[:, 2] - 1) * math.pi, zero)
    size = 2 ** torch.where(happens[:, 3], SCALE * z[:, 0], zero)
    stretch, along = 2 ** torch.where(happens[:, 4], SCALE * z[:, 1], zero), u[:, 3] * math.pi
    m = torch.diag_embed(torch.stack([mirror, torch.ones_like(mirror)], 1))
    m = size[:, None, None] * _turn(quarters + angle) @ m
    m = _turn(along) @ torch.diag_embed(torch.stack([stretch, 1 / stretch], 1)) @ _turn(-along) @ m
    # A product of cosines of quarters and of turns there and back is not exactly what it should be.
    m = torch.where((m - m.round()).abs() < 1e-12, m.round(), m)
    return m, torch.where(happens[:, 5:], SHIFT * z[:, 2:], 0.0)


def _turn(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
