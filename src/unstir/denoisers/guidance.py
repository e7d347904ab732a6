"""Guidance: a denoiser pushed away from one that knows less, as a denoiser around denoisers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers.base import Around, DenoiserBase
from unstir.denoisers.condition import Condition
from unstir.denoisers.prediction import Prediction, PredictionBase
from unstir.schedules import Schedule
from unstir.shapes import Data, RowMask, Rows64, RowScale, RowTimes


class Extrapolated(Around, ABC):
    """``D_w = D_base + w (D - D_base)`` while ``low < sigma_t / alpha_t <= high``, and D elsewhere.

    Rows with w = 1, and those outside the interval, are D's own, bit for bit, since the base is not asked about them. The sum is
    taken on the form that D gives; x0, eps and v are linear in each other, so it is the same sum on all of them; of bits and
    symbols the logits are mixed.

    Args:
        denoiser: D, what is guided.
        scale: w, one number or one for each sample (B,).
        interval: (low, high), the noise levels ``sigma_t / alpha_t`` at which guidance acts, each one number or one for each
            sample: at much noise it does harm and at little noise nothing (Kynkäänniemi et al. 2024, eq. 6; their sigma is
            this ratio). None: at all.
        rescale: phi of ``x0' = phi x0_w std(x0_D) / std(x0_w) + (1 - phi) x0_w`` (Lin et al. 2024, eqs. 15 and 16), std over all of a
            sample's numbers: a strong w also widens x0, and this takes it back. They rescale whatever their network predicts; on
            x0 it means the same for every prediction. One number, or one for each sample, 0 … 1.

    Raises:
        ValueError: for an interval that does not rise, a rescale outside 0 … 1, or one of bits and symbols.
    """

    by_row = ("scale", "interval", "rescale")

    def __init__(
        self,
        denoiser: DenoiserBase,
        scale: RowScale,
        *,
        interval: tuple[RowScale, RowScale] | None = None,
        rescale: RowScale = 0.0,
    ) -> None:
        super().__init__(denoiser)
        if interval is not None and not bool((torch.as_tensor(interval[0]) < torch.as_tensor(interval[1])).all()):
            raise ValueError("a guidance interval rises from its low noise level to its high one")
        phi = torch.as_tensor(rescale)
        if not bool(((phi >= 0) & (phi <= 1)).all()):
            raise ValueError("the share of rescaling lies in 0 … 1")
        self.scale, self.interval, self.rescale = scale, interval, rescale

    @abstractmethod
    def base(self, x_t: Data, t: RowTimes, condition: Condition) -> PredictionBase:
        """What the one that knows less says."""

    def guides(self, condition: Condition | None) -> bool:
        """Whether the base differs from D under this condition."""
        return True

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        cond = self.denoiser.predict(x_t, t, condition)
        ((form, said),) = cond.given.items()
        w = _rows_of(self.scale, said, len(x_t))
        rows = ((w != 1) & acts(self.interval, self.process.schedule, cond.t)).nonzero().squeeze(1)
        if not self.guides(condition) or len(rows) == 0:
            return cond
        part = self.select(rows)  # what is guided may itself have a scale for each sample
        base = _in_form(part.base(x_t[rows], cond.t[rows], (condition or Condition()).select(rows)), form)
        moved = base + _column(w[rows], said) * (said[rows] - base)
        phi = _rows_of(self.rescale, said, len(x_t))[rows]
        if bool((phi != 0).any()):
            if not isinstance(cond, Prediction):
                raise ValueError("only predictions of real numbers can be rescaled: bits and symbols have no spread")
            own = replace(cond, x_t=x_t[rows], t=cond.t[rows], **{form: said[rows]})
            moved = _in_form(_rescaled(own, replace(own, **{form: moved}), phi), form)
        return replace(cond, **{form: said.index_copy(0, rows, moved)})


class Guided(Extrapolated):
    """``uncond + w (cond - uncond)``: classifier-free guidance (Ho & Salimans 2022; their w is ours minus 1).

    Away from the model without any condition: without label, vector and picture. A batch without a condition is the model's own.
    """

    def base(self, x_t: Data, t: RowTimes, condition: Condition) -> PredictionBase:
        return self.denoiser.predict(x_t, t, condition.without())

    def guides(self, condition: Condition | None) -> bool:
        return condition is not None and not condition.empty


class Autoguided(Extrapolated):
    """``weak + w (strong - weak)``: away from a weaker model of the same data, under the same condition or none (Karras et al. 2024).

    The weaker one errs where the stronger does, only more; both must be of the same process. Trained for a shorter time, or
    smaller, on the same data.

    Args:
        denoiser: the strong one. weak: the other.

    Raises:
        ValueError: for two models of different chains.
    """

    def __init__(
        self,
        denoiser: DenoiserBase,
        weak: DenoiserBase,
        scale: RowScale,
        *,
        interval: tuple[RowScale, RowScale] | None = None,
        rescale: RowScale = 0.0,
    ) -> None:
        super().__init__(denoiser, scale, interval=interval, rescale=rescale)
        if _chain(denoiser) != _chain(weak):
            raise ValueError("the weaker model was made for another chain, so its x_t are not this model's")
        self.weak = weak

    def base(self, x_t: Data, t: RowTimes, condition: Condition) -> PredictionBase:
        return self.weak.predict(x_t, t, None if condition.empty else condition)


def acts(interval: tuple[RowScale, RowScale] | None, schedule: Schedule, t: Rows64) -> RowMask:
    """Where ``low < sigma_t / alpha_t <= high``, (B,); everywhere for None."""
    if interval is None:
        return torch.ones(len(t), dtype=torch.bool, device=t.device)
    level = schedule.sigma(t) / schedule.alpha(t)
    low, high = (torch.as_tensor(end, dtype=level.dtype, device=t.device) for end in interval)
    return (low < level) & (level <= high)


def _column(rows: Tensor, x: Tensor) -> Tensor:
    return rows.reshape(-1, *(1,) * (x.ndim - 1))


def _rows_of(value: RowScale, said: Tensor, batch: int) -> Tensor:
    return torch.as_tensor(value, dtype=said.dtype, device=said.device).expand(batch)


def _in_form(prediction: PredictionBase, form: str) -> Tensor:
    """What a prediction says in another's form; bits and symbols have one form alone."""
    given = prediction.given
    return given[form] if form in given else getattr(prediction, form.removeprefix("given_"))


def _rescaled(cond: Prediction, guided: Prediction, phi: Tensor) -> Prediction:
    spread = guided.x0.flatten(1).std(1, correction=0)
    ratio = torch.where(spread > 0, cond.x0.flatten(1).std(1, correction=0) / spread, 1)
    return guided.with_x0(guided.x0 * _column(phi * ratio + (1 - phi), guided.x0))


def _chain(denoiser: DenoiserBase) -> tuple[object, object]:
    return denoiser.process.describe(), denoiser.process.schedule.describe()
