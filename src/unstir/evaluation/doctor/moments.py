"""Means and spread of channels (of pictures their colours, of points their coordinates), with how sure they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Of items, each of which counts as one draw: its pixels belong together.

    Args:
        mean: of each channel, (C,). mean_error: its standard error.
        spread: root of the mean square about the mean, all channels together. spread_error: its standard error.
        low, high: the least and the largest number.
    """

    mean: Tensor
    mean_error: Tensor
    spread: float
    spread_error: float
    low: float
    high: float

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Of x (N, C, …) as a network sees it."""
        x = x.detach().cpu().double().flatten(2) if x.ndim > 2 else x.detach().cpu().double()[..., None]
        by_item = x.mean(2)
        mean = by_item.mean(0)
        squares = (x - mean[:, None]).square().mean((1, 2))
        n = max(len(x), 2)
        spread = float(squares.mean().sqrt())
        # The root's error is that of its square over twice the root.
        spread_error = float(squares.std()) / n**0.5 / (2 * spread) if len(x) > 1 and spread > 0 else 0.0
        mean_error = by_item.std(0) / n**0.5 if len(x) > 1 else torch.zeros_like(mean)
        return cls(mean, mean_error, spread, spread_error, float(x.min()), float(x.max()))

    def to_json(self) -> dict[str, Any]:
        values = {"mean": self.mean.tolist(), "mean_error": self.mean_error.tolist()}
        return values | {k: getattr(self, k) for k in ("spread", "spread_error", "low", "high")}
