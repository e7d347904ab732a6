"""Classifier guidance: a denoiser pulled to what a classifier of noisy data takes for a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers.base import Around, DenoiserBase
from unstir.denoisers.condition import Condition
from unstir.denoisers.guidance import acts
from unstir.denoisers.prediction import Prediction
from unstir.shapes import Data, RowScale, RowTimes

Classifier = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(x_t, t, label) -> log p(label | x_t)``, (B,) nats, from x_t (B, *E), t (B,) and label (B,), differentiable in x_t."""


class ClassifierGuided(Around):
    """``eps_w = eps - w sigma_t grad log p(y | x_t)``, or ``x0_w = x0 + w (sigma_t² / alpha_t) grad log p(y | x_t)``.

    (Dhariwal & Nichol 2021, alg. 2 and eq. 14; they write the scale s.) By Bayes' rule the score of ``q(x_t | y)`` is that of
    ``q(x_t)`` plus the gradient: with w = 1, the exact classifier and the exact denoiser of all classes it is exactly the
    denoiser of one. It changes what is said of x0, so every sampler sees it. Their alg. 1, which moves the mean of a
    reverse step, is :class:`unstir.editing.Guide`.

    Rows without a label, with w = 0 or outside the interval are the denoiser's own, bit for bit; so are those at alpha_t = 0, where
    x_t says nothing of y and no gradient can.

    Args:
        denoiser: of real numbers. It is asked without the label, and with it where ``conditional``: then both pull.
        classifier: row i may look at row i alone.
        scale: w, one number or one for each sample (B,).
        interval: the noise levels ``low < sigma_t / alpha_t <= high`` at which it acts; None: all.

    Raises:
        ValueError: on a prediction about bits or symbols, and for a classifier that gives no gradient.
    """

    by_row = ("scale", "interval")

    def __init__(
        self,
        denoiser: DenoiserBase,
        classifier: Classifier,
        scale: RowScale = 1.0,
        *,
        interval: tuple[RowScale, RowScale] | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(denoiser)
        self.classifier, self.scale = classifier, scale
        self.interval, self.conditional = interval, conditional

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> Prediction:
        label = None if condition is None else condition.label
        seen = condition
        if condition is not None and label is not None and not self.conditional:
            seen = condition.without("label")
        prediction = self.denoiser.predict(x_t, t, seen)
        if not isinstance(prediction, Prediction):
            raise ValueError("bits and symbols have no gradient for a classifier to guide by")
        if condition is None or label is None:
            return prediction
        schedule, t = self.process.schedule, prediction.t
        w = torch.as_tensor(self.scale, dtype=torch.float64, device=x_t.device).expand(len(x_t))
        moved = (w != 0) & (schedule.alpha(t) > 0) & acts(self.interval, schedule, t)
        absent = condition.absent("label")
        rows = (moved if absent is None else moved & ~absent).nonzero().squeeze(1)
        if len(rows) == 0:
            return prediction
        slope = self._slope(x_t[rows], t[rows], label[rows])
        alpha, sigma, w = (
            value.reshape(-1, *(1,) * (x_t.ndim - 1))
            for value in (schedule.alpha(t[rows]), schedule.sigma(t[rows]), w[rows])
        )
        ((form, said),) = prediction.given.items()
        # d/d(eps) is -sigma w; x0 = (x_t - sigma eps) / alpha and v = alpha eps - sigma x0 follow it.
        by_form = {"given_eps": -sigma, "given_x0": sigma**2 / alpha, "given_v": -sigma * (alpha + sigma**2 / alpha)}
        step = (w * by_form[form]).to(said.dtype) * slope.to(said.dtype)
        return replace(prediction, **{form: said.index_copy(0, rows, said[rows] + step)})

    def _slope(self, x_t: Tensor, t: Tensor, label: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            value = self.classifier(x, t, label)
            if not value.requires_grad:
                raise ValueError(
                    "the classifier does not depend on x_t by differentiable operations, so it cannot guide"
                )
            (slope,) = torch.autograd.grad(value.sum(), x)
        return slope
