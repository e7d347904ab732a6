"""Between two classes: a denoiser that speaks for both."""

from __future__ import annotations

from dataclasses import replace

import torch

from unstir.denoisers import Around, Condition, DenoiserBase, PredictionBase
from unstir.shapes import Data, Rows, RowTimes, Scalar


class Mixed(Around):
    """``(1 - w) D(x_t | c) + w D(x_t | c')``: the sum is taken on the form that the model gives, and x0, eps and v are linear in
    each other; of bits and symbols the logits are mixed.

    The score is then that of ``p(x_t | c)^(1-w) p(x_t | c')^w`` at every t: for Gaussians of one covariance exactly the one whose
    mean lies between theirs; in general neither the noised product of the two nor a mixture of them. Rows with w = 0 or 1 ask
    one branch alone and are its own, bit for bit. A null condition passes through, so guidance may be laid around.

    Args:
        denoiser: what is asked twice. other: c', with leading dimension B. weight: w, one number or (B,); below 0 and above 1 it
            goes past either end.
    """

    by_row = ("weight", "other")

    def __init__(self, denoiser: DenoiserBase, other: Condition, weight: float | Rows | Scalar) -> None:
        super().__init__(denoiser)
        self.other, self.weight = other, weight

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        here = self.denoiser.predict(x_t, t, condition)
        if condition is None or condition.label is None or (condition.null is not None and bool(condition.null.all())):
            return here
        ((form, said),) = here.given.items()
        w = torch.as_tensor(self.weight, dtype=said.dtype, device=x_t.device).expand(len(x_t))
        rows = (w != 0).nonzero().squeeze(1)
        if len(rows) == 0:
            return here
        there = self.denoiser.predict(x_t[rows], here.t[rows], self.other.select(rows)).given[form]
        w = w[rows].reshape(-1, *(1,) * (said.ndim - 1))
        mixed = torch.where(w == 1, there, said[rows] + w * (there - said[rows]))
        return replace(here, **{form: said.index_copy(0, rows, mixed)})
