"""Walks that go back: RePaint's resampling, which lets what is painted and what is known come to agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from unstir.denoisers import Condition, DenoiserBase, PredictionBase
from unstir.editing.steps import Renoise
from unstir.noise import NoiseSource
from unstir.samplers import DDIM, Ancestral, Euler, Grid, Heun, Sampler, State, check_suits
from unstir.shapes import Data, Elements, Meets


def moves(grid: Grid, jump: int, resamplings: int) -> list[float]:
    """The times that are visited, in order: down the grid, with jumps back up (Lugmayr et al. 2022, alg. 1 and App. B).

    From the last place above 0, and from every ``jump`` places before it, the walk goes ``jump`` places back up and down again,
    ``resamplings - 1`` times. With ``jump`` 1 that is algorithm 1: each step is made ``resamplings`` times, save the last, after
    which nothing would be left of a further draw.

    Args:
        jump: j, in places of the grid. resamplings: r, how often each stretch is walked in all.

    Raises:
        ValueError: for numbers below 1.
    """
    if jump < 1 or resamplings < 1:
        raise ValueError(f"jumps and resamplings are whole numbers from 1 on, not {jump} and {resamplings}")
    times, visited = grid.times.tolist(), [0]
    for place in range(1, len(times)):
        visited.append(place)
        left = len(times) - 2 - place
        if left >= 0 and left % jump == 0 and place >= jump:
            visited += [*range(place - jump, place + 1)] * (resamplings - 1)
    return [times[place] for place in visited]


@torch.no_grad()
def rewalk(
    denoiser: DenoiserBase,
    sampler: Sampler,
    times: Sequence[float],
    x: Data,
    noise: NoiseSource,
    condition: Condition | None = None,
) -> Iterator[tuple[State, PredictionBase]]:
    """A walk along times that may also rise, seen after every network call.

    A fall from t to s is the sampler's step. A rise from s to t is the forward chain's own, ``x_t ~ q(x_t | x_s) = N(a x_s, s2)``
    with ``a = alpha_t/alpha_s`` and ``s2 = sigma_t² - a² sigma_s²``: variances add up to sigma_t², deviations would not. Noise is
    keyed by the number of the move, so a time that is visited twice draws twice.

    Args:
        times: the first is x's own. x: (B, *E). noise: with the rows' sample indices.

    Raises:
        ValueError: as :func:`unstir.samplers.walk`.
    """
    if not isinstance(sampler, Ancestral | DDIM | Euler | Heun):
        raise ValueError("a walk that rises takes a sampler that does not look back: ancestral, ddim, euler or heun")
    there = torch.tensor(list(times), dtype=torch.float64)
    check_suits(denoiser, sampler, Grid(there.unique().flip(0)))
    state = sampler.start(x, there)
    while not bool(state.done.all()):
        s, t = state.time(), state.time(1)
        if bool((t > s).all()):
            up = denoiser.process.step(state.x, s, t).draw(noise, "renoise", state.position)
            state = replace(sampler.start(up, there), position=state.position + 1)
            continue
        x_t, t = sampler.query(state)
        prediction = denoiser.predict(x_t, t, condition)
        state = sampler.advance(state, prediction, noise)
        yield state, prediction


def repaint(
    denoiser: DenoiserBase,
    x0: Elements,
    known: Meets,
    grid: Grid,
    *,
    jump: int = 10,
    resamplings: int = 10,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    condition: Condition | None = None,
) -> Elements:
    """A draw of what is not known, with the known part renoised at every step and every stretch of the walk gone over ``r`` times.

    At s the known part is a fresh draw of ``q(x_s | x0)``, of variance sigma_s², and at 0 it is x0 itself (eq. 8); only what is
    drawn beside it remembers. One pass leaves the two at odds, since the model steps before it sees the new known part; going over
    a stretch again lets each hear of the other. Both numbers at 10 are the paper's own, for 250 steps.

    Args:
        x0: (B, *E), holding anything where it is not known. known: bool, broadcasting against x0.
        grid: the times to visit. jump, resamplings: see :func:`moves`.
        seed, indices: which samples these are. condition: with leading dimension B.

    Returns:
        x0, (B, *E).

    Raises:
        ValueError: for a mask that is not bool, and numbers below 1.
    """
    if known.dtype != torch.bool:
        raise ValueError(f"the mask of known values is bool, not {known.dtype}")
    noise = NoiseSource(seed, range(len(x0)) if indices is None else indices, x0.device)
    dtype = x0.dtype if x0.is_floating_point() else torch.float32
    x = denoiser.process.prior(tuple(x0.shape), dtype, x0.device).draw(noise, "prior")
    renoised = Renoise(x0, known)(denoiser)
    for state, _ in rewalk(renoised, Ancestral(), moves(grid, jump, resamplings), x, noise, condition):
        x = state.x
    return x
