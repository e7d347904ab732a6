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
    """And row i has a path that moves by ``sqrt(q' - q)`` between two times q, q' asked for, neighbours among all, and nowhere else.

    Args:
        at: (B,): which step's draw is 1; rows with another's number draw none.
        knots: every time that is asked for, rising. Row i moves before ``knots[leap[i]]``.
        leap: (B,): which knot; below 1 for none.
    """

    def __init__(self, at: Tensor, knots: Tensor, leap: Tensor) -> None:
        super().__init__(at)
        self.knots, self.leap = knots, leap

    def brownian(
        self,
        shape: Sequence[int],
        purpose: str,
        end: float | Tensor,
        start: float | Tensor = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        values = []
        for time in (end, start):
            place = torch.searchsorted(self.knots, torch.as_tensor(time, dtype=torch.float64) * (1 - 1e-12))
            size = self.knots[self.leap.clamp(min=1)] - self.knots[self.leap.clamp(min=1) - 1]
            values.append(torch.where((self.leap > 0) & (place >= self.leap), size.sqrt(), 0.0))
        return (values[0] - values[1]).to(dtype).reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()


class Asking(NoiseSource):
    """Keeps the times at which a path is asked for."""

    def __init__(self, rows: int = 1) -> None:
        super().__init__(0, range(rows))
        self.asked: set[float] = set()

    def brownian(self, shape, purpose, end, start=0, dtype=torch.float32) -> Tensor:
        self.asked |= {float(t) for time in (end, start) for t in torch.as_tensor(time).reshape(-1)}
        return super().brownian(shape, purpose, end, start, dtype)
