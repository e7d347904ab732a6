"""Samplers: walks over a grid of times, from the prior to the data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from unstir.denoisers import Condition, DenoiserBase, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.ancestral import Ancestral
from unstir.samplers.base import Sampler, State
from unstir.samplers.ddim import DDIM
from unstir.samplers.grid import Grid
from unstir.samplers.heun import Heun

__all__ = ["DDIM", "Ancestral", "Grid", "Heun", "Sampler", "State", "check_suits", "get", "sample", "walk"]

_BY_NAME: dict[str, type[Sampler]] = {"ancestral": Ancestral, "ddim": DDIM, "heun": Heun}
NAMES = tuple(_BY_NAME)


def get(name: str, **options: Any) -> Sampler:
    """A sampler by name: ``ancestral``, ``ddim`` (option eta), ``heun``."""
    if name not in _BY_NAME:
        raise ValueError(f"no sampler is called {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name](**options)


@torch.no_grad()
def walk(
    denoiser: DenoiserBase,
    sampler: Sampler,
    grid: Grid,
    shape: Sequence[int],
    *,
    seed: int = 0,
    indices: Sequence[int] | Tensor | None = None,
    condition: Condition | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[State, PredictionBase]]:
    """One sampling run, seen after every network call: the state it led to, and the prediction it was made from.

    Args:
        shape: (B, *E).
        seed, indices: which samples these are; sample i of a seed is the same alone and in any batch. Default 0 … B-1.
        condition: with leading dimension B.
        device: default the denoiser's own.

    Raises:
        ValueError: when sampler or grid do not suit the denoiser.
    """
    check_suits(denoiser, sampler, grid)
    if device is None:
        device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    indices = range(shape[0]) if indices is None else indices
    noise = NoiseSource(seed, torch.as_tensor(indices), device)
    if len(noise.indices) != shape[0]:
        raise ValueError(f"{len(noise.indices)} indices were given for a batch of {shape[0]}")
    prior = denoiser.process.prior(shape, dtype, device)
    state = sampler.start(prior.draw(noise, "prior"), grid.times)
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        prediction = denoiser.predict(x, t, condition)
        state = sampler.advance(state, prediction, noise)
        yield state, prediction


def sample(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, shape: Sequence[int], **options: Any) -> Tensor:
    """Samples of the given shape (B, *E): the end of :func:`walk`, which takes the same options."""
    # deque(maxlen=1), not unpacking: a list of all steps would hold every batch of the walk in memory.
    ((state, _),) = deque(walk(denoiser, sampler, grid, shape, **options), maxlen=1)
    return state.x


def check_suits(denoiser: DenoiserBase, sampler: Sampler, grid: Grid) -> None:
    """Whether a walk makes sense.

    Raises:
        ValueError: when the sampler moves along real numbers and the data are none, or the grid leaves out times that the
            network cannot do without.
    """
    if sampler.continuous and not denoiser.process.continuous:
        raise ValueError(
            f"{type(sampler).__name__.lower()} moves along real numbers, which this data is not: use the sampler "
            f'"{denoiser.process.sampler}"'
        )
    if denoiser.consecutive and not bool((grid.times.diff() == -1).all()):
        raise ValueError(
            f"this network speaks of the step from t to t - 1 alone: walk the whole chain, steps = {denoiser.process.T}"
        )
