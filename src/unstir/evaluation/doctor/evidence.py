"""What the looks share, gathered once: noised items, what is said of them, samples, yardsticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import samplers
from unstir.data import Dataset, Split
from unstir.denoisers import Condition, Denoiser, PredictionBase
from unstir.errors import UserError
from unstir.evaluation.doctor.yardsticks import Known, Level
from unstir.runs import Model, Run, load
from unstir.runs.build import denoiser_of
from unstir.runs.conditions import view_of
from unstir.runs.walks import How
from unstir.samplers import Grid

ITEMS = {"image": 96}
"""Held-out items that are noised: enough for intervals of a few hundredths of a loss, in a few seconds."""
_FEW, _SAMPLES = 512, {"image": 128}
_RAW_SAMPLES = 32
_BATCH = {"image": 64}


@dataclass(frozen=True)
class Noised:
    """Items and what the noise made of them.

    Args:
        x0: (N, *E). x_t: one such for each level. condition: all that is known of the items, as in training.
    """

    x0: Tensor
    x_t: list[Tensor]
    condition: Condition | None


class Evidence:
    """A model, its data, and what was found out about both so far.

    Args:
        model: with averaged weights where a run has them, on its device.
        run: its folder, or None for a single file.
        own: whether the data are the very ones that the model was trained on.
    """

    def __init__(self, model: Model, dataset: Dataset, run: Run | None) -> None:
        self.model, self.dataset, self.run = model, dataset, run
        self.own = dataset.spec.hash == model.spec.hash
        self.raw = None if run is None else _raw(run, model)
        self.subject = model
        """Whose answers the looks are about: the averaged weights, unless these are found to be what is wrong."""

    # --- the data -----------------------------------------------------------------------------------------------------

    @property
    def process(self) -> Any:
        return self.model.denoiser.process

    @property
    def real(self) -> bool:
        """Whether the data are real numbers, and not bits or symbols."""
        return self.process.continuous

    @property
    def kind(self) -> str:
        return self.model.spec.kind

    @property
    def batch(self) -> int:
        """How many items go through the network at a time."""
        return _BATCH.get(self.kind, _FEW)

    @property
    def channels(self) -> int:
        """Of pictures their colours, of points their coordinates."""
        return self.model.spec.shape[0]

    @cached_property
    def known(self) -> Known:
        # By the model's own scaling: what other data would be scaled by is nothing that the network knows.
        return Known.of(self.dataset.train, self.model.spec, self.process)

    @cached_property
    def levels(self) -> list[Level]:
        denoiser = self.model.denoiser
        return self.known.levels(whole=denoiser.whole_times or denoiser.consecutive)

    @property
    def high(self) -> list[int]:
        """The levels at which half of the data or more is unknown, but not all: where composition and colours are decided."""
        return [i for i, level in enumerate(self.levels) if 0.5 <= level.share <= 0.8] or [len(self.levels) - 1]

    @cached_property
    def heldout(self) -> Noised:
        return self.noised(self.dataset.heldout)

    @cached_property
    def training(self) -> Noised:
        return self.noised(self.dataset.train)

    def noised(self, split: Split, change: Callable[[Tensor], Tensor] = lambda x0: x0) -> Noised:
        """Items spread evenly over a split, at every level, with the same noise whatever the split and the change.

        Args:
            change: of x0 (N, *E), before it is noised.
        """
        index = split.spread(ITEMS.get(self.kind, _FEW))
        x0 = change(self.model.inside(np.asarray(split.x[index])))
        source = self.model.noise(0, 0, len(index))
        x_t = []
        for i, level in enumerate(self.levels):
            noise = self.process.noise(source, x0.shape[1:], "doctor", i)
            x_t.append(self.process.marginal(x0, level.t).sample(noise))
        return Noised(x0, x_t, self.condition(split, index, x0))

    def condition(self, split: Split, index: np.ndarray, x0: Tensor) -> Condition | None:
        """All that is known of these items, as training told it; x0 being them as a network sees them."""
        spec, device = self.model.spec, self.model.device
        label = torch.from_numpy(np.array(split.labels[index])) if spec.classes and split.labels is not None else None
        vector = None if split.vectors is None or spec.vectors is None else torch.from_numpy(split.vectors[index])
        view = view_of(self.model.config.condition)
        image = None if view is None else view(x0, self.model.noise_of(0, index))
        parts = {"label": label, "vector": vector, "image": image}
        made = Condition(**{k: v.to(device) for k, v in parts.items() if v is not None})
        return None if made.empty else made

    # --- what is said of noised items ---------------------------------------------------------------------------------

    @cached_property
    def errors(self) -> Tensor:
        """Losses of the subject on held-out items, (levels, N)."""
        return self.errors_of(self.subject.denoiser)

    @cached_property
    def training_errors(self) -> Tensor:
        """Losses of the subject on items that it learned from, (levels, N)."""
        return self.errors_of(self.subject.denoiser, self.training)

    @cached_property
    def raw_errors(self) -> Tensor | None:
        """Losses of the raw weights, (levels, N)."""
        return None if self.raw is None else self.errors_of(self.raw.denoiser)

    @cached_property
    def initial(self) -> Denoiser:
        """The network as it was before training: its seed is the run's."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model.config.seed)
            return denoiser_of(self.model.config).eval().to(self.model.device)

    @cached_property
    def initial_errors(self) -> Tensor:
        """Losses of the network before training, (levels, N)."""
        return self.errors_of(self.initial)

    @cached_property
    def known_errors(self) -> dict[str, Tensor]:
        """Losses of the yardsticks on held-out items, (levels, N) each."""
        given = self.heldout
        x0 = given.x0.cpu()
        rows = [self.known.errors(x_t.cpu(), x0, level) for x_t, level in zip(given.x_t, self.levels)]
        return {name: torch.stack([row[name] for row in rows]).double() for name in rows[0]}

    @cached_property
    def least_known(self) -> Tensor:
        """At each level the losses of the yardstick that is best there on average, (levels, N)."""
        stacked = torch.stack(list(self.known_errors.values()))
        best = stacked.mean(2).argmin(0)
        return torch.stack([stacked[int(k), i] for i, k in enumerate(best)])

    def errors_of(
        self,
        denoiser: Denoiser,
        given: Noised | None = None,
        *,
        at: Sequence[int] | None = None,
        told: Sequence[float] | None = None,
        **how: Any,
    ) -> Tensor:
        """Losses (levels, N) in float64: mean squares of x0's error in the level's unit, of bits and symbols nats a place.

        Args:
            given: what is denoised; by default held-out items. at: these levels alone, all by default.
            told: the times that the network is told at all levels, instead of theirs. how: see :meth:`predict`.
        """
        given = given or self.heldout
        rows = []
        for i in range(len(self.levels)) if at is None else at:
            time = None if told is None else told[i]
            parts = [self.loss(p, given.x0[part], i) for part, p in self.predict(denoiser, given, i, told=time, **how)]
            rows.append(torch.cat(parts).double().cpu())
        return torch.stack(rows)

    def loss(self, prediction: PredictionBase, x0: Tensor, level: int) -> Tensor:
        if not self.real:
            return -prediction.x0.log_prob(x0).flatten(1).mean(1)
        return prediction.distortion(x0).double().flatten(1).mean(1) / self.levels[level].unit

    @torch.no_grad()
    def predict(
        self,
        denoiser: Denoiser,
        given: Noised,
        level: int,
        *,
        told: float | None = None,
        condition: Condition | None = None,
        output: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[slice, PredictionBase]]:
        """What a denoiser says of each batch at a level: pairs (rows, prediction).

        Args:
            told: the time that the network is told, instead of the level's own, at which its answer is read all the same.
            condition: what it is told of the items, instead of all that is known; an empty one for nothing.
            output: what is done to its raw output.
        """
        known = given.condition if condition is None else condition
        for first in range(0, len(given.x0), self.batch):
            part = slice(first, first + self.batch)
            x_t = given.x_t[level][part]
            time = torch.full((len(x_t),), self.levels[level].t, dtype=torch.float64, device=x_t.device)
            rows = torch.arange(first, first + len(x_t), device=x_t.device)
            asked = None if known is None or known.empty else known.select(rows)
            raw, spread = denoiser.raw(x_t, time if told is None else torch.full_like(time, told), asked)
            yield part, denoiser.interpret(raw if output is None else output(raw), spread, x_t, time)

    # --- samples ------------------------------------------------------------------------------------------------------

    @cached_property
    def how(self) -> How:
        """How this model samples unless told otherwise."""
        return How.of(self.model)

    @cached_property
    def grid(self) -> Grid:
        """The times of :attr:`how`, as a walk takes them."""
        return self.model.walk().grid

    @cached_property
    def samples(self) -> np.ndarray:
        """Samples of the subject, as users hold them: as many of each class, or shown as much, as held-out items have it."""
        return self.drawn(self.subject, _SAMPLES.get(self.kind, _FEW))

    @cached_property
    def raw_samples(self) -> np.ndarray | None:
        """Samples of the raw weights from the same noise."""
        return None if self.raw is None else self.drawn(self.raw, _RAW_SAMPLES)

    def drawn(self, model: Model, n: int) -> np.ndarray:
        walk, split = replace(model, defaults=self.model.defaults).walk(), self.dataset.heldout
        places = split.spread(n)
        index = places[np.arange(n) % len(places)]
        parts = []
        for first in range(0, n, self.batch):
            rows = np.arange(first, min(first + self.batch, n))
            x0 = model.inside(np.asarray(split.x[index[rows]]))
            x = samplers.sample(
                walk.denoiser, walk.sampler, walk.grid, (len(rows), *model.spec.shape),
                seed=0, indices=rows.tolist(), condition=self.condition(split, index[rows], x0),
            )  # fmt: skip
            parts.append(model.outside(x))
        return np.concatenate(parts)


def _raw(run: Run, model: Model) -> Model | None:
    try:
        raw = load(run.path, weights="raw")
    except UserError:
        return None  # a finished run whose checkpoints were deleted
    raw.denoiser.to(model.device)
    return raw


def decibel(ratio: float) -> float:
    """``10 log10`` of a signal-to-noise ratio; -inf for none."""
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf
