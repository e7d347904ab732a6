"""Editing what is said of x0: ``p(x0 | x_t, y) ∝ p(x0 | x_t) r(x0)``, from which any sampler goes on.

x_t and what was observed, y, know of each other only through x0. So the reverse chain of the posterior p(x0) r(x0) is the
model's own with this product in place of p(x0 | x_t): ``p(x_s | x_t, y) = sum_x0 p(x0 | x_t, y) q(x_s | x_t, x0)``, and no r
on the scale of x_s has to be thought of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from unstir.denoisers import Around, Condition, DenoiserBase, DiscretePrediction, Prediction, PredictionBase
from unstir.denoisers.prediction import VarianceRule
from unstir.distributions import Distribution, Normal
from unstir.editing import factors, gradients
from unstir.editing.steps import Stepped
from unstir.processes.base import column
from unstir.shapes import Data, Mask, RowTimes

Spread = float | str | Callable[[Tensor], Tensor]


class Observe:
    """``p(x_s | x_t, y) = sum_x0 q(x_s | x_t, x0) p(x0 | x_t) r(x0) / Z``: the product is taken where r is meant, on x0.

    Bits and symbols: ``p(x0 | x_t) r(x0)`` element by element, exact where x0's elements are independent given x_t. Where they are
    not, what r says of one tells the others nothing, and [SD15]'s constant r, which counts itself anew at every step, can come
    closer to a sharp posterior: of heartbeats with flips it finds the right one as often as it should, this every other time.
    Real numbers: ``p(x0 | x_t)`` is read as ``N(x0_hat, C_t)``, whose product with ``r = N(y, v)`` has the mean

        ``x0_hat + C_t (C_t + v)^-1 (y - x0_hat)``

    which deterministic samplers follow too. Known values (v = 0) are y itself: their path is the forward chain's own,
    ``q(x_s | x_t, x0)``, of variance ``sigma_s²`` at every s. On C_t, ``spread``, hangs how right it is:

    - a number c: the elements are independent with variance c, ``C_t = c sigma_t² / (alpha_t² c + sigma_t²)``. Exact for such
      Gaussian data with the exact reverse variance. c = 1 is Song et al. 2023's choice (ΠGDM), and the variance ``large`` [HO20];
    - a callable ``t -> C_t``, times (B,) to a tensor of (B,) or one that meets x, such as ``AnalyticVariance.error_at``;
    - ``covariance``: ``C_t = (sigma_t²/alpha_t) d x0_hat/d x_t``, the full posterior covariance (Tweedie's second formula), applied
      through the network's own gradients and inverted step by step (Rozet et al. 2024's moment matching). What one element's r
      says about the others comes in, and for Gaussian data of any covariance it is the exact mean, so the chain's limit is the
      exact posterior. Costs at most ``iterations`` + 1 backward passes a step. Where alpha_t = 0 nothing is known of C_t, and
      only known values are set.

    The reverse variance is the denoiser's, less what r explains (for ``covariance`` at known values alone), at least ``small``.

    Args:
        factor: r, on the scale of x0: Normal, Bernoulli or Categorical, broadcasting against x (B, *E).
        spread: how uncertain x0 is given x_t, for real numbers; bits and symbols say it themselves.
        where: bool, broadcasting against x: elements outside were not observed.
        iterations: of the solver behind ``covariance``, at most so many.

    Raises:
        ValueError: for another spread; on a walk, for a factor of another kind than the data, and for a product without mass.
    """

    stepwise: ClassVar[bool] = False

    def __init__(
        self, factor: Distribution, spread: Spread = "covariance", where: Mask | None = None, iterations: int = 5
    ) -> None:
        if isinstance(spread, str) and spread != "covariance":
            raise ValueError(f'the spread of x0 is a number, a callable or "covariance", not {spread!r}')
        if isinstance(spread, int | float) and not spread > 0:
            raise ValueError(f"the variance of the data must be above 0, not {spread}")
        self.factor, self.spread, self.where, self.iterations = factor, spread, where, iterations

    def __call__(self, denoiser: DenoiserBase) -> DenoiserBase:
        # Steps are edited last, and what was observed is multiplied together first: the order of edits does not matter.
        if isinstance(denoiser, Stepped):
            return Stepped(self(denoiser.denoiser), denoiser.edits)
        if isinstance(denoiser, Observed):
            return Observed(denoiser.denoiser, (*denoiser.observations, self))
        return Observed(denoiser, (self,))


class Observed(Around):
    """A denoiser of the data's posterior after observations: see :class:`Observe`.

    Raises:
        ValueError: if the observations do not agree about the spread.
    """

    def __init__(self, denoiser: DenoiserBase, observations: tuple[Observe, ...]) -> None:
        super().__init__(denoiser)
        self.observations = observations
        if any(o.spread != observations[0].spread for o in observations):
            raise ValueError("observations of one walk must be given the same spread")

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        if not self.process.continuous:
            return self._observed_states(self.denoiser.predict(x_t, t, condition))
        r = self._factor(x_t)
        if bool(torch.isposinf(r.variance).all()):  # r = 1
            return self.denoiser.predict(x_t, t, condition)
        if self.observations[0].spread != "covariance":
            return self._observed_numbers(self.denoiser.predict(x_t, t, condition), r)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            return self._observed_jointly(self.denoiser.predict(x, t, condition), r, x, x_t)

    def _observed_states(self, prediction: PredictionBase) -> PredictionBase:
        process, x_t = self.process, prediction.x_t
        states = process.states_of(x_t[:1]).shape[-1]
        if not isinstance(prediction, DiscretePrediction):
            # A network that speaks of x_{t-1} is asked for the x0 that would make its step.
            logits = process.logits_of(factors.log_masses(prediction.x0, states, x_t))
            prediction = DiscretePrediction(process, x_t, prediction.t, logits)
        logits = prediction.logits
        for o in self.observations:
            if not isinstance(o.factor, type(prediction.x0)):
                kind = type(prediction.x0).__name__
                raise ValueError(f"this data is multiplied by a {kind}, not by a {type(o.factor).__name__}")
            r = factors.log_masses(factors.spread(o.factor, x_t), states, x_t)
            if o.where is not None:
                r = torch.where(o.where.to(r.device)[..., None], r, 0)
            logits = logits + process.logits_of(r).to(logits)
        edited = replace(prediction, logits=logits)
        factors.checked(edited.x0, prediction.x0)
        return edited

    def _observed_numbers(self, prediction: PredictionBase, r: Normal) -> Prediction:
        assert isinstance(prediction, Prediction)
        before = Normal(prediction.x0, self._spread(prediction))
        after = factors.product(before, r)
        explained = before.variance - after.variance
        return replace(
            prediction.with_x0(after.mean), variance=_less(prediction, explained, ~torch.isposinf(r.variance))
        )

    def _observed_jointly(self, prediction: PredictionBase, r: Normal, x: Tensor, x_t: Tensor) -> Prediction:
        """The product with the full covariance; ``x`` is x_t as the root of the graph that ends in x0."""
        assert isinstance(prediction, Prediction)
        x0, v = prediction.x0, r.variance.expand_as(x_t)
        seen, known = ~torch.isposinf(v), v == 0
        own = torch.where(seen, v, 0).to(x_t.dtype)
        covariance = gradients.covariance(prediction, x)

        def system(u: Tensor) -> Tensor:
            return torch.where(seen, covariance(u), 0) + own * u

        gap = torch.where(seen, r.mean - x0.detach(), 0)
        moved = x0.detach() + covariance(gradients.solved(system, gap, self.observations[0].iterations))
        edited = gradients.without_graph(prediction, torch.where(known, r.mean, moved), x_t)
        return replace(edited, variance=_less(edited, torch.where(known, torch.inf, 0.0).to(v), known))

    def _factor(self, like: Tensor) -> Normal:
        """The product of the observations, in x's dtype; of infinite variance where there is none."""
        nothing = Normal(torch.zeros_like(like), torch.full_like(like, torch.inf, dtype=torch.float64))
        r = nothing
        for o in self.observations:
            r = factors.product(r, factors.spread(o.factor, like), o.where)
        return r

    def _spread(self, prediction: Prediction) -> Tensor:
        """C_t as variances, float64, to meet x."""
        spread, t = self.observations[0].spread, prediction.t
        if callable(spread):
            value = spread(t)
            return column(value, prediction.x_t) if value.ndim == 1 else value
        assert not isinstance(spread, str)
        schedule, t = prediction.process.schedule, column(t, prediction.x_t)
        gain, var = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
        return spread * var / (gain * spread + var)


def _less(prediction: Prediction, explained: Tensor, seen: Tensor) -> VarianceRule:
    """The prediction's rule less ``from_0² explained``, at least ``small``; where nothing was seen, as it was.

    A step's variance is ``small + from_0² Var[x0 | x_t]``, so what r explains of x0 leaves it with that coefficient.
    """

    def rule(s: Tensor, t: Tensor) -> Tensor:
        before = prediction.variance(s, t)
        _, from_0, small = prediction.process.posterior_coefficients(s, t, prediction.x_t)
        return torch.where(seen, torch.maximum(before - from_0**2 * explained, small), before)

    return rule
