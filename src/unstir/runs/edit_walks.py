"""What every edit of a user's data shares: its walk, its noise, its batches, and the sentences for what makes no sense."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unstir import editing
from unstir.denoisers import Around, Condition, DenoiserBase, PredictionBase
from unstir.errors import UserError
from unstir.runs.walks import How, Walk, walk_of
from unstir.samplers import Grid

if TYPE_CHECKING:
    from unstir.runs.model import Model

Progress = Callable[[int, int], None]
Work = Callable[[slice, DenoiserBase, dict[str, Any]], Tensor]
"""Rows of the batch, the denoiser to walk with, and ``seed, indices, condition``: what a walk ends in."""

_STEPS = (
    50  # of an edit of real numbers whose walk draws noise, or has to be walked back: more than plain sampling takes
)


@dataclass(frozen=True)
class Asked:
    """What every edit may be asked beside its own: see :class:`unstir.runs.edits.Edits`."""

    seed: int = 0
    label: int | str | None = None
    batch: int = 64
    progress: Progress | None = None
    how: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Asked:
        """Keyword arguments, those of :class:`unstir.runs.walks.How` under ``how``."""
        own = {name: options[name] for name in ("seed", "label", "batch", "progress") if name in options}
        return cls(**own, how={name: value for name, value in options.items() if name not in own})


@dataclass(frozen=True)
class EditBase:
    """A model, and how its walks are run over a user's items."""

    model: Model

    @property
    def continuous(self) -> bool:
        """Whether the data are real numbers."""
        return self.model.denoiser.process.continuous

    @property
    def unit(self) -> float:
        """How much of the data's own units is 1 to the network."""
        scaling = self.model.spec.scaling
        return 127.5 if self.model.spec.eight_bit else 1.0 if scaling is None else scaling.scale

    @property
    def reversible(self) -> str | None:
        """The sampler that is walked both ways unless told otherwise; bits and symbols have none, which is said on the walk."""
        return "heun" if self.continuous else None

    @property
    def _whole(self) -> bool:
        denoiser = self.model.denoiser
        return denoiser.consecutive or denoiser.whole_times

    def walk(self, asked: Asked, sampler: str | None = None) -> Walk:
        """Sampler, times and denoiser, with this edit's own sampler and number of steps where none is given."""
        model = self.model
        given = {name: value for name, value in asked.how.items() if value is not None}
        if sampler is not None:
            given = {"sampler": sampler} | given
        plain = "steps" not in given and "times" not in given
        if plain and self.continuous and not model.denoiser.consecutive and sampler is not None:
            given["steps"] = min(_STEPS, model.denoiser.process.T)
        chosen = How.of(model, **given)
        if chosen.guidance != 1 and asked.label is None:
            raise UserError("guidance needs a label to be guided to")
        return walk_of(model.denoiser, model.spec, chosen)

    def time(self, strength: float) -> float:
        """``t = strength T``; whole, where the network knows whole times alone."""
        if not 0 < strength <= 1:
            raise UserError(f"a strength is above 0, where nothing changes, and at most 1, not {strength:g}")
        t = strength * self.model.denoiser.process.T
        return max(1.0, float(round(t))) if self._whole else t

    def begun_at(self, walk: Walk, t: float) -> Grid:
        """The walk's steps, drawn together so that they begin at t; a network that knows whole times alone keeps those below."""
        if self._whole:
            return editing.below(walk.grid, t)
        return Grid(walk.grid.times * (t / float(walk.grid.times[0])))

    def hidden(self, unknown: np.ndarray, count: int) -> Tensor:
        """Where items are unknown, bool (1 or N, 1, H, W) or (1 or N, D)."""
        spec, mask = self.model.spec, np.asarray(unknown)
        event = spec.shape[1:] if spec.kind == "image" else spec.shape
        if mask.dtype != np.bool_ or mask.shape not in ((*event,), (1, *event), (count, *event)):
            shape = ", ".join(map(str, event))
            raise UserError(f"a mask is bool of shape ({shape}) or (N, {shape}), not {mask.dtype} {mask.shape}")
        if not mask.any():
            raise UserError("the mask hides nothing: in a mask white is unknown")
        mask = mask.reshape(-1, *event)
        return torch.from_numpy(mask[:, None] if spec.kind == "image" else mask).to(self.model.device)

    def drawn(
        self,
        work: Work,
        count: int,
        walk: Walk,
        calls: int,
        asked: Asked,
        indices: Sequence[int] | None = None,
        outside: Callable[[Tensor], np.ndarray] | None = None,
    ) -> np.ndarray:
        """``work`` over all rows, a batch at a time, each with its own noise and condition."""
        seed, label, batch, progress = asked.seed, asked.label, asked.batch, asked.progress
        if count < 1 or batch < 1:
            raise UserError("there must be at least one item to edit, and at least one at a time")
        chosen = list(range(count)) if indices is None else list(indices)
        self.model.noise(seed, chosen[0], 1)  # refuses a seed that is none
        self.model.denoiser.eval()
        done, batches = 0, -(-count // batch)

        def called() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, calls * batches) if calls else done, calls * batches)

        parts = []
        for first in range(0, count, batch):
            rows = slice(first, min(first + batch, count))
            keys = {
                "seed": seed,
                "indices": chosen[rows],
                "condition": self.model.condition(label, chosen[rows]),
            }
            with refusing():
                parts.append((outside or self.model.outside)(work(rows, Watched(walk.denoiser, called), keys)))
        if progress and calls:
            progress(calls * batches, calls * batches)
        return np.concatenate(parts)


class Watched(Around):
    """A denoiser that tells of every call."""

    def __init__(self, denoiser: DenoiserBase, called: Callable[[], None]) -> None:
        super().__init__(denoiser)
        self.called = called

    def predict(self, x_t: Tensor, t: Any, condition: Condition | None = None) -> PredictionBase:
        said = self.denoiser.predict(x_t, t, condition)
        self.called()
        return said


@contextmanager
def refusing() -> Iterator[None]:
    """What the mathematics refuses is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


def calls_of(walk: Walk, grid: Grid | None = None) -> int:
    """Network calls of a walk; 0 where only the walk itself shows it."""
    return walk.sampler.calls((grid or walk.grid).steps) or 0


def weights_of(weights: Sequence[float] | int) -> list[float]:
    if isinstance(weights, int):
        if weights < 2:
            raise UserError(f"a path has two ends at least, not {weights} places")
        return np.linspace(0, 1, weights).tolist()
    given = [float(w) for w in weights]
    if not given or not np.isfinite(given).all():
        raise UserError("the places on a path are numbers, 0 at one end and 1 at the other")
    return given


def share_of(progress: Progress | None, number: int, groups: int) -> Progress | None:
    """Progress of one of several equal parts."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, groups * total)


def plain(x: Tensor) -> np.ndarray:
    """As the network sees it, float32."""
    return x.detach().float().cpu().numpy()
