"""A walk: one denoiser asked by one sampler, from the first time of a grid to its last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import torch

from unstir.denoisers import Condition, DenoiserBase, PredictionBase
from unstir.noise import NoiseSource
from unstir.processes import Categorical
from unstir.samplers.base import Sampler, State
from unstir.samplers.grid import Grid
from unstir.shapes import Anything, Data


class Edit(Protocol):
    """What :mod:`unstir.editing` lays around a denoiser for one walk.

    Attributes:
        stepwise: whether it changes the steps p(x_s | x_t) themselves, so that only a sampler that draws from them sees it.
    """

    stepwise: ClassVar[bool]

    def __call__(self, denoiser: DenoiserBase) -> DenoiserBase: ...


@torch.no_grad()
def walk(
    denoiser: DenoiserBase,
    sampler: Sampler,
    grid: Grid,
    shape: Sequence[int],
    *,
    seed: int = 0,
    indices: Sequence[int] | Anything | None = None,
    condition: Condition | None = None,
    edits: Sequence[Edit] = (),
    start: Anything | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[State, PredictionBase]]:
    """One sampling run, seen after every network call: the state it led to, and the prediction it was made from.

    Args:
        shape: (B, *E).
        seed, indices: which samples these are; sample i of a seed is the same alone and in any batch. Default 0 … B-1.
        condition: with leading dimension B.
        edits: what is multiplied in on the way, from :mod:`unstir.editing`.
        start: x at the grid's first time, (B, *E), instead of a draw from the prior.
        device: default the denoiser's own.

    Raises:
        ValueError: when sampler, grid or edits do not suit the denoiser or each other.
    """
    check_suits(denoiser, sampler, grid)
    if sampler.continuous and any(edit.stepwise for edit in edits):
        raise ValueError(
            "this sampler does not draw from the steps p(x_s | x_t) that this edit changes: use the sampler "
            '"ancestral", or an edit of what is said of x0, such as Observe'
        )
    if device is None:
        device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    indices = range(shape[0]) if indices is None else indices
    noise = NoiseSource(seed, torch.as_tensor(indices), device)
    if len(noise.indices) != shape[0]:
        raise ValueError(f"{len(noise.indices)} indices were given for a batch of {shape[0]}")
    if start is None:
        x = denoiser.process.prior(shape, dtype, device).draw(noise, "prior")
    elif tuple(start.shape) != tuple(shape):
        raise ValueError(f"the walk is of shape {tuple(shape)}, and its start of {tuple(start.shape)}")
    else:
        x = start.to(device, dtype) if start.is_floating_point() else start.to(device)
    for edit in edits:
        denoiser = edit(denoiser)
    state = sampler.start(x, grid.times)
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        prediction = denoiser.predict(x, t, condition)
        state = sampler.advance(state, prediction, noise)
        yield state, prediction


def sample(denoiser: DenoiserBase, sampler: Sampler, grid: Grid, shape: Sequence[int], **options: Any) -> Data:
    """Samples of the given shape (B, *E): the end of :func:`walk`, which takes the same options."""
    # deque(maxlen=1), not unpacking: a list of all steps would hold every batch of the walk in memory.
    ((state, _),) = deque(walk(denoiser, sampler, grid, shape, **options), maxlen=1)
    return state.x


def check_suits(denoiser: DenoiserBase, sampler: Sampler, grid: Grid) -> None:
    """Whether a walk makes sense.

    Raises:
        ValueError: when the sampler moves along real numbers and the data are none, or the grid leaves out times that the
            network cannot do without, or the sampler asks about times that it does not know.
    """
    if sampler.continuous and not denoiser.process.continuous:
        raise ValueError(
            "this sampler moves along real numbers, which this data is not: use the sampler "
            f'"{denoiser.process.sampler}"'
        )
    if sampler.symbols and not isinstance(denoiser.process, Categorical):
        raise ValueError(
            f'this sampler jumps between symbols, and this data has none: use the sampler "{denoiser.process.sampler}"'
        )
    if not float(grid.times[0]) <= denoiser.process.T:
        raise ValueError(
            f"the walk begins at time {float(grid.times[0]):g}, and this chain ends at T = {denoiser.process.T}: make the grid "
            "from the denoiser's own schedule"
        )
    if denoiser.whole_times and sampler.between:
        raise ValueError(
            "this network knows whole times alone, and this sampler asks between the steps' times: use ddim or ancestral"
        )
    if denoiser.consecutive and not bool((grid.times.diff() == -1).all()):
        raise ValueError(
            f"this network speaks of the step from t to t - 1 alone: walk the whole chain, steps = {denoiser.process.T}"
        )
