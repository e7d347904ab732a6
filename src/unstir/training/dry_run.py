"""What a training would take, measured before it begins: parameters, memory, speed, hours. Nothing is written."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.errors import UserError
from unstir.runs.config import Config
from unstir.runs.model import Model
from unstir.training import engine as engines
from unstir.training.choosing import chosen
from unstir.training.engine import Engine
from unstir.training.loop import Trainer
from unstir.training.opening import initialised, rehearse
from unstir.training.session import TRAINING_SHARE
from unstir.training.watch import Watch

SAMPLES = 64


@dataclass(frozen=True)
class DryRun:
    """What was measured.

    Args:
        parameters: of the network.
        engine: its name. milliseconds: of a step with each engine that was tried.
        images_per_second: while training; pictures and checkpoints on the way take about a twelfth more.
        images: the budget, in training images. minutes: what it takes here.
        training_bytes: the most memory that two training steps, and one look as training takes them, took: all of the process.
        sampling_bytes: the most that drawing so many samples at once took, as ``unstir sample`` does. samples: how many.
    """

    parameters: int
    engine: str
    milliseconds: dict[str, float]
    images_per_second: float
    images: int
    minutes: float
    training_bytes: int | None
    sampling_bytes: int | None
    samples: int = SAMPLES

    @property
    def lines(self) -> list[str]:
        """For people."""
        return [
            f"parameters: {self.parameters:,}",
            f"a training step here takes: {engines.measured(self.milliseconds)}; {self.engine} would be used",
            f"speed: {self.images_per_second:,.0f} images/s",
            f"budget: {self.images:,} images, {_duration(self.minutes)} here",
            f"memory: {_size(self.training_bytes)} for training, "
            f"{_size(self.sampling_bytes)} for drawing {self.samples} samples at once",
        ]


def dry_run(config: Config, dataset: Dataset) -> DryRun:
    """Measures a few steps with each engine, then two steps and one drawing of samples, these in processes of their own.

    Raises:
        UserError: for what does not fit each other, and where the memory does not suffice.
    """
    engines.keep_memory()
    denoiser = initialised(config)
    rehearse(config, dataset, denoiser)
    engine, milliseconds = chosen(config, denoiser, dataset)
    # Two steps see no more than these; the rest need not travel to another process.
    few = np.arange(min(len(dataset.train), 2 * config.optimiser.batch))
    part = replace(
        dataset, train=dataset.train.take(few), heldout=dataset.heldout.take(dataset.heldout.spread(SAMPLES))
    )
    training, taken = _alone(_train, config, part, engine)
    sampling, _ = _alone(_sample, config, part, engine)
    milliseconds = milliseconds or {engine.name: 1000 * taken}
    rate = 1000 * config.optimiser.batch / milliseconds[engine.name]
    images = config.budget.images or round(60 * config.budget.minutes * TRAINING_SHARE * rate)
    return DryRun(
        parameters=sum(p.numel() for p in denoiser.network.parameters()),
        engine=engine.name,
        milliseconds=milliseconds,
        images_per_second=rate,
        images=images,
        minutes=images / rate / 60 / TRAINING_SHARE,
        training_bytes=training,
        sampling_bytes=sampling,
    )


def _train(config: Config, dataset: Dataset, engine: Engine) -> float:
    trainer = Trainer(config, _placed(config, engine), dataset, engine)
    trainer.progress.total = 1 << 40  # as in a long run, which looks at the most items
    trainer.update()
    taken = engines.seconds(lambda: trainer.update(), engine.device)
    # What a sitting does between updates: it draws samples, looks at itself, and gathers what a checkpoint holds.
    with trainer.averaged():
        drawn = _drawn(Model(trainer.denoiser, dataset.spec, config), dataset)
    Watch(trainer).look(drawn)
    trainer.checkpoint()
    return taken


def _sample(config: Config, dataset: Dataset, engine: Engine) -> float:
    model = Model(_placed(config, engine), dataset.spec, config)
    return engines.seconds(lambda: _drawn(model, dataset), engine.device)


def _drawn(model: Model, dataset: Dataset) -> np.ndarray:
    shown: dict[str, Any] = {}
    if model.config.condition:
        shown = {"image": np.resize(dataset.heldout.x, (SAMPLES, *dataset.heldout.x.shape[1:]))}
    return model.sample(SAMPLES, batch=SAMPLES, steps=2, **shown)


def _placed(config: Config, engine: Engine) -> Denoiser:
    denoiser = initialised(config)
    engine.place(denoiser)
    return denoiser


def _alone(work: Callable[[Config, Dataset, Engine], float], *args: Any) -> tuple[int | None, float]:
    """The peak memory of a process that does this alone, in bytes, and what the work gives."""
    # Started anew rather than forked: a fork begins with all the memory that its parent has taken.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_measured, work, *args).result()
    except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError):
        raise UserError(
            "the process that measures was ended, most likely for want of memory: take a smaller --size or --preset, or set "
            "optimiser.micro_batch"
        ) from None


def _measured(
    work: Callable[[Config, Dataset, Engine], float], config: Config, dataset: Dataset, engine: Engine
) -> tuple[int | None, float]:
    engines.keep_memory()
    engine.settle()
    taken = work(config, dataset, engine)
    return engines.peak_memory(engine.device), taken


def _size(number: int | None) -> str:
    if number is None:
        return "an unknown amount"
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def _duration(minutes: float) -> str:
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes:.1f} minutes"
