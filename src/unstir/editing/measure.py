"""Linear measurements of x0: ``p(x0 | x_t, y)`` for ``y = A x0 + sqrt(v) n``, from which any sampler goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from unstir.denoisers import Around, Condition, DenoiserBase, Prediction, PredictionBase
from unstir.editing import gradients
from unstir.editing.operators import Operator
from unstir.editing.steps import Stepped
from unstir.processes.base import column
from unstir.shapes import Data, Measurements, RowTimes


class Measure:
    """``E[x0 | x_t, y] = x0_hat + C_t Aᵀ (A C_t Aᵀ + v)^-1 (y - A x0_hat)``, with p(x0 | x_t) read as ``N(x0_hat, C_t)``.

    :class:`unstir.editing.Observe` is the case where A picks elements. On the spread C_t hangs how right it is:

    - ``covariance``: ``C_t = (sigma_t²/alpha_t) d x0_hat/d x_t`` through the network's own gradient, the system solved step by step
      (Rozet et al. 2024's moment matching, whose special case ``C_t ∝ 1`` in the brackets is ΠGDM, Song et al. 2023, eq. 7; and
      without the brackets, DPS, Chung et al. 2023). For Gaussian data of any covariance and as many ``iterations`` as measurements
      it is the exact mean, so the chain's limit is the exact posterior; fewer leave a part of y unexplained. Costs at most
      ``iterations`` + 1 backward passes a step;
    - a number c, the data's variance: ``C_t = c sigma_t² / (alpha_t² c + sigma_t²)`` for each element alone. No gradient is taken:
      what y does not see is told of it by later steps only (Wang et al. 2023, DDNM).

    With v = 0 and an operator that has a ``gram``, the measurement comes back exactly: what is still missing of y goes to
    ``x0 + Aᵀ(y - A x0)/gram``. The reverse variance is the denoiser's own.

    Args:
        operator: A. y: (B, *Y). noise: v, the variance of the measurement's noise, on y's own scale.
        spread: how uncertain x0 is given x_t: see above.
        iterations: of the solver, at most so many.

    Raises:
        ValueError: for a noise that is no variance, another spread, and on a walk of bits or symbols.
    """

    stepwise: ClassVar[bool] = False

    def __init__(
        self,
        operator: Operator,
        y: Measurements,
        noise: float = 0.0,
        spread: float | str = "covariance",
        iterations: int = 5,
    ) -> None:
        if not 0 <= noise < torch.inf:
            raise ValueError(f"the noise of a measurement is a variance: 0 or above, not {noise}")
        if spread != "covariance" and (isinstance(spread, str) or not spread > 0):
            raise ValueError(f'the spread of x0 is a number above 0 or "covariance", not {spread!r}')
        if not bool(y.isfinite().all()):
            raise ValueError("a measurement is finite numbers: leave out what was not measured with Masking")
        self.operator, self.y, self.noise = operator, y, float(noise)
        self.spread, self.iterations = spread, iterations

    def __call__(self, denoiser: DenoiserBase) -> DenoiserBase:
        if isinstance(denoiser, Stepped):
            return Stepped(self(denoiser.denoiser), denoiser.edits)
        if not denoiser.process.continuous:
            raise ValueError("bits and symbols are not measured by linear operators: give the observation as a factor")
        return Measured(denoiser, self)


class Measured(Around):
    """A denoiser of the data's posterior after a measurement: see :class:`Measure`."""

    def __init__(self, denoiser: DenoiserBase, measure: Measure) -> None:
        super().__init__(denoiser)
        self.measure = measure

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> Prediction:
        if self.measure.spread != "covariance":
            with torch.no_grad():
                return self._moved(self.denoiser.predict(x_t, t, condition), None, x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            return self._moved(self.denoiser.predict(x, t, condition), x, x_t)

    def _moved(self, prediction: PredictionBase, x: Tensor | None, x_t: Tensor) -> Prediction:
        """The prediction after y; ``x`` is x_t as the root of the graph that ends in x0, or None where there is none."""
        assert isinstance(prediction, Prediction)
        measure, a = self.measure, self.measure.operator
        x0 = prediction.x0.detach()
        covariance = self._alone(prediction) if x is None else gradients.covariance(prediction, x)

        def system(u: Tensor) -> Tensor:
            return a.forward(covariance(a.adjoint(u))) + measure.noise * u

        gap = self._gap(x0)
        moved = x0 + covariance(a.adjoint(gradients.solved(system, gap, measure.iterations)))
        if measure.noise == 0 and a.gram is not None:
            moved = moved + a.adjoint(self._gap(moved)) / a.gram
        return gradients.without_graph(prediction, moved, x_t)

    def _gap(self, x0: Tensor) -> Tensor:
        """``y - A x0``, and of y only what A can say: a mask's y holds anything where it is hidden."""
        a, gap = self.measure.operator, self.measure.y.to(x0) - self.measure.operator.forward(x0)
        return gap if a.gram is None else a.forward(a.adjoint(gap)) / a.gram

    def _alone(self, prediction: Prediction) -> Callable[[Tensor], Tensor]:
        """``u -> C_t u`` where the elements are independent."""
        schedule, t = prediction.process.schedule, column(prediction.t, prediction.x_t)
        gain, var, c = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2, float(self.measure.spread)
        return (c * var / (gain * c + var)).to(prediction.x_t.dtype).mul
