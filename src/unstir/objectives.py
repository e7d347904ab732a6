"""Objectives: what a network is trained to make small.

Each is called with clean data, times and the noise, and gives one loss a sample. The error of the raw output (squared for real
numbers, the cross-entropy for bits and symbols), averaged over a sample's numbers, is weighted so that the same error of x0
costs the same whatever the network predicts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unstir.bound import decoder_nats, step_nats
from unstir.denoisers import Condition, Denoiser
from unstir.schedules import Schedule
from unstir.shapes import Data, Raw, Reals, Rows


class Objective:
    """Base: ``loss = weight(t) · mean error(raw)``, the error being the parameterisation's, ``|raw - target|²`` for real numbers."""

    whole_times = False  # whether t must be one of the chain's 1 … T

    def weight(self, denoiser: Denoiser, t: Rows) -> Rows:
        """The weight of the raw error at t, float64 (B,)."""
        return torch.ones_like(t)

    def __call__(self, denoiser: Denoiser, x0: Data, t: Rows, eps: Reals, condition: Condition | None = None) -> Rows:
        """The loss of each sample, (B,).

        Args:
            x0: (B, *E). t: float64 (B,), in (0, T]. eps: the noise of x_t as the process takes it, (B, *E).
        """
        raw, _ = denoiser.raw(_noised(denoiser, x0, t, eps), t, condition)
        return self._weighted_error(denoiser, raw, x0, t, eps)

    def _weighted_error(self, denoiser: Denoiser, raw: Tensor, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        error = denoiser.parameterisation.error(raw, x0, eps, t).flatten(1).mean(1)
        return error * self.weight(denoiser, t).to(error.dtype)


class Simple(Objective):
    """The plain error of what the network predicts: L_simple for eps [HO20 eq. 14], the cross-entropy for logits."""


class MinSNR(Objective):
    """``min(SNR, gamma) |x0 - x0_hat|²`` (Hang et al. 2023): finite at SNR = 0 for every prediction.

    In raw errors: ``min(S, gamma)/S`` for eps and ``min(S, gamma)/(S + 1)`` for v.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        if not gamma > 0:
            raise ValueError(f"gamma is the largest SNR that counts, above 0, not {gamma}")
        self.gamma = gamma

    def weight(self, denoiser: Denoiser, t: Rows) -> Rows:
        snr = denoiser.process.schedule.log_snr(t).exp()
        return snr.clamp(max=self.gamma) * denoiser.parameterisation.x0_error(t) ** 2


class EDM(Objective):
    """``(sigma_t² + sd² alpha_t²) / (sd sigma_t)² |x0 - x0_hat|²`` (Karras et al. 2022, table 1): every noise level counts alike.

    For the preconditioned prediction that is a weight of 1.

    Args:
        data_rms: sd, the data's root mean square on the scaled axis.
    """

    def __init__(self, data_rms: float = 0.5) -> None:
        self.data_rms = data_rms

    def weight(self, denoiser: Denoiser, t: Rows) -> Rows:
        alpha, sigma = _scales(denoiser.process.schedule, t)
        unit = (sigma**2 + (self.data_rms * alpha) ** 2) / (self.data_rms * sigma) ** 2
        return unit * denoiser.parameterisation.x0_error(t) ** 2


class Variational(Objective):
    """``T · L_t``, one term of the bound, nats per dim: its mean over uniform t in 1 … T is the bound less its prior part.

    [HO20 eq. 5]; t = 1 is the decoder's term, which teaches nothing where p(x0 | x_1) is the forward kernel [SD15 App. B.2].

    Args:
        decoder, decoder_variance: as in :func:`unstir.bound.variational_bound`.
    """

    whole_times = True

    def __init__(self, decoder: str | None = None, decoder_variance: str = "beta_1") -> None:
        self.decoder, self.decoder_variance = decoder, decoder_variance

    def __call__(self, denoiser: Denoiser, x0: Data, t: Rows, eps: Reals, condition: Condition | None = None) -> Rows:
        x_t = _noised(denoiser, x0, t, eps)
        raw, spread = denoiser.raw(x_t, t, condition)
        return self.term(denoiser, raw, spread, x_t, x0, t)

    def term(self, denoiser: Denoiser, raw: Raw, spread: Raw | None, x_t: Data, x0: Data, t: Rows) -> Rows:
        """The loss from a network output that is already there, (B,)."""
        nats = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        if self.decoder == "forward":
            # A batch may hold nothing but t = 1: there is then still a gradient to ask for, of zeros.
            nats = nats + 0 * raw.flatten(1).sum(1)
        for rows, of_decoder in (((t == 1).nonzero().squeeze(1), True), ((t > 1).nonzero().squeeze(1), False)):
            if len(rows) == 0 or (of_decoder and self.decoder == "forward"):
                continue
            part = None if spread is None else spread[rows]
            prediction = denoiser.interpret(raw[rows], part, x_t[rows], t[rows])
            if of_decoder:
                value = decoder_nats(prediction, x0[rows], self.decoder, self.decoder_variance)
            else:
                value = step_nats(prediction, x0[rows], t[rows] - 1)
            nats = nats.index_put((rows,), value)
        return (nats * (denoiser.process.T / math.prod(x0.shape[1:]))).to(raw.dtype)


class Hybrid(Objective):
    """``L_simple + weight · T L_t`` with the mean held fixed in the second, so that it teaches the variance alone.

    (Nichol & Dhariwal 2021, eq. 16.) For denoisers with learned variance.
    """

    whole_times = True

    def __init__(self, weight: float = 1e-3, decoder: str | None = None) -> None:
        self.factor = weight
        self.variational = Variational(decoder)

    def __call__(self, denoiser: Denoiser, x0: Data, t: Rows, eps: Reals, condition: Condition | None = None) -> Rows:
        if denoiser.variance != "learned":
            raise ValueError('the hybrid objective teaches the variance: it needs a denoiser with variance="learned"')
        x_t = _noised(denoiser, x0, t, eps)
        raw, spread = denoiser.raw(x_t, t, condition)
        bound = self.variational.term(denoiser, raw.detach(), spread, x_t, x0, t)
        return self._weighted_error(denoiser, raw, x0, t, eps) + self.factor * bound


def get(description: dict) -> Objective:
    """An objective by name (``simple``, ``hybrid``, ``variational``, ``min_snr``, ``edm``) and its arguments."""
    arguments = dict(description)
    kinds = {"simple": Simple, "hybrid": Hybrid, "variational": Variational, "min_snr": MinSNR, "edm": EDM}
    name = arguments.pop("name")
    if name not in kinds:
        raise ValueError(f"no objective is called {name!r}; there are {', '.join(kinds)}")
    return kinds[name](**arguments)


def _noised(denoiser: Denoiser, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return denoiser.process.marginal(x0, t).sample(eps)


def _scales(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    return schedule.alpha(t), schedule.sigma(t)
