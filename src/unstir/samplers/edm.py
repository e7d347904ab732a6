"""EDM's stochastic sampler: some noise is added, and more of it taken away again (Karras et al. 2022, alg. 2)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers.base import State, draw, per_row
from unstir.samplers.heun import Heun


class EDM(Heun):
    """From t up to t' with ``k' = (1 + gamma) k``, then down to s by Heun's method, with ``k = sigma / alpha``:

        ``x_t' = (alpha_t' / alpha_t) x_t + s_noise sqrt(s2) z``,  ``gamma = min(s_churn / n, sqrt(2) - 1)``

    for k in s_tmin … s_tmax, and gamma = 0 elsewhere; s2 is the variance of the chain's own step from t to t', in which variances
    add, and not deviations. On any schedule k plays the part of the paper's sigma and x_t / alpha_t that of its x. Heun's method
    is the trapezoid of :class:`Heun`, which starts at alpha_t = 0 too; the paper's is the same to second order.

    Adding noise is exact, so the weak order is that of Heun's method, 2, when s_noise is 1 and n so large that gamma is s_churn / n.
    Without churn it is that method, and deterministic. No noise leads beyond T, and none is added at the walk's first time,
    where x is a fresh draw.

    Args:
        s_churn: how much noise is added over the whole walk, 0 or above.
        s_tmin, s_tmax: between which k it is added.
        s_noise: a factor on it; the paper has up to 1.007 against networks that remove a little too much.
    """

    reference = "Karras et al. 2022, alg. 2"

    def __init__(self, s_churn: float = 40.0, s_tmin: float = 0.05, s_tmax: float = 50.0, s_noise: float = 1.0) -> None:
        if not (0 <= s_churn < math.inf and 0 <= s_tmin <= s_tmax and 0 < s_noise < math.inf):
            raise ValueError(
                "s_churn is 0 or above, s_tmin not above s_tmax and s_noise above 0, unlike "
                f"{s_churn=}, {s_tmin=}, {s_tmax=}, {s_noise=}"
            )
        self.s_churn, self.s_tmin, self.s_tmax, self.s_noise = s_churn, s_tmin, s_tmax, s_noise
        self.stochastic = self.between = s_churn > 0

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        assert isinstance(prediction, Prediction)
        following = super().advance(state, prediction, noise)
        if not self.stochastic:
            return following
        arrived = following.position > state.position
        return self._churned(following, arrived & ~following.done, prediction.process, noise)

    def _churned(self, state: State, rows: Tensor, process: Gaussian, noise: NoiseSource | None) -> State:
        """The state with noise added where ``rows``, (B,): these then stand at a later time t', written into their list of times."""
        schedule, t = process.schedule, state.time()
        k = (-0.5 * schedule.log_snr(t)).exp()
        gamma = min(self.s_churn / (state.times.shape[1] - 1), math.sqrt(2) - 1)
        rows = rows & (k >= self.s_tmin) & (k <= self.s_tmax) & (t > 0)
        later = schedule.time(-2 * (k * (1 + gamma)).log()).clamp(max=process.T)
        later = torch.where(rows, torch.maximum(later, t), t)
        step = process.step(state.x, t, later)
        x = step.mean + self.s_noise * step.variance.sqrt().to(state.x.dtype) * draw(noise, state)
        times = state.times.scatter(1, state.position.clamp(max=state.times.shape[1] - 1)[:, None], later[:, None])
        return replace(state, x=torch.where(per_row(rows, x).bool(), x, state.x), times=times)
