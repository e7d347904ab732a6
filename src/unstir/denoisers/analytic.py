"""The best variance that a reverse step of one width for all elements can have, found from data (Bao et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unstir.denoisers.base import DenoiserBase
from unstir.denoisers.prediction import Prediction
from unstir.noise import NoiseSource
from unstir.processes import Gaussian


@dataclass(frozen=True)
class AnalyticVariance:
    """``sigma²(s, t) = small(s, t) + from_0(s, t)² E|x0 - x0_hat(x_t)|² / D``: a variance rule, ``(s, t) -> variance``.

    Of all variances that are the same for every element and x_t it makes the expected KL of the step smallest, whatever the
    denoiser: ``E KL = ½ (log(sigma²/small) - 1 + (small + from_0² e) / sigma²)`` is least where sigma² is that sum. For the
    exact denoiser e is the mean posterior variance ``sigma_t²/alpha_t² (1 - sigma_t² E|score|²/D)`` and the rule that of
    Bao et al. 2022 (theorem 1), which :func:`score_error` computes.

    Args:
        times: rising times at which the error was measured, float64 (n,). error: e there, float64 (n,), all positive. In
            between the logarithm of e is linear in the angle atan(sigma / alpha).
    """

    process: Gaussian
    times: Tensor
    error: Tensor

    def __call__(self, s: Tensor, t: Tensor) -> Tensor:
        _, from_0, small = self.process.posterior_coefficients(s, t, t)
        return small + from_0**2 * self.error_at(t)

    def error_at(self, t: Tensor) -> Tensor:
        """``E|x0 - x0_hat(x_t)|² / D``, of t's shape."""
        place, at = self._angle(self.times.to(t.device)), self._angle(t)
        above = torch.searchsorted(place, at.contiguous()).clamp(1, len(place) - 1)
        part = ((at - place[above - 1]) / (place[above] - place[above - 1])).clamp(0, 1)
        log_error = self.error.to(t.device).log()
        return torch.lerp(log_error[above - 1], log_error[above], part).exp()

    def _angle(self, t: Tensor) -> Tensor:
        return torch.atan2(self.process.schedule.sigma(t), self.process.schedule.alpha(t))


@torch.no_grad()
def analytic_variance(
    denoiser: DenoiserBase,
    x0: Tensor,
    *,
    times: Sequence[float] | Tensor | None = None,
    noise: NoiseSource | None = None,
) -> AnalyticVariance:
    """Measures the error of x0 on data at the given times (default 1 … T, at most 100 of them, closer together at the start).

    Args:
        x0: (B, *E), training data: held-out data would be measured with what was fitted to it.
    """
    process = denoiser.process
    if not isinstance(process, Gaussian):
        raise ValueError("only the Gaussian reverse step has a variance to choose")
    if times is None:
        times = (
            (torch.linspace(0, 1, min(process.T, 100), dtype=torch.float64) ** 2 * (process.T - 1) + 1).round().unique()
        )
    times = torch.as_tensor(times, dtype=torch.float64).cpu()
    if len(times) < 2:
        times = torch.tensor([0.5, 1.0], dtype=torch.float64) * process.T
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    errors = []
    for k, t in enumerate(times.tolist()):
        x_t = process.marginal(x0, t).draw(noise, "analytic variance", k)
        prediction = denoiser.predict(x_t, t)
        errors.append(prediction.distortion(x0).double().mean().clamp(min=1e-30))
    return AnalyticVariance(process, times, torch.stack(errors).cpu())


def score_error(prediction: Prediction) -> Tensor:
    """``sigma_t²/alpha_t² (1 - sigma_t² E|score(x_t)|²/D)``, E over the batch (Bao et al. 2022, eq. 7): a number, float64.

    It is the mean variance of q(x0 | x_t) when the score is exact; of a network's score it is an estimate.
    """
    schedule, t = prediction.process.schedule, prediction.t[:1]
    var, gain = schedule.sigma(t) ** 2, schedule.alpha(t) ** 2
    return (var / gain * (1 - var * prediction.score.double().square().mean())).squeeze()
