"""Which engine is the fastest here, by training a few steps with each."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace

from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.runs.config import Config
from unstir.training import engine as engines
from unstir.training.engine import Engine
from unstir.training.loop import Trainer


def chosen(config: Config, denoiser: Denoiser, dataset: Dataset, world: int = 1) -> tuple[Engine, dict[str, float]]:
    """The engine for this training, and the median milliseconds of a step with each that was tried.

    Args:
        denoiser: is not changed. world: how many processes share a batch; a step is tried with the share of one.
    """
    device, hardware = engines.default_device(), config.hardware
    choices = engines.alternatives(
        device, hardware.precision, hardware.layout, hardware.compile, images=dataset.spec.kind == "image"
    )
    if hardware.shard and world > 1:
        # No process could hold the network that it would have to measure.
        return engines.usual(choices), {}
    opt = config.optimiser
    share = replace(config, optimiser=replace(opt, batch=math.ceil(opt.batch / world)))

    def trial(engine: Engine) -> Callable[[], None]:
        trainer = Trainer(share, copy.deepcopy(denoiser), dataset, engine)
        engine.place(trainer.denoiser)

        def step() -> None:
            trainer.update()

        return step

    return engines.fastest(choices, trial)
