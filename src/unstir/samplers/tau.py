"""Tau-leaping for symbols: many elements jump in one step, as often as a Poisson count says (Campbell et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from unstir.denoisers import PredictionBase
from unstir.denoisers.discrete import DiscretePrediction
from unstir.distributions import Categorical as Symbol
from unstir.noise import NoiseSource
from unstir.processes import Categorical
from unstir.samplers.base import Sampler, State, per_row, source
from unstir.shapes import Data, Logits, Rows64

_MOST = 1000  # jumps of one kind in a step; a mean that makes more likely is no step to take


class TauLeaping(Sampler):
    """Jumps to k in Poisson numbers of mean ``L p(x0 = k) + pi_k (D - G p(x0 = x_t))``, for each k other than x_t.

    The chain that keeps a value with probability ``alpha_bar_t / alpha_bar_s`` and else draws it from pi is, between any two
    times, the one that jumps to a draw from pi at the rate ``-d log alpha_bar/dt``. Its reverse jumps from x to k at the rate
    ``-d log alpha_bar/dt · pi_x sum_x0 p(x0 | x_t) q(k | x0) / q(x | x0)`` in each element on its own (Campbell et al. 2022, Props. 1
    and 3). x_t and p(x0 | x_t) are held for the step from t to s, and the integral over alpha_bar, a, is taken exactly:

        ``D = log(a_s / a_t)``,  ``L = log((1 - a_t) / (1 - a_s))``,
        ``G = log((pi_x + (1 - pi_x) a_s) / (pi_x + (1 - pi_x) a_t)) / (1 - pi_x)``

    so that no clock has to be chosen, along which the rates would be held. Weak order 1. In an absorbing chain a mask jumps with
    means ``L p(x0 = k)`` and what is unmasked stays. Where the rates have no bound, at s = 0 and in the uniform chain at
    alpha_bar_t = 0, the step is drawn from p(x_s | x_t) itself.

    Args:
        ordered: as in the paper, for classes that are levels: jumps add up as distances, and the sum is clamped to 0 … K-1.
            Otherwise an element that would jump more than once, which has no meaning then, stays where it is.

    Raises:
        ValueError: for other data than symbols, and for ``ordered`` with a mask, which has no place among levels.
    """

    stochastic = True
    continuous = False
    symbols = True
    reference = "Campbell et al. 2022, tau-leaping"

    def __init__(self, ordered: bool = False) -> None:
        self.ordered = ordered

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> Data:
        s, x, noise = state.time(1), state.x, source(noise)
        means = self.means(prediction, s)
        exact = ~torch.isfinite(means).flatten(1).all(1)
        if bool(exact.any()):
            drawn = prediction.reverse(s).draw(noise, "step", state.position)
            means = torch.where(exact.reshape(-1, *(1,) * x.ndim), 0.0, means)
        else:
            drawn = x
        leapt = (self._levels if self.ordered else self._symbols)(x, means, noise, state)
        return torch.where(per_row(exact, x).bool(), drawn, leapt)

    def means(self, prediction: PredictionBase, s: Rows64) -> Logits:
        """The mean number of jumps to each state in the step from t to s: float64 (B, *E, S), 0 at x_t itself; inf without bound."""
        process, x = prediction.process, prediction.x_t
        if not isinstance(process, Categorical) or not isinstance(prediction, DiscretePrediction):
            raise ValueError("tau-leaping jumps between symbols, and this data has none: use another sampler")
        if self.ordered and process.kind == "absorbing":
            raise ValueError("a mask has no place among levels: ordered tau-leaping needs the uniform chain")
        pi = process.prior((1,), torch.float64, x.device).probs[0]
        here = x[..., None] == torch.arange(process.states, device=x.device)
        # What pi cannot lead to was never changed: there x0 is x_t, whatever is said of it.
        p = torch.where(pi[x][..., None] > 0, prediction.x0.logits.double().softmax(-1), here.double())
        log_s, log_t = (process.schedule.log_alpha_bar(process.column(time, x)) for time in (s, prediction.t))
        kept_s, kept_t = log_s.exp(), log_t.exp()
        other = 1 - pi[x]
        G = ((pi[x] + other * kept_s) / (pi[x] + other * kept_t)).log() / torch.where(other > 0, other, 1.0)
        fresh = (log_s - log_t) - G * (p * here).sum(-1)
        from_data = torch.expm1(log_t).neg().log() - torch.expm1(log_s).neg().log()
        drawn = torch.where(pi > 0, pi * fresh[..., None].clamp(min=0), 0.0)
        told = torch.where(p > 0, p * from_data[..., None], 0.0)
        return torch.where(here, 0.0, told + drawn)

    @staticmethod
    def _symbols(x: Tensor, means: Tensor, noise: NoiseSource, state: State) -> Tensor:
        """One jump at most: to each state as often as its mean says."""
        total, u = means.sum(-1), noise.uniform(x.shape[1:], "step", state.position)
        none = (-total).exp()
        once = (u > none) & (u <= none * (1 + total))
        # Where nothing can jump, any law will do.
        target = Symbol(torch.where(total[..., None] > 0, means.log(), 0.0)).draw(noise, "leap", state.position)
        return torch.where(once, target, x)

    @staticmethod
    def _levels(x: Tensor, means: Tensor, noise: NoiseSource, state: State) -> Tensor:
        """All jumps together, as distances."""
        u, levels = (
            noise.uniform(means.shape[1:], "step", state.position),
            torch.arange(means.shape[-1], device=x.device),
        )
        mass = (-means).exp()
        passed, counts = mass.clone(), torch.zeros_like(means)
        for n in range(1, _MOST + 1):
            more = u > passed
            if not bool(more.any()):
                break
            counts += more
            mass = mass * means / n
            passed = passed + mass
        moved = (counts * (levels - x[..., None])).sum(-1).long()
        return (x + moved).clamp(0, means.shape[-1] - 1)
