"""The terms of the bound, one at a time: differentiable, in nats per sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unstir.denoisers import Prediction, PredictionBase
from unstir.distributions import DiscretizedNormal, Normal
from unstir.processes import Process
from unstir.shapes import Data, LeadingB, Rows, Rows64

DecoderVariance = str | Callable[[Prediction], Tensor]
DECODERS = ("discretized", "normal", "reverse", "forward")


def nats(elementwise: LeadingB) -> Rows64:
    """The sum over a sample's numbers, float64 (B,)."""
    return elementwise.reshape(len(elementwise), elementwise[:1].numel()).sum(1, dtype=torch.float64)


def precise(x0: Data) -> Data:
    """The same data, in float32 where it came in less: a bound walked in half precision errs by whole nats."""
    return x0.float() if x0.is_floating_point() and x0.element_size() < 4 else x0


def step_nats(prediction: PredictionBase, x0: Data, s: Rows) -> Rows64:
    """``KL(q(x_s | x_t, x0) ‖ p(x_s | x_t))`` for a prediction about x_t, nats per sample (B,), s > 0 [HO20 eq. 5]."""
    posterior = prediction.process.posterior(prediction.x_t, x0, s, prediction.t)
    return nats(posterior.kl(prediction.reverse(s)))


def decoder_nats(
    prediction: PredictionBase,
    x0: Data,
    decoder: str | None = None,
    decoder_variance: DecoderVariance = "beta_1",
    above: float | None = None,
) -> Rows64:
    """``-log p(x0 | x_1)`` for a prediction about x_1, nats per sample (B,) [HO20 eq. 13].

    Args:
        decoder: ``discretized`` (8-bit levels), ``normal`` (a density), ``reverse`` (the denoiser's own reverse step at s = 0),
            ``forward`` (the forward kernel read backwards [SD15], whatever was predicted), or None for the process's own.
        decoder_variance: of the first two: ``beta_1``, ``ho20``, ``reverse`` (the denoiser's own rule at s = 0), or a callable.
        above: the chain's next time after t_1, which ``ho20`` needs.

    Raises:
        ValueError: for a decoder or variance that does not exist or does not suit the data, and for a variance of 0.
    """
    decoder = decoder or prediction.process.decoder
    if decoder == "forward":
        return forward_nats(prediction.process, prediction.x_t, x0, prediction.t)
    if decoder == "reverse":
        last = prediction.reverse(torch.zeros_like(prediction.t))
        if isinstance(last, Normal):
            _check_width(last.variance)
        return -nats(last.log_prob(x0))
    if decoder not in DECODERS:
        raise ValueError(f"no decoder is called {decoder!r}; there are {', '.join(DECODERS)}")
    if not isinstance(prediction, Prediction):
        raise ValueError(f'the decoder "{decoder}" is for real numbers; bits and symbols have "reverse" and "forward"')
    variance = _decoder_variance(prediction, x0, decoder_variance, above)
    _check_width(variance)
    kind = DiscretizedNormal if decoder == "discretized" else Normal
    return -nats(kind(prediction.x0, variance).log_prob(x0))


def forward_nats(process: Process, x_1: Data, x0: Data, t: Rows) -> Rows64:
    """``-log p(x0 | x_1)`` set equal to the forward kernel, ``T_pi(x0 | x_1; beta_1)`` [SD15 App. B.2], nats per sample (B,)."""
    return -nats(process.step(x_1, 0, t).log_prob(x0))


def _check_width(variance: Tensor) -> None:
    if not bool((variance > 0).all()):  # asked this way round, NaN is refused too
        raise ValueError(
            "this reverse variance is 0 at s = 0, a point, which gives x0 no density: use a denoiser with variance large, "
            'free or analytic, or decoder_variance="beta_1"'
        )


def _decoder_variance(prediction: Prediction, x0: Tensor, rule: DecoderVariance, above: float | None) -> Tensor:
    process, t = prediction.process, prediction.t
    if callable(rule):
        return rule(prediction)
    if rule == "beta_1":
        return process.marginal(x0, t).variance
    if rule == "reverse":
        return prediction.variance(torch.zeros_like(t), t)
    if rule == "ho20":
        if above is None:
            raise ValueError('decoder_variance="ho20" is beta-tilde_2: it needs a chain of at least two steps')
        return process.variances(t, torch.full_like(t, above), x0)[0]
    raise ValueError(f"no decoder variance is called {rule!r}; there are beta_1, ho20, reverse, or a callable")
