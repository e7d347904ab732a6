"""Editing the reverse steps: ``p~(x_s | x_t) ∝ p(x_s | x_t) r(x_s)`` [SD15 §2.5], for samplers that draw from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unstir.denoisers import Around, Condition, DenoiserBase, PredictionBase
from unstir.distributions import Distribution, Normal
from unstir.editing import factors
from unstir.processes import Gaussian
from unstir.processes.base import column
from unstir.shapes import Data, Elements, LeadingB, Mask, Reals, Rows, RowTimes

SCHEDULES = ("constant", "fading", "carried")


class StepEdit(ABC):
    """What changes a reverse step p(x_s | x_t). It is called with a denoiser and gives the edited one."""

    stepwise: ClassVar[bool] = True

    def __call__(self, denoiser: DenoiserBase) -> Stepped:
        if isinstance(denoiser, Stepped):
            return Stepped(denoiser.denoiser, (*denoiser.edits, self))
        return Stepped(denoiser, (self,))

    @abstractmethod
    def edit(self, step: Any, prediction: PredictionBase, s: Rows) -> Any:
        """The step after the edit.

        Args:
            step: what the model, and the edits before this one, say of x_s.
            prediction: what the model said about x_t. s: (B,).
        """


class Multiply(StepEdit):
    """``p~(x_s | x_t) ∝ p(x_s | x_t) r_s(x_s)``, in closed form [SD15 §2.5, App. C].

    Real numbers: ``N((m1 v2 + m2 v1)/(v1 + v2), v1 v2/(v1 + v2))``, so that a variance of 0 holds a value fast. Bits:
    ``c d / (c d + (1 - c)(1 - d))``. Symbols: logits add. Which r a noisy x_s is multiplied by:

    - ``constant``: r itself, at all times, though x_s is on another scale than x0: what [SD15] use. The product that the chain
      ends in is a biased one, however many steps there are: N(1.04, 0.094) where the posterior of the tests' Gaussian data is
      N(0.93, 0.167).
    - ``fading``: ``r^((T - s)/T)``, the alternative that [SD15 §2.5] name.
    - ``carried``: r brought to x_s by the forward chain, :func:`unstir.editing.factors.carried`; right where r knows much more
      than the data's own distribution does.

    None of the three knows what one element's r says about the others: :class:`unstir.editing.Observe` does.

    Args:
        factor: r, on the scale of x0: a Normal for real numbers, a Bernoulli for bits, a Categorical for symbols, whose
            parameters broadcast against x (B, *E).
        schedule: constant, fading or carried.
        where: bool, broadcasting against x: elements outside are left alone.

    Raises:
        ValueError: for another schedule; on a walk, for a factor of another kind than the data, and for a product without mass.
    """

    def __init__(self, factor: Distribution, schedule: str = "constant", where: Mask | None = None) -> None:
        if schedule not in SCHEDULES:
            raise ValueError(f"no schedule of a factor is called {schedule!r}; there are {', '.join(SCHEDULES)}")
        self.factor, self.schedule, self.where = factor, schedule, where

    def at(self, prediction: PredictionBase, s: Rows) -> Any:
        """``r_s``, the factor that meets x_s."""
        r = factors.spread(self.factor, prediction.x_t)
        if self.schedule == "carried":
            return factors.carried(r, prediction.process, s)
        if self.schedule == "fading":
            return factors.power(r, 1 - column(s, prediction.x_t) / prediction.process.T)
        return r

    def edit(self, step: Any, prediction: PredictionBase, s: Rows) -> Any:
        return factors.product(step, self.at(prediction, s), self.where)


class Guide(StepEdit):
    """``N(mu + Sigma grad log r(mu), Sigma)``: a step times a smooth r, whose logarithm is nearly straight across it [SD15 App. C].

    Exact for ``log r`` linear in x; else the mean errs by the order of ``Sigma²``. A factor whose logarithm is
    quadratic has its exact product: :class:`Multiply`.

    Args:
        log_r: ``(x_s, s) -> log r`` with x_s (B, *E) and s (B,), giving (B,) or (B, *E), differentiable in x_s; row i may look at
            row i alone.

    Raises:
        ValueError: on a walk, where the data are not real numbers, or log r gives no gradient.
    """

    def __init__(self, log_r: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.log_r = log_r

    def edit(self, step: Any, prediction: PredictionBase, s: Rows) -> Normal:
        if not isinstance(step, Normal):
            raise ValueError("bits and symbols have no gradient to follow: give the factor itself to Multiply")
        with torch.enable_grad():
            mean = step.mean.detach().requires_grad_()
            value = self.log_r(mean, s)
            if not value.requires_grad:
                raise ValueError("log r does not depend on x_s by differentiable operations, so it cannot guide")
            (slope,) = torch.autograd.grad(value.sum(), mean)
        return Normal(step.mean + step.variance.to(slope.dtype) * slope, step.variance)


class Renoise(StepEdit):
    """The known part of x_s is drawn from ``q(x_s | x0)``, anew at every step (Lugmayr et al. 2022, eq. 8).

    Its variance is ``sigma_s²``, and 0 at s = 0. This replaces the model's step, it is no product with an r; and since fresh noise
    forgets the noise before, the known part of x_s and x_t is no path of the forward chain, as it is under
    :class:`unstir.editing.Observe`.

    Args:
        x0: the known values, (B, *E). known: bool, broadcasting against x.
    """

    def __init__(self, x0: Elements, known: Mask) -> None:
        self.x0, self.known = x0, known

    def edit(self, step: Any, prediction: PredictionBase, s: Rows) -> Any:
        # What is not known may hold anything, and the process must not be asked about it.
        x0 = torch.where(self.known, self.x0, 0).to(prediction.x_t).expand_as(prediction.x_t)
        return factors.select(self.known, prediction.process.marginal(x0, s), step)


class Stepped(Around):
    """A denoiser whose reverse steps are edited, one edit after the other."""

    def __init__(self, denoiser: DenoiserBase, edits: tuple[StepEdit, ...]) -> None:
        super().__init__(denoiser)
        self.edits = edits

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> SteppedPrediction:
        inner = self.denoiser.predict(x_t, t, condition)
        return SteppedPrediction(inner.process, inner.x_t, inner.t, inner, self.edits)


@dataclass(frozen=True)
class SteppedPrediction(PredictionBase):
    """A prediction whose reverse step is edited; what it says of x0 is the model's own."""

    inner: PredictionBase
    edits: tuple[StepEdit, ...]

    @property
    def x0(self) -> Any:
        return self.inner.x0

    @property
    def likeliest(self) -> Data:
        return self.inner.likeliest

    def distortion(self, x0: Data) -> Reals:
        return self.inner.distortion(x0)

    @property
    def given(self) -> dict[str, LeadingB]:
        return self.inner.given

    def reverse(self, s: Rows) -> Any:
        """``p~(x_s | x_t)``. Where the model's last step is a point, it has the step's own variance, beta_1, while it is edited:

        a decoder has a width, and a point would not be moved by any r.
        """
        step: Any = self.inner.reverse(s)
        if isinstance(step, Normal) and isinstance(self.process, Gaussian):
            large = self.process.variances(s, self.t, self.x_t)[1]
            last = column(s, self.x_t) == 0
            step = Normal(step.mean, torch.where(last & (step.variance == 0), large.to(step.variance), step.variance))
        for edit in self.edits:
            step = edit.edit(step, self.inner, s)
        return step
