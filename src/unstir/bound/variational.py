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

from unstir.bound.interval import Z95, mean_interval, student
from unstir.bound.terms import DecoderVariance, decoder_nats, forward_nats, nats, precise, step_nats
from unstir.denoisers import Condition, DenoiserBase
from unstir.noise import NoiseSource
from unstir.shapes import Data, Instants, Numbers, Rows, Rows64, RowTable64


@dataclass(frozen=True)
class Convention2015:
    """What [SD15]'s K needs beside the steps, nats per sample (B,).

    Args:
        edge: ``H_p(x_T) - H_q(x_T | x0) + H_q(x_1 | x0)``.
        null: ``-log pi(x0)``, the prior's own score of the data.
    """

    edge: Rows64
    null: Rows64


@dataclass(frozen=True)
class Bound:
    """The parts of the bound for each sample, nats per whole sample.

    Args:
        prior: (B,). steps: (B, n - 1), by rising t; of an estimate (B, strata), each its stratum's share. decoder: (B,).
        dims: D = C·H·W, the data's numbers.
        density: whether the decoder is a density on the scaled axis rather than a mass of levels.
        calls: network calls that it took, each for the whole batch. draws: how many each term was averaged over.
        standard_error: of ``total`` around its expectation over the draws, (B,); None for a single draw, which cannot tell.
        convention: what ``k_bits`` needs; there with the forward decoder only.
        eight_bit: whether the data are 8-bit levels, dequantised where this is a density; None where nobody has said.
    """

    prior: Rows64
    steps: RowTable64
    decoder: Rows64
    dims: int
    density: bool = False
    calls: int = 0
    draws: int = 1
    standard_error: Rows64 | None = None
    convention: Convention2015 | None = None
    eight_bit: bool | None = None

    @property
    def total(self) -> Rows64:
        """The bound on -log p(x0), nats, lower is better: (B,)."""
        return self.prior + self.steps.sum(1) + self.decoder

    @property
    def bits(self) -> Rows64:
        """:attr:`total` in bits per whole sample, (B,); a density is one on the scaled axis, as x0 was given."""
        return self.total / math.log(2)

    @property
    def bits_per_dim(self) -> Rows64:
        """:attr:`total` in bits/dim (B,); see :func:`bits_per_dim`. Of bits and symbols it is bits for each of them.

        Raises:
            ValueError: for a density of data that are known to be no 8-bit levels.
        """
        if self.density and self.eight_bit is False:
            raise ValueError(
                "bits/dim counts the bits of 8-bit levels, and these data have none: a density depends on the data's unit, "
                "so take .total in nats or .bits a sample"
            )
        return bits_per_dim(self.total, self.dims, density=self.density)

    @property
    def k_bits(self) -> Rows64:
        """``K = (-sum E KL + H_q(x_T|x0) - H_q(x_1|x0) - H_p(x_T)) / ln 2``: bits per sample, higher is better, (B,).

        [SD15 eq. 14]: p(x0|x_1) is set equal to the forward kernel. Averaged over data whose moments are the prior's it is
        minus :attr:`total`, since cross-entropies to the prior are then its entropy.

        Raises:
            ValueError: for a bound with another decoder.
        """
        return -(self._convention.edge + self.steps.sum(1)) / math.log(2)

    @property
    def k_minus_null_bits(self) -> Rows64:
        """``K - L_null`` with ``L_null = log pi(x0)``: bits gained over the prior, (B,) [SD15 table 1]."""
        return self.k_bits + self._convention.null / math.log(2)

    def interval(self, values: Rows | None = None, z: float = Z95) -> tuple[float, float]:
        """Mean over the samples, and half of its confidence interval from their spread: :func:`mean_interval`, nats.

        It speaks of the data that the samples were drawn from. For these very samples the draws alone are uncertain: see
        :meth:`draws_interval`.

        Args:
            values: (B,), another figure of the same samples, such as :attr:`k_bits`; by default :attr:`total`.
        """
        values = self.total if values is None else values
        return mean_interval(values, z)

    def draws_interval(self, z: float = Z95) -> tuple[float, float]:
        """Mean of :attr:`total` over the samples, and half of the interval that holds the exact expectation over the draws.

        Few draws tell little about how much draws differ, so z is stretched to the quantile of Student's t that leaves as
        much outside, its degrees of freedom by Welch and Satterthwaite: ``(draws - 1) (sum e²)² / sum e⁴``, e the samples'
        standard errors.

        Raises:
            ValueError: when each term was drawn once, which does not tell how much draws differ.
        """
        if self.standard_error is None:
            raise ValueError("one draw a term does not tell how much draws differ: take draws=2 or more")
        square = self.standard_error.square()
        freedom = float((self.draws - 1) * square.sum() ** 2 / square.square().sum().clamp(min=1e-300))
        return float(self.total.mean()), student(z, freedom) * float(square.sum().sqrt()) / len(self.total)

    @property
    def _convention(self) -> Convention2015:
        if self.convention is None:
            raise ValueError(
                "K sets p(x0|x_1) equal to the forward kernel, which this bound does not: take it from "
                'unstir.bound.variational_bound(..., decoder="forward")'
            )
        return self.convention


