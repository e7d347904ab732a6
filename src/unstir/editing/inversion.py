"""Deterministic encoding: from data to the noise that a deterministic solver would make them from, and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from unstir.denoisers import Condition, DenoiserBase, Prediction
from unstir.samplers import DDIM, Euler, Grid, Heun, Sampler, check_suits
from unstir.samplers.base import per_row
from unstir.shapes import Reals


@torch.no_grad()
def encoding(
    denoiser: DenoiserBase,
    x0: Reals,
    grid: Grid,
    *,
    sampler: Sampler | None = None,
    condition: Condition | None = None,
) -> Iterator[tuple[float, Reals]]:
    """``x_s -> x_t`` along the probability-flow ODE, upwards over the grid's times: each time above 0, and x there.

    A deterministic solver does not ask which way it goes, so it is the sampler itself that walks the same pairs the other way; each
    step asks about the x and the time it stands at, never about a neighbour's (DDIM's inversion, Song, Meng & Ermon 2021, §4.3).

    **The first step.** At t = 0 there is no noise, and no network was taught to say which it was. In ``y = x/alpha`` and
    ``n = sigma/alpha`` the ODE is ``dy/dn = (y - x0_hat)/n = -n grad log q``: at n = 0 its slope is 0 wherever the data have a
    density. So the first time above 0, t_1, is reached by

    - solvers of order 1: ``x = alpha_1 x0``, Euler's rule with that slope;
    - others: ``x = alpha_1 (x0 + (x0 - x0_hat)/2)`` with x0_hat said of ``alpha_1 x0`` at t_1, the trapezoidal rule between the
      slope 0 and the slope there.

    Both err by as many powers of n_1 as the solver's other steps do. Data without a density (a set of points, pictures with one
    and the same background) have no such slope; there the first step is as good as t_1 is near 0.

    Args:
        x0: (B, *E). grid: falling times down to 0, the same that decoding takes.
        sampler: DDIM without noise (the default), Euler or Heun.
        condition: with leading dimension B.

    Raises:
        ValueError: for another sampler, data that are no real numbers, and a grid that does not end at 0.
    """
    sampler = DDIM() if sampler is None else sampler
    check_suits(denoiser, sampler, grid)
    if sampler.stochastic:
        raise ValueError("a sampler that draws noise cannot be walked back: encode by ddim or heun")
    if not isinstance(sampler, DDIM | Euler | Heun):
        raise ValueError(
            "only solvers that look neither ahead nor back can be walked up: encode by ddim, euler or heun"
        )
    if float(grid.times[-1]) != 0:
        raise ValueError(f"data stand at time 0, and this grid ends at {float(grid.times[-1]):g}")
    rising = grid.times.flip(0)[1:]
    first = rising[:1].expand(len(x0)).to(x0.device)
    y, schedule = x0, denoiser.process.schedule
    alpha = per_row(schedule.alpha(first), x0)
    if sampler.order > 1:
        guess = denoiser.predict(alpha * x0, first, condition)
        assert isinstance(guess, Prediction)
        y = x0 + (x0 - guess.x0) / 2
    x = alpha * y
    yield float(rising[0]), x
    if len(rising) < 2:
        return
    state = sampler.start(x, rising)
    while not bool(state.done.all()):
        before = int(state.position[0])
        x_t, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x_t, t, condition))
        if int(state.position[0]) > before:
            yield float(state.time()[0]), state.x


@torch.no_grad()
def invert(denoiser: DenoiserBase, x0: Reals, grid: Grid, **options: Any) -> Reals:
    """The noise x_T that a deterministic sampler makes x0 of, (B, *E): the end of :func:`encoding`, which takes the same options.

    Decoding it over the same grid gives x0 back up to an error that falls with the number of steps, at the solver's order.
    """
    ((_, x),) = deque(encoding(denoiser, x0, grid, **options), maxlen=1)
    return x
