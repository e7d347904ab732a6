"""The two processes as they go: data turning into noise, and noise into data, as pictures, clouds or rows of colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from unstir.data import Split, contact_sheet
from unstir.evaluation.report import beside
from unstir.evaluation.report.markup import Section, embedded, figure, line
from unstir.runs import Model, Run, films
from unstir.runs.walks import How

_NARROW = 100  # sequences up to this length stand in a row of frames, longer ones beneath each other
_GAP = 8  # pixels between frames
_BLOCK, _WIDE = 96, 720  # pixels that a frame fills: down and, in a row, across; and those beneath each other across


@dataclass(frozen=True)
class _Look:
    """How many items are shown, and at how many times."""

    rows: int
    frames: int


LOOKS = {"image": _Look(4, 11), "points": _Look(400, 6), "bits": _Look(12, 7), "symbols": _Look(12, 7)}

Frames = tuple[list[float], list[np.ndarray]]
"""Times, and x at each of them, (N, …) as users hold it."""


def sections(run: Run, model: Model, heldout: Split) -> list[Section]:
    """Stirring and unstirring."""
    look, again = LOOKS[model.spec.kind], line("report", run)
    rows = min(look.rows, len(heldout))
    what = {"image": "pictures", "points": "points"}.get(model.spec.kind, "sequences")
    forward = forward_frames(model, heldout, rows, look.frames)
    walked, predicted = reverse_frames(model, look.rows, None, look.frames)
    seen = forward[1][0]
    stirring = figure(
        drawing(model, forward, seen, f"held-out {what} turning into noise"),
        f"Held-out {what} from t = 0 to T: {_FORWARD[model.denoiser.process.continuous]}",
        again,
    )
    how = How.of(model, sampler=model.denoiser.process.sampler).walked
    unstirring = figure(
        drawing(model, walked, seen, f"noise turning into {what}"),
        f"Samples 0 to {look.rows - 1} of seed 0 from noise to data ({how}).",
    ) + figure(
        drawing(model, predicted, seen, f"predicted clean {what}"),
        f"The clean {what} that the network predicts on the way.",
        again,
    )
    return [
        Section("The forward process: stirring", stirring),
        Section("The reverse process: unstirring", unstirring),
    ]


_FORWARD = {
    True: "x<sub>t</sub> = α<sub>t</sub> x<sub>0</sub> + σ<sub>t</sub> ε, with the same ε all along.",
    False: "each value is replaced by chance, ever more often.",
}


def forward_frames(model: Model, split: Split, rows: int, frames: int, seed: int = 0) -> Frames:
    """The first ``rows`` items of a split at evenly spaced times from 0 to T, with the same noise all along."""
    times = torch.linspace(0, model.denoiser.process.T, frames).tolist()
    walked = films.forward(model, np.asarray(split.x[:rows]), times, seed=seed, ask=False)
    return times, [x for _, x, _ in walked]


def reverse_frames(
    model: Model, rows: int, steps: int | None, frames: int, seed: int = 0, sampler: str | None = None
) -> tuple[Frames, Frames]:
    """Samples on their way from noise: x_t, and the x0 that was predicted on the way, at evenly spaced steps.

    Args:
        sampler: by default the process's plain one, whose steps are even in time: most of them show something.
    """
    walk = list(model.film(rows, steps=steps, seed=seed, sampler=sampler or model.denoiser.process.sampler))
    places = np.linspace(0, len(walk) - 1, min(frames, len(walk))).round().astype(int)
    times = [walk[i][0] for i in places]
    return (times, [walk[i][1] for i in places]), (times, [walk[i][2] for i in places])


def forward_film(model: Model, split: Split, rows: int = 4, frames: int = 11, seed: int = 0) -> Image.Image:
    """Each row one held-out picture on its way to noise: x_t at evenly spaced t, the same noise all along the row."""
    return _strip(model, forward_frames(model, split, rows, frames, seed)[1])


def reverse_film(
    model: Model, rows: int = 4, steps: int = 20, frames: int = 11, seed: int = 0
) -> tuple[Image.Image, Image.Image]:
    """Each row one sample on its way from noise: x_t, and the x0 that was predicted from it."""
    (_, walked), (_, predicted) = reverse_frames(model, rows, steps, frames, seed)
    return _strip(model, walked), _strip(model, predicted)


def drawing(model: Model, frames: Frames, real: np.ndarray, alt: str) -> str:
    """Frames as HTML: a sheet of pictures, a cloud for each time, or blocks of coloured rows.

    Args:
        real: points that a cloud's window is laid around.
    """
    times, seen = frames
    if model.spec.kind == "image":
        return embedded(_strip(model, seen), alt)
    if model.spec.kind == "points":
        view = beside.window(real)
        clouds = (
            f"<div>{beside.small_cloud(x, view, f'{alt}, t = {t:.4g}')}<span>t = {t:,.4g}</span></div>"
            for t, x in zip(times, seen)
        )
        return f'<div class="film">{"".join(clouds)}</div>'
    return embedded(_blocks(seen, model.spec.symbols), alt) + f'<p class="legend">{beside.key(model.spec.symbols)}</p>'


def _strip(model: Model, frames: Sequence[np.ndarray]) -> Image.Image:
    """Frames (N, H, W, C) from left to right, one row for each of the N."""
    rows = np.stack([model.spec.levels(x) for x in frames], axis=1)
    return contact_sheet(rows.reshape(-1, *rows.shape[2:]), columns=len(frames))


def _blocks(frames: Sequence[np.ndarray], symbols: int | None) -> Image.Image:
    """Each frame (N, D) a block of rows: side by side, or beneath each other where the rows are long."""
    side = int(frames[0].shape[1] <= _NARROW)
    across = _BLOCK if side else _WIDE
    blocks = [np.asarray(beside.raster(x, symbols, across=across, down=_BLOCK).convert("RGBA")) for x in frames]
    gap = [(0, 0), (0, 0), (0, 0)]
    gap[side] = (0, _GAP)  # of zeros: transparent
    return Image.fromarray(np.concatenate([np.pad(block, gap) for block in blocks], axis=side))
