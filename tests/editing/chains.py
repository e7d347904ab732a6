"""What an edited chain ends in, exactly: by its units of noise where it is affine, by all its states where they are few."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.denoisers import DenoiserBase
from unstir.noise import NoiseSource
from unstir.samplers import Grid, Sampler

F64 = torch.float64


class Units(NoiseSource):
    """Row 0 draws nothing; the next D begin at a unit vector; then a row for each step and element, with a unit of noise there."""

    def __init__(self, steps: int, dims: int) -> None:
        super().__init__(0, range(1 + dims + steps * dims))
        self.dims = dims

    def normal(
        self, shape: Sequence[int], purpose: str, step: int | Tensor = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        out = torch.zeros(len(self.indices), self.dims, dtype=dtype)
        first = 1 + self.dims * (1 + int(torch.as_tensor(step).flatten()[0]))
        out[first : first + self.dims] = torch.eye(self.dims, dtype=dtype)
        return out


def moments(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, dims: int, until: int | None = None) -> list[Tensor]:
    """Mean (D,) and covariance (D, D) of x after so many steps of an affine chain begun at N(0, I), default all."""
    noise = Units(grid.steps, dims)
    start = torch.zeros(len(noise.indices), dims, dtype=F64)
    start[1 : 1 + dims] = torch.eye(dims, dtype=F64)
    state = sampler.start(start, grid.times)
    with torch.no_grad():
        for _ in range(grid.steps if until is None else until):
            state = sampler.advance(state, denoiser.predict(*sampler.query(state)), noise)
    moved = state.x[1:] - state.x[0]
    return [state.x[0], moved.T @ moved]


def states(values: int, dims: int) -> np.ndarray:
    """All joint values of D elements, (values^D, D)."""
    return np.array(list(itertools.product(range(values), repeat=dims)))


def ending(denoiser: DenoiserBase, times: Sequence[float], joint: Tensor, prior: np.ndarray) -> np.ndarray:
    """The probabilities of all joint values at the end of a discrete chain, by one matrix after the other.

    Args:
        times: falling. joint: all joint values of x_t, (N, D), in the data's dtype. prior: their probabilities at the first time.
    """
    p = torch.tensor(prior, dtype=F64)
    for t, s in itertools.pairwise(times):
        here = joint[p > 0]  # of states that the chain cannot be in nothing need be known
        step: Any = denoiser.predict(here, t).reverse(torch.full((len(here),), s, dtype=F64))
        # [from, to]: the elements are drawn independently of each other
        columns = [step.log_prob(x.expand_as(here)).sum(-1).exp() for x in joint]
        p = p[p > 0] @ torch.stack(columns, 1)
    return p.numpy()


def normal_posterior(mean: Tensor, covariance: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of N(mean, covariance) after y = x + N(0, diag v); an infinite v is no observation, 0 a value."""
    seen = torch.isfinite(v)
    cross = covariance[:, seen]
    gain = cross @ torch.linalg.inv(covariance[seen][:, seen] + torch.diag(v[seen]))
    return mean + gain @ (y - mean)[seen], covariance - gain @ cross.T
