"""Rate and distortion: the bound read as progressive coding [HO20 §4.3]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from unstir.bound.terms import nats, precise, step_nats
from unstir.denoisers import Condition, DenoiserBase
from unstir.noise import NoiseSource
from unstir.shapes import Data, Vector64


@dataclass(frozen=True)
class RateDistortion:
    """What has been sent when the receiver stands at x_t, and how wrong its best guess of x0 then is.

    Args:
        times: falling t, (n,). rate: bits/dim sent so far, (n,). distortion: root mean square of the guess's error, (n,), on the
            scaled axis; of bits and symbols the root of the share that is wrong.
    """

    times: Vector64
    rate: Vector64
    distortion: Vector64

    @property
    def rmse(self) -> Vector64:
        """The distortion on levels 0 … 255, for 8-bit data."""
        return self.distortion * 127.5

    @property
    def reverse_times(self) -> Vector64:
        """``T - t + 1``, how [HO20 table 4] counts."""
        return self.times.max() - self.times + 1


@torch.no_grad()
def rate_distortion(
    denoiser: DenoiserBase,
    x0: Data,
    *,
    condition: Condition | None = None,
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RateDistortion:
    """``rate(t) = KL(q(x_T|x0) ‖ p(x_T)) + sum_{i=t+1..T} E KL(q(x_{i-1}|x_i,x0) ‖ p(x_{i-1}|x_i))``, and
    ``distortion(t) = sqrt E|x0 - x0_hat(x_t)|²``.

    [HO20 §4.3, table 4 and algs. 3, 4]: at the last time, t = 1, everything but the decoder's part has been sent.

    Args:
        x0: (B, *E); the curve is its average.
        noise: default a source of seed 0 with indices 0 … B-1; the draws of :func:`variational_bound` with one draw.
        progress: called with (network calls done, all).
    """
    process, x0 = denoiser.process, precise(x0)
    if not len(x0):
        raise ValueError("a curve of rate and distortion is an average, and needs at least one sample")
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    floating = x0.dtype if x0.is_floating_point() else torch.float32
    prior = process.prior(x0.shape, floating, x0.device)
    sent = nats(process.marginal(x0, process.T).kl(prior)).mean()
    rates, distortions = [], []
    for done, t in enumerate(range(process.T, 0, -1)):
        time = torch.full((len(x0),), float(t), dtype=torch.float64, device=x0.device)
        x_t = process.marginal(x0, time).draw(noise, "bound 0", t - 1)
        prediction = denoiser.predict(x_t, time, condition)
        rates.append(sent)
        distortions.append(prediction.distortion(x0).double().mean().sqrt())
        if t > 1:
            sent = sent + step_nats(prediction, x0, time - 1).mean()
        if progress:
            progress(done + 1, process.T)
    times = torch.arange(process.T, 0, -1, dtype=torch.float64, device=x0.device)
    bits = torch.stack(rates) / (math.prod(x0.shape[1:]) * math.log(2))
    return RateDistortion(times, bits, torch.stack(distortions))
