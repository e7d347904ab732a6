"""Noise made for exact expectations and exact chains, in place of random draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unstir.noise import NoiseSource


class OneStepOnly(NoiseSource):
    """Row i draws 1 at step ``at[i]`` and 0 at every other: what an affine chain makes of it is that step's share."""

    def __init__(self, at: Tensor) -> None:
        super().__init__(0, range(len(at)))
        self.at = at

    def normal(
        self, shape: Sequence[int], purpose: str, step: int | Tensor = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        hit = (self.at == torch.as_tensor(step)).to(dtype)
        return hit.reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()


class OneIncrementOnly(OneStepOnly):
    """And row i has a path that moves between the times number ``leap[i] - 1`` and ``leap[i]`` asked for, by one standard deviation.

    For walks that ask of all rows at once, and of ever later times: the times are counted as they come.

    Args:
        at: (B,): which step's draw is 1; a number below 0 for none.
        leap: (B,): which increment of the path is sqrt(its length), from 1 on; 0 for none.
    """

    def __init__(self, at: Tensor, leap: Tensor) -> None:
        super().__init__(at)
        self.leap = leap
        self.asked: list[float] = []

    def brownian(
        self,
        shape: Sequence[int],
        purpose: str,
        end: float | Tensor,
        start: float | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        time = float(torch.as_tensor(end).reshape(-1)[0])
        if time not in self.asked:
            assert not self.asked or time > self.asked[-1], "the path is asked for in the order of time"
            self.asked.append(time)
        moved = torch.zeros(len(self.leap), dtype=dtype)
        for place in range(1, self.asked.index(time) + 1):
            moved[self.leap == place] = (self.asked[place] - self.asked[place - 1]) ** 0.5
        return moved.reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()
