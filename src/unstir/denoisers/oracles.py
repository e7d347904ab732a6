"""Exact denoisers: closed forms of E[x0 | x_t] for data whose distribution is known.

They are the yardstick for everything else: on a Gaussian mixture the marginals, the score and the log-density are known at
every t, so bounds and samplers can be held against the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from unstir.denoisers import variance as variances
from unstir.denoisers.base import DenoiserBase, times_for
from unstir.denoisers.condition import Condition
from unstir.denoisers.discrete import DiscretePrediction
from unstir.denoisers.prediction import Prediction
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.shapes import Covariances, Data, Means, Reals, Rows, Rows64, RowTimes, Weights

Variance = str | Callable[[Tensor, Tensor], Tensor]


class GaussianMixtureDenoiser(DenoiserBase):
    """The exact denoiser of ``sum_k w_k N(m_k, C_k)``; one component makes it that of a Gaussian.

    ``E[x0 | x_t] = sum_k r_k (m_k + alpha C_k (alpha² C_k + sigma² I)^-1 (x_t - alpha m_k))`` with r_k the components'
    posterior weights. Everything is computed in float64 along the covariances' eigenvectors.

    Args:
        weights: (K,), summing to one. means: (K, D). covariances: (K, D, D), positive semi-definite.
        variance: the rule for the reverse step's variance, as for a Denoiser (not ``learned``).
    """

    def __init__(
        self, process: Gaussian, weights: Weights, means: Means, covariances: Covariances, variance: Variance = "small"
    ) -> None:
        super().__init__()
        if bool((weights < 0).any()) or abs(float(weights.double().sum()) - 1) > 1e-5:
            raise ValueError("the weights of a mixture are probabilities: 0 or above, and summing to 1")
        self.process = process
        self.variance = variance
        self.log_weights = weights.double().log()
        self.means = means.double()
        self.spectrum, self.axes = torch.linalg.eigh(covariances.double())

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> Prediction:
        t = times_for(x_t, t)
        alpha = self.process.schedule.alpha(t)[:, None, None]
        centred, spread, log_joint = self._components(x_t, t)
        shrunk = alpha * self.spectrum * centred / spread
        by_component = self.means + torch.einsum("bkd,ked->bke", shrunk, self.axes)
        x0 = (log_joint.softmax(1)[..., None] * by_component).sum(1)
        rule = variances.rule(self.variance, self.process, x_t)
        return Prediction(self.process, x_t, t, rule, given_x0=x0.to(x_t.dtype))

    def log_prob(self, x_t: Data, t: RowTimes) -> Rows64:
        """``log q(x_t)``, the density of the data after noising to t (t = 0: of the data), nats, float64 (B,)."""
        return self._components(x_t, times_for(x_t, t))[2].logsumexp(1)

    def _components(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Per component: x_t - alpha m along the eigenvectors, the variances there, and log (w_k q_k(x_t))."""
        schedule = self.process.schedule
        alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
        centred = torch.einsum("bkd,kde->bke", x_t.double()[:, None] - alpha * self.means, self.axes)
        spread = alpha**2 * self.spectrum + sigma**2
        log_density = -0.5 * (centred**2 / spread + spread.log() + math.log(2 * math.pi)).sum(-1)
        return centred, spread, self.log_weights + log_density


class EmpiricalDenoiser(DenoiserBase):
    """The exact denoiser of a finite data set: the average of its points, weighted by ``softmax(-|x_t - alpha x_i|² / 2 sigma²)``.

    A network that reached it would only ever return its training data.

    Args:
        data: (N, *E), the points, each equally likely.
    """

    def __init__(self, process: Gaussian, data: Reals, variance: Variance = "small") -> None:
        super().__init__()
        self.process = process
        self.variance = variance
        self.data = data.double()

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> Prediction:
        t = times_for(x_t, t)
        alpha, sigma = self.process.schedule.alpha(t)[:, None], self.process.schedule.sigma(t)[:, None]
        points, x = self.data.flatten(1), x_t.double().flatten(1)
        # |x - alpha p|² written out, less |x|², which is the same for every point: nothing of size (B, N, D) is formed.
        distance = alpha**2 * (points**2).sum(1) - 2 * alpha * (x @ points.T)
        weights = (-distance / (2 * sigma**2)).softmax(1)
        x0 = (weights @ points).reshape(x_t.shape)
        rule = variances.rule(self.variance, self.process, x_t)
        return Prediction(self.process, x_t, t, rule, given_x0=x0.to(x_t.dtype))


class FiniteDenoiser(DenoiserBase):
    """The exact p(x0 | x_t), element by element, of bits or symbols that take finitely many joint values.

    ``p(x0 = k | x_t) = sum_{j: point j has k there} w_j prod_i q(x_t,i | point_j,i) / (the same over all points)``, in log space.
    Elements are taken one by one: what is lost is that they hang together, which no factorised reverse step can say.

    Args:
        points: (N, *E), the joint values. weights: (N,), their probabilities; default all alike.
    """

    def __init__(self, process: Binomial | Categorical, points: Data, weights: Rows | None = None) -> None:
        super().__init__()
        self.process = process
        self.points = points
        weights = torch.ones(len(points), dtype=torch.float64) if weights is None else weights.double()
        self.log_weights = (weights / weights.sum()).log()

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> DiscretePrediction:
        t = times_for(x_t, t)
        log_joint = self._log_joint(x_t, t)
        # Per element and state, the joint masses of the points that have that state there.
        has = self.process.states_of(self.points)  # (N, *E, K)
        by_state = torch.where(has, log_joint.reshape(*log_joint.shape, *(1,) * (has.ndim - 1)), -torch.inf)
        return DiscretePrediction(self.process, x_t, t, self.process.logits_of(by_state.logsumexp(1)))

    def log_prob(self, x_t: Data, t: RowTimes) -> Rows64:
        """``log q(x_t)``, of the data after noising to t, nats, float64 (B,)."""
        return self._log_joint(x_t, times_for(x_t, t)).logsumexp(1)

    def _log_joint(self, x_t: Tensor, t: Tensor) -> Tensor:
        """``log w_j + log q(x_t | point_j)``: float64 (B, N)."""
        columns = []
        for point in self.points:
            x0 = point.expand_as(x_t)
            x0 = x0.double() if x0.is_floating_point() else x0
            columns.append(self.process.marginal(x0, t).log_prob(x_t).flatten(1).sum(1, dtype=torch.float64))
        return self.log_weights + torch.stack(columns, 1)
