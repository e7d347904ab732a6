"""The training loop, to be read from top to bottom.

Work is counted in images. Everything random is keyed by (seed, global image index, purpose), and everything that varies
over the run is a function of the image count, so a run continued from a checkpoint is the run that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import objectives
from unstir.data import Dataset, Split
from unstir.denoisers import Condition, Denoiser
from unstir.denoisers.condition import KINDS
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs.checkpoint import Checkpoint
from unstir.runs.conditions import view_of
from unstir.runs.config import Config, TimesConfig
from unstir.training.ema import PowerEMA
from unstir.training.engine import Engine

MAX_SKIPPED_IN_A_ROW = 50
HELDOUT_IMAGES = 128
HELDOUT_BINS = 8


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
        self.view = view_of(config.condition)
        self.progress = Progress()
        self.ema = PowerEMA(self.parameters, config.ema_width)
        opt = config.optimiser
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=opt.learning_rate, betas=(0.9, opt.beta2), weight_decay=opt.weight_decay, fused=True
        )

    def steps(self) -> Iterator[Step]:
        """Trains until the budget is used up; one update an iteration, the caller's ``for`` decides what else happens."""
        in_a_row = 0
        while not self.progress.total or self.progress.images < self.progress.total:
            begin = time.perf_counter()
            step = self.update()
            self.progress.seconds += time.perf_counter() - begin
            in_a_row = in_a_row + 1 if step.skipped else 0
            if in_a_row == MAX_SKIPPED_IN_A_ROW:
                raise UserError(
                    f"the loss or its gradient was not finite {in_a_row} times in a row after {step.images:,} images: "
                    "lower optimiser.learning_rate or use --precision fp32; the last checkpoint is good"
                )
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
        config, split = self.config, self.dataset.train
        images = np.arange(first, first + batch)
        index = _order(images, len(split), config.seed)
        x0, labels = split.batch(index)
        source = NoiseSource(config.seed, images, self.engine.device)
        x0 = self.engine.send(x0)
        if config.data.flip:
            heads = source.uniform((), "flip") < 0.5
            x0 = torch.where(heads.reshape(-1, *(1,) * (x0.ndim - 1)), x0.flip(-1), x0)
        condition = self._condition(split, index, labels, x0, source)
        if condition is not None:
            condition = replace(condition, null=hidden(condition, source, config.label_dropout))
        t = draw_times(config.times, self.denoiser, source.uniform((), "time"), whole=self.objective.whole_times)
        eps = self.denoiser.process.noise(source, x0.shape[1:], "noise")
        # Dropout draws from torch's own generator: seeded by the position, it too is the same after a resume.
        torch.manual_seed((config.seed * 1_000_003 + first) % (1 << 63))
        with self.engine.autocast():
            return self.objective(self.denoiser, x0, t, eps, condition).mean()

    def _condition(
        self, split: Split, index: np.ndarray, labels: Tensor | None, x0: Tensor, source: NoiseSource
    ) -> Condition | None:
        """All that is known of these items, x0 being them; nothing is hidden yet."""
        vector = None if split.vectors is None else self.engine.send(torch.from_numpy(split.vectors[index]))
        image = None if self.view is None else self.engine.send(self.view(x0, source))
        condition = Condition(None if labels is None else self.engine.send(labels), vector, image)
        return None if condition.empty else condition

    def learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to 0 at the end of the budget."""
        opt, progress = self.config.optimiser, self.progress
        warm = min(1.0, (progress.images + opt.batch) / max(opt.warmup_images, 1))
        done = progress.images / progress.total if progress.total else 0.0
        return opt.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))

    @torch.no_grad()
    def heldout_loss(self) -> tuple[list[float], list[float]]:
        """The held-out loss of the averaged weights in bins of noise level: (times, mean loss at each).

        Always the same pictures, noise and times, so two values differ only by what was learned.
        """
        split = self.dataset.heldout
        index = split.spread(HELDOUT_IMAGES)
        x0, labels = split.batch(index)
        x0 = self.engine.send(x0)
        source = NoiseSource(self.config.seed, index, self.engine.device)
        condition = self._condition(split, index, labels, x0, source)
        quantiles = (torch.arange(HELDOUT_BINS, dtype=torch.float64, device=x0.device) + 0.5) / HELDOUT_BINS
        times = draw_times(self.config.times, self.denoiser, quantiles, whole=self.objective.whole_times)
        losses = []
        with self.averaged(), self.engine.autocast():
            for i, t in enumerate(times):
                eps = self.denoiser.process.noise(source, x0.shape[1:], "held-out", i)
                losses.append(float(self.objective(self.denoiser, x0, t.expand(len(x0)), eps, condition).mean()))
        return times.tolist(), losses

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


def hidden(condition: Condition, source: NoiseSource, share: float) -> Tensor:
    """Which conditions training hides: all of a sample's with probability ``share``; bool (B,).

    Of several kinds each is also hidden alone with that probability, (B, 3), so that some may be given without the others.
    """
    everything = source.uniform((), "label dropout") < share
    given = [kind for kind in KINDS if getattr(condition, kind) is not None]
    if len(given) == 1:
        return everything
    columns = [
        everything | (source.uniform((), f"{kind} alone dropout") < share) if kind in given else everything
        for kind in KINDS
    ]
    return torch.stack(columns, 1)


def draw_times(config: TimesConfig, denoiser: Denoiser, u: Tensor, *, whole: bool) -> Tensor:
    """Training times from uniform draws u in (0, 1): float64, of u's shape.

    - ``uniform``: whole times 1 … T, each equally likely;
    - ``log-normal``: the real t at which ln(sigma/alpha) is normal (Karras et al. 2022, table 1).
    """
    T = denoiser.process.T
    if config.name == "uniform":
        return torch.floor(u * T) + 1
    if config.name != "log-normal":
        raise UserError(
            f"there is no distribution of training times called {config.name!r}; there are uniform and log-normal"
        )
    if whole:
        raise UserError('this objective needs whole times: set times.name = "uniform"')
    level = config.mean + config.std * torch.special.ndtri(u)
    return denoiser.process.schedule.time(-2 * level).clamp(min=1e-3)


def _order(images: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Which training item each global image index is: every epoch a fresh shuffle, a pure function of (seed, epoch)."""
    epochs, places = np.divmod(images, size)
    index = np.empty_like(images)
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        index[rows] = _permutation(size, seed, int(epoch))[places[rows]]
    return index


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)
