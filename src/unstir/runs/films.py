"""The two processes as they go, each time beside what the network then takes the clean data for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from unstir.data import contact_sheet
from unstir.runs.model import Model

Frame = tuple[float, np.ndarray, np.ndarray | None]
"""A time, x there, and the clean data predicted from it (None where nobody was asked), each (N, …) as users hold it."""


def forward(
    model: Model, data: np.ndarray, times: Sequence[float], *, seed: int = 0, ask: bool = True
) -> Iterator[Frame]:
    """``x_t ~ q(x_t | x0)`` of data at each of these times, with the same noise all along.

    Args:
        data: as :meth:`unstir.Model.sample` gives it. ask: whether to predict the clean data too, at times above 0.
    """
    x0, process = model.inside(data), model.denoiser.process
    noise = process.noise(model.noise(seed, 0, len(x0)), model.spec.shape, "forward film")
    for t in times:
        x_t = process.marginal(x0, t).sample(noise)
        guess = x0
        if ask and t > 0:
            with torch.no_grad():
                guess = model.bounded.predict(x_t, t).likeliest
        yield t, model.outside(x_t), model.outside(guess) if ask else None


def strip(model: Model, frames: Sequence[Frame]) -> Image.Image:
    """Frames from left to right; for each item a row of x_t and, beneath it, a row of the predicted x0."""
    rows = []
    for i in range(len(frames[0][1])):
        for part in (1, 2):
            rows += [model.spec.levels(frame[part])[i] for frame in frames]  # pyright: ignore[reportArgumentType]
    return contact_sheet(np.stack(rows), columns=len(frames))


def moving(model: Model, frames: Sequence[Frame]) -> list[Image.Image]:
    """One picture for each frame: items from left to right, x_t above, the predicted x0 beneath."""
    shown = []
    for _, x, x0 in frames:
        both = np.concatenate([model.spec.levels(part) for part in (x, x0)])  # pyright: ignore[reportArgumentType]
        shown.append(contact_sheet(both, columns=len(x)))
    return shown
