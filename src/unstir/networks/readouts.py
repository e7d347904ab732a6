"""How the networks of [SD15] know the time: their hidden layers do not see it, their last layer is another one at each step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unstir.shapes import Features, Images, ImagesOut, Points, RowNumbers, Rows


class StepReadout(nn.Module):
    """``y = h W_t + b_t``: a linear layer of its own for each of ``steps`` times, each starting at zero [SD15 App. D.1].

    Times are the whole numbers 0 … steps - 1. Others are read at the nearest of these.

    Args:
        steps: number of times.
        features, out_features: of h and of y.
        bias: whether there are b_t.
    """

    def __init__(self, steps: int, features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(steps, features, out_features))
        self.bias = nn.Parameter(torch.zeros(steps, out_features)) if bias else None

    def forward(self, h: Points, time: RowNumbers) -> Features:
        """h (B, features) and time (B,) to (B, out_features)."""
        step = time.round().long().clamp(0, len(self.weight) - 1)
        if _all_the_same(step):
            weight = self.weight[step[0]]
            return h @ weight if self.bias is None else torch.addmm(self.bias[step[0]], h, weight)
        return _read(h, step, self.weight, self.bias)


class NestedReadout(nn.Module):
    """``y = sum_l (h W_{l, t // 4^l} + b_{l, t // 4^l})``: a time's own readout, plus those of the blocks of 4, 16, … times around it.

    The same functions as :class:`StepReadout`, which is one level of it; learned sooner on a long chain, since what neighbouring
    times share is learned from the rows of all of them, and each time's own part has only the rest to say.

    Args:
        levels: how many sizes of block, 1 for single times alone.
    """

    def __init__(self, steps: int, features: int, out_features: int, levels: int) -> None:
        super().__init__()
        self.last = steps - 1
        self.levels = nn.ModuleList(StepReadout(-(-steps // 4**k), features, out_features) for k in range(levels))

    def forward(self, h: Points, time: RowNumbers) -> Features:
        """h (B, features) and time (B,) to (B, out_features)."""
        step = time.round().long().clamp(0, self.last)
        if _all_the_same(step):
            return torch.stack([level(h, (step // 4**k).to(time.dtype)) for k, level in enumerate(self.levels)]).sum(0)
        # The tables are added up first, from the coarsest down: one table is then read for each row instead of one a level.
        weight, bias = self._tables(len(self.levels) - 1)
        for k in range(len(self.levels) - 2, -1, -1):
            finer, finer_bias = self._tables(k)
            weight = finer + weight.repeat_interleave(4, 0)[: len(finer)]
            bias = finer_bias + bias.repeat_interleave(4, 0)[: len(finer)]
        return _read(h, step, weight, bias)

    def _tables(self, k: int) -> tuple[Tensor, Tensor]:
        level = self.levels[k]
        assert isinstance(level, StepReadout)
        assert level.bias is not None
        return level.weight, level.bias


class TemporalReadout(nn.Module):
    """``z_i(t) = sum_j y_ij g_j(t)`` with y linear in the features of pixel i and g the :func:`temporal_basis` [SD15 App. D.2].

    The sum over j is taken on the weights, which is the same and J times less work than to make all y_ij.

    Args:
        steps: number of times that the bumps are spread over.
        basis: number of bumps, J.
        features: channels of each pixel.
        out_channels: of z.
    """

    def __init__(self, steps: int, basis: int, features: int, out_channels: int) -> None:
        super().__init__()
        self.steps, self.basis = steps, basis
        self.weight = nn.Parameter(torch.zeros(basis, out_channels, features))
        self.bias = nn.Parameter(torch.zeros(basis, out_channels))

    def forward(self, h: Images, time: RowNumbers) -> ImagesOut:
        """h (B, features, H, W) and time (B,), real, to (B, out_channels, H, W)."""
        dtype = self.weight.dtype
        # Never below float32: at time 999 a bfloat16 could not tell neighbours apart.
        time = time.to(torch.promote_types(dtype, torch.float32))
        g = temporal_basis(time, self.steps, self.basis).to(dtype)
        weight = (g @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        bias = (g @ self.bias)[:, :, None]
        return torch.baddbmm(bias, weight, h.flatten(2)).unflatten(2, h.shape[2:])


def temporal_basis(time: Rows, steps: int, count: int) -> Features:
    """``g_j(t) = exp(-(t - tau_j)² / 2w²) / sum_k exp(-(t - tau_k)² / 2w²)``, w the spacing of the tau_j [SD15 App. D.2].

    The tau_j are the middles of ``count`` equal parts of the times, each time 0 … steps - 1 being one unit wide: symmetric
    about the middle, and with count = steps each time has a bump of its own.

    Args:
        time: (B,), real.
        steps: number of times.
        count: number of bumps, J.
    Returns:
        (B, J), time's dtype; each row sums to one.
    """
    width = steps / count
    centres = (torch.arange(count, dtype=time.dtype, device=time.device) + 0.5) * width - 0.5
    return torch.softmax(-((time[:, None] - centres) ** 2) / (2 * width**2), 1)


def _all_the_same(step: Tensor) -> bool:
    # A walk and a bound ask about one time for a whole batch: one product of matrices then, instead of one for each row. To
    # look costs nothing on a CPU; elsewhere it would make the host wait, and a trace cannot branch on values.
    if step.device.type != "cpu" or torch.compiler.is_compiling() or not len(step):
        return False
    return bool((step == step[0]).all())


def _read(h: Tensor, step: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``h W_t + b_t`` with a t for each row."""
    # index_select, not weight[step]: its gradient is added row by row, the other's number by number.
    chosen, h = weight.index_select(0, step), h[:, None]
    if bias is None:
        return torch.bmm(h, chosen)[:, 0]
    return torch.baddbmm(bias.index_select(0, step)[:, None], h, chosen)[:, 0]
