"""Keeping the predicted x0 where the data are: clipping to their range, or to a range found anew in each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from unstir.denoisers.base import Around, DenoiserBase
from unstir.denoisers.condition import Condition
from unstir.denoisers.prediction import Prediction
from unstir.shapes import Data, Reals, RowTimes

CLIPS = ("static", "dynamic", "none")
"""What :func:`clipped` can do."""


class Bounded(Around, ABC):
    """Base of those that change the predicted x0; eps and v are derived again from the new x0 and x_t.

    Without that second part the pair (x0, eps) no longer makes x_t, and deterministic samplers drift.

    Args:
        low, high: the data's range, on the scaled axis.
    """

    kind: ClassVar[str]

    def __init__(self, denoiser: DenoiserBase, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(denoiser)
        if not low < high:
            raise ValueError(f"the data's range rises from low to high, and {low:g} … {high:g} does not")
        self.low, self.high = low, high

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> Prediction:
        prediction = self.denoiser.predict(x_t, t, condition)
        if not isinstance(prediction, Prediction):
            raise ValueError("only predictions of real numbers can be clipped: bits and symbols have no range to leave")
        return prediction.with_x0(self.within(prediction.x0))

    @abstractmethod
    def within(self, x0: Reals) -> Reals:
        """x0 in the range, (B, *E)."""


class Clipped(Bounded):
    """``clamp(x0, low, high)``: every number to the data's range [HO20's code]."""

    kind = "static"

    def within(self, x0: Reals) -> Reals:
        return x0.clamp(self.low, self.high)


class Thresholded(Bounded):
    """``c + (clamp(x0 - c, -s, s)) h / s``, s the ``share`` quantile of a sample's ``|x0 - c|`` and at least h: dynamic thresholding.

    (Saharia et al. 2022, §2.3.) c is the middle and h half the width of the range. Where strong guidance would clip large parts of
    a sample to its border, the sample is scaled back into the range instead. Each sample has its own s.

    Args:
        share: of a sample's numbers that stay unclipped, 0 … 1.
    """

    kind = "dynamic"

    def __init__(self, denoiser: DenoiserBase, low: float = -1.0, high: float = 1.0, share: float = 0.995) -> None:
        super().__init__(denoiser, low, high)
        if not 0 < share <= 1:
            raise ValueError(f"the share of numbers that stay unclipped lies in 0 … 1, not {share:g}")
        self.share = share

    def within(self, x0: Reals) -> Reals:
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        away = x0 - middle
        rows = away.abs().flatten(1)
        # One order statistic, not an average of two: the k-th smallest with k = ceil(share n).
        place = max(1, -int(-self.share * rows.shape[1] // 1))
        s = rows.kthvalue(place, dim=1).values.clamp(min=half).reshape(-1, *(1,) * (x0.ndim - 1))
        return middle + torch.minimum(torch.maximum(away, -s), s) * (half / s)


def clipped(denoiser: DenoiserBase, kind: str, low: float = -1.0, high: float = 1.0) -> DenoiserBase:
    """The denoiser under one of :data:`CLIPS`; ``none`` is the denoiser itself."""
    if kind not in CLIPS:
        raise ValueError(f"no clipping is called {kind!r}; there are {', '.join(CLIPS)}")
    if kind == "none":
        return denoiser
    return (Clipped if kind == "static" else Thresholded)(denoiser, low, high)
