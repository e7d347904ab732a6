"""The training loop, to be read from top to bottom.

Work is counted in images. Everything random is keyed by (seed, global image index, purpose), and everything that varies
over the run is a function of the image count, so a run continued from a checkpoint is the run that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import objectives
from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.runs.checkpoint import Checkpoint
from unstir.runs.config import Config
from unstir.training.batches import Batch, Batches
from unstir.training.ema import PowerEMA
from unstir.training.engine import Engine
from unstir.training.guard import LOWER, PATIENCE, Diverged, diagnosis


@dataclass
class Progress:
    """Where a run stands: all of its state that is not a tensor.

    ``total`` is 0 until the budget in minutes has been turned into images.
    """

    images: int = 0
    total: int = 0
    skipped: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    rollbacks: int = 0
    """How often the run went back to a checkpoint because numbers were no longer finite; each lowers the learning rate."""


@dataclass(frozen=True)
class Step:
    """What one update did."""

    images: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool


class Trainer:
    """A denoiser being trained on a data set.

    Args:
        denoiser: already placed on the engine's device.
    """

    def __init__(self, config: Config, denoiser: Denoiser, dataset: Dataset, engine: Engine) -> None:
        self.config, self.denoiser, self.dataset, self.engine = config, denoiser, dataset, engine
        self.names = [name for name, _ in denoiser.network.named_parameters()]
        self.parameters = list(denoiser.network.parameters())
        self.objective = objectives.get(config.objective)
        self.batches = Batches(config, denoiser, dataset, engine, whole_times=self.objective.whole_times)
        self.progress = Progress()
        self.ema = PowerEMA(self.parameters, config.ema_width)
        opt = config.optimiser
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=opt.learning_rate, betas=(0.9, opt.beta2), weight_decay=opt.weight_decay, fused=True
        )

    def steps(self) -> Iterator[Step]:
        """Trains until the budget is used up; one update an iteration, the caller's ``for`` decides what else happens."""
        trouble = 0
        while not self.progress.total or self.progress.images < self.progress.total:
            begin = time.perf_counter()
            step = self.update()
            self.progress.seconds += time.perf_counter() - begin
            trouble = max(trouble + (1 if step.skipped else -1), 0)
            if trouble == PATIENCE:
                raise Diverged(diagnosis(self, step.images - self.config.optimiser.batch))
            yield step

    def update(self) -> Step:
        """One batch: loss, gradient, optimizer, average."""
        first, batch = self.progress.images, self.config.optimiser.batch
        rate = self.learning_rate()
        self.denoiser.train()
        loss = self.loss(first, batch)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip)
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self.ema.update(self.parameters)
        else:
            self.progress.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.images += batch
        return Step(self.progress.images, float(loss.detach()), float(norm), rate, skipped=not finite)

    def loss(self, first: int, batch: int) -> Tensor:
        """The mean loss of the images with global indices ``first … first + batch - 1``."""
        shown = self.batches.of(np.arange(first, first + batch))
        # Dropout draws from torch's own generator: seeded by the position, it too is the same after a resume.
        torch.manual_seed((self.config.seed * 1_000_003 + first) % (1 << 63))
        return self._mean(shown)

    def _mean(self, batch: Batch) -> Tensor:
        with self.engine.autocast():
            return self.objective(self.denoiser, batch.x0, batch.t, batch.eps, batch.condition).mean()

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 0 at the end of the budget; lowered after a rollback."""
        opt, progress = self.config.optimiser, self.progress
        warm = min(1.0, (progress.images + opt.batch) / max(opt.warmup_images, 1))
        done = progress.images / progress.total if progress.total else 0.0
        return opt.learning_rate * LOWER**progress.rollbacks * warm * 0.5 * (1 + math.cos(math.pi * done))

    def averaged(self) -> _Swapped:
        """A context in which the network has the averaged weights, in evaluation mode."""
        return _Swapped(self)

    def checkpoint(self) -> Checkpoint:
        """Everything a resume needs, and nothing else."""
        moments = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{key}.{name}"] = torch.as_tensor(value)
        parts = {
            "model": dict(zip(self.names, (p.detach() for p in self.parameters), strict=True)),
            "ema": dict(zip(self.names, self.ema.values, strict=True)),
            "optimizer": moments,
        }
        return Checkpoint(parts, {"progress": vars(self.progress).copy(), "ema_updates": self.ema.updates})

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint."""
        self.optimizer.state.clear()  # of a parameter without moments in the checkpoint none must stay
        for name, parameter, average in zip(self.names, self.parameters, self.ema.values, strict=True):
            parameter.copy_(checkpoint.parts["model"][name])
            average.copy_(checkpoint.parts["ema"][name])
            state: dict[str, Any] = {}
            for key in ("exp_avg", "exp_avg_sq", "step"):
                value = checkpoint.parts["optimizer"].get(f"{key}.{name}")
                if value is not None:
                    # The moments lie in memory as the parameter does; the step count is one number.
                    state[key] = torch.empty_like(parameter).copy_(value) if value.ndim else value.to(parameter.device)
            if state:
                self.optimizer.state[parameter] = state
        self.ema.updates = checkpoint.state["ema_updates"]
        self.progress = Progress(**checkpoint.state["progress"])


class _Swapped:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self.raw = [p.detach().clone() for p in self.trainer.parameters]
        self._set(self.trainer.ema.values)
        self.trainer.denoiser.eval()

    def __exit__(self, *_: object) -> None:
        self._set(self.raw)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.trainer.parameters, values, strict=True):
            parameter.copy_(value)
