"""Guidance as it is asked for: what a model can be guided to, or away from."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from unstir import networks
from unstir.data import DataSpec
from unstir.denoisers import Autoguided, Denoiser, DenoiserBase, Guided
from unstir.errors import UserError

if TYPE_CHECKING:
    from unstir.runs.model import Model
    from unstir.runs.walks import How


def guided(denoiser: Denoiser, spec: DataSpec, how: How) -> DenoiserBase:
    """The denoiser under the guidance that was asked for.

    Raises:
        UserError: for guidance that is no number or cannot act, and where the model has nothing to be guided to.
    """
    if not math.isfinite(how.guidance):
        raise UserError(f"guidance is a number, not {how.guidance}")
    if not 0 <= how.rescale <= 1:
        raise UserError(f"rescale is a share from 0 to 1, not {how.rescale:g}")
    interval = how.guidance_interval
    if interval is not None and not (len(interval) == 2 and 0 <= interval[0] < interval[1] < math.inf):
        raise UserError(
            "a guidance interval is two rising noise levels sigma/alpha, such as 0.3,5: not "
            f"{','.join(f'{level:g}' for level in interval)}"
        )
    if how.guidance == 1:
        idle = {"autoguidance": how.autoguidance, "a guidance interval": interval, "rescale": how.rescale}
        for name, value in idle.items():
            if value:
                raise UserError(f"{name} changes nothing at guidance 1, the plain model: give a guidance such as 2")
        return denoiser
    if how.rescale and not denoiser.process.continuous:
        raise UserError(f"rescale keeps the spread of real numbers, and this data is {spec.kind}: leave it out")
    options = {"interval": interval, "rescale": how.rescale}
    if how.autoguidance is None:
        if not networks.takes(denoiser.network):
            raise UserError("guidance needs classes or other conditions, and this model was trained without any")
        return Guided(denoiser, how.guidance, **options)
    weak = weaker(how.autoguidance)
    if weak.spec.shape != spec.shape or weak.spec.classes != spec.classes:
        raise UserError(f"{how.autoguidance} was trained on other data than this model, so it cannot guide it")
    device = next(denoiser.parameters()).device
    try:
        return Autoguided(denoiser, weak.denoiser.to(device), how.guidance, **options)
    except ValueError as error:
        raise UserError(f"{how.autoguidance}: {error}") from None


def interval_of(text: str | None) -> tuple[float, ...] | None:
    """The two noise levels of a guidance interval as it is typed, such as ``0.3,5``.

    Raises:
        UserError: for what is not two numbers.
    """
    try:
        levels = None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if levels is not None and len(levels) != 2:
        raise UserError(f"a guidance interval is two rising noise levels sigma/alpha, such as 0.3,5: not {text!r}")
    return levels


def weaker(path: str) -> Model:
    """The model to be guided away from, kept from batch to batch."""
    return _loaded(path, _changed(path))


@lru_cache(maxsize=1)
def _loaded(path: str, changed: float) -> Model:
    # Another time of change is another model.
    from unstir.runs.model import load  # which itself imports how samples are drawn

    return load(path)


def _changed(path: str) -> float:
    place = Path(path)
    files = [place, place / "model.safetensors", place / "checkpoints"]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
