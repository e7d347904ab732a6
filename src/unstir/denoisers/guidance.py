"""Classifier-free guidance as a denoiser around a denoiser."""

from __future__ import annotations

from dataclasses import replace

import torch

from unstir.denoisers.base import DenoiserBase
from unstir.denoisers.condition import Condition
from unstir.denoisers.prediction import PredictionBase
from unstir.shapes import Data, Rows, RowTimes, Scalar


class Guided(DenoiserBase):
    """``uncond + w (cond - uncond)`` (Ho & Salimans 2022; their w is ours minus 1).

    Samples with w = 1 are the conditional model's, bit for bit, since only that branch is evaluated for them. The sum is
    taken on the form that the model gives; x0, eps and v are linear in each other, so it is the same
    sum on all of them; of bits and symbols the logits are mixed.

    Args:
        scale: w, one number or one for each sample (B,).
    """

    def __init__(self, denoiser: DenoiserBase, scale: float | Rows | Scalar) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.consecutive = denoiser.consecutive
        self.scale = scale

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        cond = self.denoiser.predict(x_t, t, condition)
        ((form, said),) = cond.given.items()
        w = torch.as_tensor(self.scale, dtype=said.dtype, device=x_t.device).expand(len(x_t))
        rows = (w != 1).nonzero().squeeze(1)
        if condition is None or condition.label is None or len(rows) == 0:
            return cond
        uncond = self.denoiser.predict(x_t[rows], cond.t[rows], condition.select(rows).without()).given[form]
        w = w[rows].reshape(-1, *(1,) * (said.ndim - 1))
        return replace(cond, **{form: said.index_copy(0, rows, uncond + w * (said[rows] - uncond))})