def bits_per_dim(nats: Numbers, dims: int, *, density: bool = False) -> Numbers:
    """``nats / (D ln 2)``; for a density on the scaled axis plus ``log2(255/2)``, the width of a level there.

    So data dequantised to the bin around its level scores exactly 8 under the uniform density on ±256/255.
    """
    bits = nats / (dims * math.log(2))
    return bits + math.log2(255 / 2) if density else bits


@torch.no_grad()
def variational_bound(
    denoiser: DenoiserBase,
    x0: Data,
    *,
    condition: Condition | None = None,
    times: Sequence[int | float] | Instants | None = None,
    draws: int = 1,
    terms: int | None = None,
    decoder: str | None = None,
    decoder_variance: DecoderVariance = "beta_1",
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bound:
    """The bound with all its terms, for the whole chain or for a chain of some of its times, whatever the process.

    Args:
        x0: (B, *E); real numbers on the scaled axis.
        times: the chain's rising times 1 <= t_1 < … < t_n = T; default all of 1 … T. The terms are those of this chain.
        draws: how many draws of x_t each term is averaged over; from two on, their spread gives a standard error.
        terms: None for all of them; a number for an unbiased estimate of the steps' sum from at most so many: the steps are
            cut into strata, short at the start where terms are large and long at the end, and each sample draws one step
            in each. Samples draw independently, so the spread of their totals holds the estimate's own error too.
        decoder: ``discretized`` for 8-bit levels (a mass), ``normal`` for other real data (a density), ``reverse`` for the
            denoiser's own p(x0 | x_1), ``forward`` for the convention of [SD15], p(x0 | x_1) equal to the forward kernel, which
            takes no network call; default the process's own.
        decoder_variance: ``beta_1`` (the variance of x at t_1), ``ho20`` (beta-tilde_2, the posterior's variance
            from t_2 to t_1), ``reverse`` (the denoiser's own rule), or a callable of the prediction at t_1.
        noise: default a source of seed 0 with indices 0 … B-1.
        progress: called with (network calls done, all).

    Raises:
        ValueError: when the data does not suit the decoder, or the times do not make a chain.
    """
    if draws < 1:
        raise ValueError(f"the bound needs at least one draw for each term, not {draws}")
    process, x0 = denoiser.process, precise(x0)
    decoder = decoder or process.decoder
    chain = _chain(times, process.T)
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    last, prior = process.marginal(x0, process.T), process.prior(x0.shape, _floating(x0), x0.device)
    on_chain = torch.tensor(chain, dtype=torch.float64, device=x0.device)
    above = chain[1] if len(chain) > 1 else None
    cut = strata(len(chain) - 1, terms)
    parts, square_errors, calls = [], [], 0
    for k, (first, size) in enumerate([(0, 1), *cut]):
        drawn = []
        for draw in range(draws):
            # Which place of the chain each sample looks at; in a stratum of one there is no choice.
            place = first + (noise.uniform((), f"bound stratum {draw}", k) * size).long()
            t = on_chain[place]
            x_t = process.marginal(x0, t).draw(noise, f"bound {draw}", place)
            if k == 0 and decoder == "forward":
                drawn.append(forward_nats(process, x_t, x0, t))
                continue
            prediction = denoiser.predict(x_t, t, condition)
            calls += 1
            if k == 0:
                drawn.append(decoder_nats(prediction, x0, decoder, decoder_variance, above))
            else:
                drawn.append(size * step_nats(prediction, x0, on_chain[place - 1]))
        values = torch.stack(drawn)
        parts.append(values.mean(0))
        square_errors.append(values.var(0) / draws if draws > 1 else torch.zeros_like(parts[0]))
        if progress:
            progress(calls, draws * (len(cut) + (decoder != "forward")))
    convention = None
    if decoder == "forward":
        first_step = process.marginal(x0, chain[0])
        edge = nats(prior.entropy()) - nats(last.entropy()) + nats(first_step.entropy())
        convention = Convention2015(edge, -nats(prior.log_prob(x0)))
    return Bound(
        prior=nats(last.kl(prior)),
        steps=torch.stack(parts[1:], 1) if cut else parts[0].new_zeros(len(x0), 0),
        decoder=parts[0],
        dims=math.prod(x0.shape[1:]),
        density=decoder != "discretized" and process.continuous,
        calls=calls,
        draws=draws,
        standard_error=torch.stack(square_errors).sum(0).sqrt() if draws > 1 else None,
        convention=convention,
    )


def _floating(x0: Tensor) -> torch.dtype:
    return x0.dtype if x0.is_floating_point() else torch.float32


def _chain(times: Sequence[int | float] | Tensor | None, T: int) -> list[float]:
    chain = list(range(1, T + 1)) if times is None else [float(t) for t in times]
    rising = all(a < b for a, b in pairwise(chain))
    if not chain or not rising or chain[0] <= 0 or chain[-1] != T:
        raise ValueError(f"the bound's times must rise from above 0 to T = {T}")
    return [float(t) for t in chain]


def strata(steps: int, terms: int | None) -> list[tuple[int, int]]:
    """The steps 1 … n cut into at most ``terms`` runs (first, size), their sizes growing geometrically."""
    if terms is None or terms >= steps:
        return [(i, 1) for i in range(1, steps + 1)]
    if terms < 1:
        raise ValueError(f"an estimate of the bound needs at least one term, not {terms}")
    edges = sorted({round((steps + 1) ** (i / terms)) for i in range(terms + 1)})
    return [(a, b - a) for a, b in pairwise(edges)]
