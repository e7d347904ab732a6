"""The variational bound on -log p(x0), term by term.

``-log p(x0) <= KL(q(x_T|x0) ‖ p(x_T)) + sum_{t=2..T} E KL(q(x_{t-1}|x_t,x0) ‖ p(x_{t-1}|x_t)) - E log p(x0|x_1)``
[SD15 eq. 14 with the signs of HO20 eq. 5]. The expectations over q are taken with draws, so one value may lie below
-log p; their mean may not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from unstir.denoisers import Condition, DenoiserBase, Prediction
from unstir.distributions import DiscretizedNormal, Normal
from unstir.noise import NoiseSource

DecoderVariance = str | Callable[[Prediction], Tensor]


@dataclass(frozen=True)
class Bound:
    """The parts of the bound for each sample, nats per whole sample.

    Args:
        prior: (B,). steps: (B, n - 1), by rising t; of an estimate (B, strata), each its stratum's share. decoder: (B,).
        dims: D = C·H·W, the data's numbers.
        density: whether the decoder is a density on the scaled axis rather than a mass of levels.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor
    dims: int
    density: bool = False

    @property
    def total(self) -> Tensor:
        """The bound on -log p(x0), nats, lower is better: (B,)."""
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits_per_dim(self) -> Tensor:
        """:attr:`total` in bits/dim (B,); see :func:`bits_per_dim`."""
        return bits_per_dim(self.total, self.dims, density=self.density)


def bits_per_dim(nats: Tensor, dims: int, *, density: bool = False) -> Tensor:
    """``nats / (D ln 2)``; for a density on the scaled axis plus ``log2(255/2)``, the width of a level there.

    So data dequantised to the bin around its level scores exactly 8 under the uniform density on ±256/255.
    """
    bits = nats / (dims * math.log(2))
    return bits + math.log2(255 / 2) if density else bits


@torch.no_grad()
def variational_bound(
    denoiser: DenoiserBase,
    x0: Tensor,
    *,
    condition: Condition | None = None,
    times: Sequence[int] | Tensor | None = None,
    draws: int = 1,
    terms: int | None = None,
    decoder: str = "discretized",
    decoder_variance: DecoderVariance = "beta_1",
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bound:
    """The bound with all its terms, for the whole chain or for a chain of some of its times.

    Args:
        x0: (B, *E), on the scaled axis.
        times: the chain's rising times 1 <= t_1 < … < t_n = T; default all of 1 … T. The terms are those of this chain.
        draws: how many draws of x_t each term is averaged over.
        terms: None for all of them; a number for an unbiased estimate of the steps' sum from at most so many: the steps are
            cut into strata, short at the start where terms are large and long at the end, and each sample draws one step
            in each. Samples draw independently, so the spread of their totals holds the estimate's own error too.
        decoder: ``discretized`` for 8-bit levels (a mass), ``normal`` for other data (a density).
        decoder_variance: ``beta_1`` (the variance of x at t_1), ``ho20`` (beta-tilde_2, the posterior's variance
            from t_2 to t_1), or a callable of the prediction at t_1.
        noise: default a source of seed 0 with indices 0 … B-1.
        progress: called with (network calls done, all).

    Raises:
        ValueError: when the data does not suit the decoder, or the times do not make a chain.
    """
    if draws < 1:
        raise ValueError(f"the bound needs at least one draw for each term, not {draws}")
    process = denoiser.process
    chain = _chain(times, process.T)
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    prior = _nats(process.marginal(x0, process.T).kl(process.prior(x0.shape, x0.dtype, x0.device)))
    on_chain = torch.tensor(chain, dtype=torch.float64, device=x0.device)
    strata = _strata(len(chain) - 1, terms)
    parts = []
    for k, (first, size) in enumerate([(0, 1), *strata]):
        part = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
        for draw in range(draws):
            # Which place of the chain each sample looks at; in a stratum of one there is no choice.
            place = first + (noise.uniform((), f"bound stratum {draw}", k) * size).long()
            t = on_chain[place]
            x_t = process.marginal(x0, t).draw(noise, f"bound {draw}", place)
            prediction = denoiser.predict(x_t, t, condition)
            if k == 0:
                above = chain[1] if len(chain) > 1 else None
                part += decoder_nats(prediction, x0, decoder, decoder_variance, above)
            else:
                part += size * step_nats(prediction, x0, on_chain[place - 1])
        parts.append(part / draws)
        if progress:
            progress(k + 1, 1 + len(strata))
    steps = torch.stack(parts[1:], 1) if strata else prior.new_zeros(len(x0), 0)
    return Bound(prior, steps, parts[0], math.prod(x0.shape[1:]), density=decoder == "normal")


def step_nats(prediction: Prediction, x0: Tensor, s: Tensor) -> Tensor:
    """``KL(q(x_s | x_t, x0) ‖ p(x_s | x_t))`` for a prediction about x_t, nats per sample (B,), s > 0."""
    posterior = prediction.process.posterior(prediction.x_t, x0, s, prediction.t)
    return _nats(posterior.kl(prediction.reverse(s)))


def decoder_nats(
    prediction: Prediction,
    x0: Tensor,
    decoder: str = "discretized",
    decoder_variance: DecoderVariance = "beta_1",
    above: float | None = None,
) -> Tensor:
    """``-log p(x0 | x_1)`` for a prediction about x_1, nats per sample (B,) [HO20 eq. 13].

    Args:
        above: the chain's next time after t_1, which ``ho20`` needs.
    """
    process = prediction.process
    if callable(decoder_variance):
        variance = decoder_variance(prediction)
    elif decoder_variance == "beta_1":
        variance = process.marginal(x0, prediction.t).variance
    elif decoder_variance == "ho20":
        if above is None:
            raise ValueError('decoder_variance="ho20" is beta-tilde_2: it needs a chain of at least two steps')
        variance = process.variances(prediction.t, torch.full_like(prediction.t, above), x0)[0]
    else:
        raise ValueError(f"no decoder variance is called {decoder_variance!r}; there are beta_1, ho20, or a callable")
    if decoder == "discretized":
        return -_nats(DiscretizedNormal(prediction.x0, variance).log_prob(x0))
    if decoder == "normal":
        return -_nats(Normal(prediction.x0, variance).log_prob(x0))
    raise ValueError(f"no decoder is called {decoder!r}; there are discretized and normal")


def _nats(elementwise: Tensor) -> Tensor:
    """The sum over a sample's numbers, float64 (B,)."""
    return elementwise.flatten(1).sum(1, dtype=torch.float64)


def _chain(times: Sequence[int] | Tensor | None, T: int) -> list[float]:
    chain = list(range(1, T + 1)) if times is None else [float(t) for t in times]
    rising = all(a < b for a, b in pairwise(chain))
    if not chain or not rising or chain[0] <= 0 or chain[-1] != T:
        raise ValueError(f"the bound's times must rise from above 0 to T = {T}")
    return [float(t) for t in chain]


def _strata(steps: int, terms: int | None) -> list[tuple[int, int]]:
    """The steps 1 … n cut into at most ``terms`` runs (first, size), their sizes growing geometrically."""
    if terms is None or terms >= steps:
        return [(i, 1) for i in range(1, steps + 1)]
    if terms < 1:
        raise ValueError(f"an estimate of the bound needs at least one term, not {terms}")
    edges = sorted({round((steps + 1) ** (i / terms)) for i in range(terms + 1)})
    return [(a, b - a) for a, b in pairwise(edges)]
