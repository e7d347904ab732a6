"""The best variance that a reverse step of one width for all elements can have, found from data (Bao et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unstir.denoisers import variance as variances
from unstir.denoisers.base import DenoiserBase
from unstir.denoisers.condition import Condition
from unstir.denoisers.prediction import Prediction
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.shapes import Data, Instants, Numbers64, Scalar64, Times, Vector64

_MOST = 100  # times at which the error is measured unless told otherwise


@dataclass(frozen=True)
class AnalyticVariance:
    """``sigma²(s, t) = small(s, t) + from_0(s, t)² E|x0 - x0_hat(x_t)|² / D``: a variance rule, ``(s, t) -> variance``.

    Of all variances that are the same for every element and x_t it makes the expected KL of the step smallest, whatever the
    denoiser: ``E KL = ½ (log(sigma²/small) - 1 + (small + from_0² e) / sigma²)`` is least where sigma² is that sum, and at
    s = 0 it is e, which makes the expected ``-log p(x0 | x_t)`` smallest. For the exact denoiser e is the mean posterior
    variance ``sigma_t²/alpha_t² (1 - sigma_t² E|score|²/D)`` and the rule that of Bao et al. 2022 (theorem 1), which
    :func:`score_error` computes.

    Args:
        times: rising times at which the error was measured, float64 (n,). error: e there, float64 (n,), all positive. In
            between, ``log(e / sin² phi)`` is linear in the angle ``phi = atan(sigma / alpha)``, and beyond the ends it stays:
            towards the data e falls as the noise does, as it must where the data have a density.
    """

    process: Gaussian
    times: Vector64
    error: Vector64

    def __post_init__(self) -> None:
        inside = bool((self.times > 0).all()) and bool((self.times.diff() > 0).all()) and len(self.times) > 0
        if not inside or float(self.times[-1]) > self.process.T or not bool((self.error > 0).all()):
            raise ValueError(
                f"the times of an analytic variance rise within (0, {self.process.T}], its errors are positive"
            )

    def __call__(self, s: Times, t: Times) -> Numbers64:
        _, from_0, small = self.process.posterior_coefficients(s, t, t)
        return small + from_0**2 * self.error_at(t)

    @torch.no_grad()  # a schedule may have weights of its own
    def error_at(self, t: Times) -> Numbers64:
        """``E|x0 - x0_hat(x_t)|² / D``, float64, of t's shape."""
        t = t.to(torch.float64)
        place, at = self._angle(self.times.to(t.device)), self._angle(t)
        log_ratio = self.error.to(t.device).log() - 2 * place.sin().log()
        above = torch.searchsorted(place, at.contiguous()).clamp(1, max(1, len(place) - 1))
        below, above = above - 1, above.clamp(max=len(place) - 1)
        gap = (place[above] - place[below]).clamp(min=1e-300)
        part = ((at - place[below]) / gap).clamp(0, 1)
        return torch.lerp(log_ratio[below], log_ratio[above], part).exp() * at.sin() ** 2

    def _angle(self, t: Tensor) -> Tensor:
        return torch.atan2(self.process.schedule.sigma(t), self.process.schedule.alpha(t))


@torch.no_grad()
def analytic_variance(
    denoiser: DenoiserBase,
    x0: Data,
    *,
    condition: Condition | None = None,
    times: Sequence[int | float] | Instants | None = None,
    batch: int = 256,
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AnalyticVariance:
    """Measures the error of x0 on data, one draw of x_t for each sample and time.

    Args:
        x0: (B, *E), training data: on held-out data one would be measured with what was fitted to it.
        times: default at most 100 of 1 … T, closer together at the start.
        batch: samples in one network call.
        noise: default a source of seed 0 with indices 0 … B-1.
        progress: called with (network calls done, all).

    Raises:
        ValueError: for bits and symbols, which have no variance to choose.
    """
    process = denoiser.process
    if not isinstance(process, Gaussian):
        raise ValueError("only the Gaussian reverse step has a variance to choose: bits and symbols have none")
    if times is None:
        times = (torch.linspace(0, 1, _MOST, dtype=torch.float64) ** 2 * (process.T - 1) + 1).round().unique()
    times = torch.as_tensor(times, dtype=torch.float64).cpu()
    if not len(x0):
        raise ValueError("the error of x0 is an average over data, and needs at least one sample")
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    parts = math.ceil(len(x0) / batch)
    squares = torch.zeros(len(times), dtype=torch.float64, device=x0.device)
    for k, t in enumerate(times.tolist()):
        x_t = process.marginal(x0, t).draw(noise, "analytic variance", k)
        for i in range(parts):
            rows = torch.arange(i * batch, min((i + 1) * batch, len(x0)), device=x0.device)
            prediction = denoiser.predict(x_t[rows], t, None if condition is None else condition.select(rows))
            squares[k] += prediction.distortion(x0[rows]).sum(dtype=torch.float64)
            if progress:
                progress(k * parts + i + 1, len(times) * parts)
    # A denoiser without any error would have no density to give: the floor is far below what float32 can tell apart.
    return AnalyticVariance(process, times, (squares / x0.numel()).clamp(min=1e-30).cpu())


def fit_variance(denoiser: DenoiserBase, x0: Data, **options: Any) -> AnalyticVariance:
    """Measures :func:`analytic_variance` and gives it to the denoiser, which uses it from now on.

    Of a wrapper it is the wrapper's own error that is measured.

    Args:
        x0: (B, *E), training data. options: ``condition, times, batch, noise, progress``, as of :func:`analytic_variance`.

    Raises:
        ValueError: for bits and symbols, which have no variance to choose, and for a network that says its own.
    """
    inner = denoiser
    while isinstance(within := getattr(inner, "denoiser", None), DenoiserBase):
        inner = within
    if getattr(inner, "variance", None) in variances.LEARNED:
        raise ValueError("this network says its reverse variance itself, so there is none to fit to data")
    rule = analytic_variance(denoiser, x0, **options)
    inner.variance = rule  # pyright: ignore[reportArgumentType]
    return rule


def score_error(prediction: Prediction) -> Scalar64:
    """``sigma_t²/alpha_t² (1 - sigma_t² E|score(x_t)|²/D)``, E over the batch (Bao et al. 2022, theorem 1): a number, float64.

    It is the mean variance of q(x0 | x_t) when the score is exact; of a network's score it is an estimate.

    Args:
        prediction: about rows that all stand at the same t, where alpha_t > 0.
    """
    schedule, t = prediction.process.schedule, prediction.t[:1]
    var, gain = schedule.sigma(t) ** 2, schedule.alpha(t) ** 2
    return (var / gain * (1 - var * prediction.score.double().square().mean())).squeeze()
