"""From a configuration to what it describes: a denoiser, a data set."""

from __future__ import annotations

from collections.abc import Callable

from PIL import ImageColor

from unstir import data, processes, schedules
from unstir.data import Dataset, Split
from unstir.denoisers import Denoiser
from unstir.errors import UserError
from unstir.networks import build
from unstir.runs.config import Config, DataConfig


def denoiser_of(config: Config) -> Denoiser:
    """The untrained denoiser that a configuration describes.

    Raises:
        UserError: when its parts do not make one.
    """
    try:
        process = processes.from_description(config.process, schedules.from_description(config.schedule))
        return Denoiser(build(config.network), process, dict(config.prediction), config.variance)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"this configuration does not make a denoiser: {error}") from error


def dataset_of(config: DataConfig, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """The data that a configuration names."""
    return data.load(
        config.source,
        size=config.size or None,
        mode=None if config.mode == "auto" else config.mode,
        background=colour_of(config.background),
        strict=config.strict,
        vectors=config.vectors or None,
        progress=progress,
    )


def rms(split: Split, limit: int = 2_000) -> float:
    """Root mean square of the data on the scaled axis, from at most ``limit`` items spread over the split."""
    # Large pictures need fewer: what is read at once stays within 64 million numbers.
    limit = max(1, min(limit, (64 << 20) // split.x[0].size))
    return float(split.batch(split.spread(limit))[0].double().square().mean().sqrt())


def colour_of(name: str) -> tuple[int, int, int]:
    """Levels (red, green, blue) of a colour's name or ``#rrggbb``."""
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UserError(f"{name!r} is no colour: give a name such as white, or #rrggbb") from None
