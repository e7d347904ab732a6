"""A network in half precision under a walk that is not."""

from __future__ import annotations

import torch

from unstir.denoisers.base import Around
from unstir.denoisers.condition import Condition
from unstir.denoisers.prediction import PredictionBase
from unstir.shapes import Data, RowTimes


class Autocast(Around):
    """The network's products in bfloat16; what it says comes back in x_t's dtype, and coefficients and states stay as they were.

    Twice as fast on processors that have bfloat16, and another rounding: of a prediction about 3 digits are right. Samples of a
    seed are near those of the full precision, not the same.
    """

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.denoiser.predict(x_t, t, condition)
