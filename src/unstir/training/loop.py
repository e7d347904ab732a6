"""The training loop, to be read from top to bottom.

Work is counted in images. Everything random is keyed by (seed, global image index, purpose), and everything that varies
over the run is a function of the image count, so a run continued from a checkpoint is the run that was never stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from unstir import objectives
from unstir.data import Dataset
from unstir.denoisers import Denoiser
from unstir.runs.averages import WIDTHS
from unstir.runs.checkpoint import Checkpoint
from unstir.runs.config import Config
from unstir.training.batches import Batch, Batches, pieces
from unstir.training.ema import PowerEMA
from unstir.training.engine import Engine
from unstir.training.guard import LOWER, Diverged, Trouble, diagnosis
from unstir.training.processes import Processes
from unstir.training.sharding import joined, own, part_of


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
    """A denoiser being trained on a data set, by this process or by several together.

    Args:
        denoiser: already placed on the engine's device, and its network cut among the processes where that was asked for.
        processes: who else trains it. Each works on its share of every batch and makes the same update.
    """

    def __init__(
        self,
        config: Config,
        denoiser: Denoiser,
        dataset: Dataset,
        engine: Engine,
        processes: Processes = Processes(),  # noqa: B008 - it is frozen
    ) -> None:
        self.config, self.denoiser, self.dataset, self.engine = config, denoiser, dataset, engine
        self.processes = processes
        self.names = [name for name, _ in denoiser.network.named_parameters()]
        self.parameters = list(denoiser.network.parameters())
        self.objective = objectives.get(config.objective)
        self.batches = Batches(config, denoiser, dataset, engine, whole_times=self.objective.whole_times)
        self.progress = Progress()
        self.trouble = Trouble()
        self.pieces = pieces(config.optimiser.batch, processes.rank, processes.world, config.optimiser.micro_batch)
        self.ema = PowerEMA(self.own, config.ema_width)
        # For others that are wanted afterwards.
        self.stored = {f"ema-{width:g}": PowerEMA(self.own, width) for width in WIDTHS} if config.averages else {}
        opt = config.optimiser
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=opt.learning_rate, betas=(0.9, opt.beta2), weight_decay=opt.weight_decay, fused=True
        )
        self.mean_loss: nn.Module = _Loss(denoiser, self._mean)
        self.together: DistributedDataParallel | None = None
        if processes.world > 1 and not self.sharded:
            self.mean_loss = self.together = DistributedDataParallel(self.mean_loss, gradient_as_bucket_view=True)
            # The first backward pass decides in which order gradients are summed from the second on. After a resume that must be
            # the order it was before, so neither of them is one that counts.
            self.loss(0, 1).backward()
            self.optimizer.zero_grad(set_to_none=True)

    @property
    def sharded(self) -> bool:
        """Whether this process keeps parts of the weights only."""
        return any(isinstance(parameter, DTensor) for parameter in self.parameters)

    @property
    def own(self) -> list[Tensor]:
        """What this process keeps of each parameter, sharing its memory."""
        return [own(parameter) for parameter in self.parameters]

    @property
    def emas(self) -> dict[str, PowerEMA]:
        """Every average, by the name of its part in a checkpoint."""
        return {"ema": self.ema} | self.stored

    def steps(self) -> Iterator[Step]:
        """Trains until the budget is used up; one update an iteration, the caller's ``for`` decides what else happens."""
        while not self.progress.total or self.progress.images < self.progress.total:
            begin = time.perf_counter()
            step = self.update()
            self.progress.seconds += time.perf_counter() - begin
            before = step.images - self.config.optimiser.batch
            if self.trouble.note(step.skipped, before):
                raise Diverged(diagnosis(self, before))
            yield step

    def update(self) -> Step:
        """One batch: loss, gradient, optimizer, average."""
        first, batch = self.progress.images, self.config.optimiser.batch
        rate = self.learning_rate()
        self.denoiser.train()
        loss = self._accumulate(first, batch)
        norm = _whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimiser.clip))
        # One question to the device, since each waits until all before it is done.
        mean, length = torch.stack([loss.detach(), norm]).tolist()
        finite = math.isfinite(mean) and math.isfinite(length)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            for ema in self.emas.values():
                ema.update(self.own)
        else:
            self.progress.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.images += batch
        return Step(self.progress.images, mean, length, rate, skipped=not finite)

    def _accumulate(self, first: int, batch: int) -> Tensor:
        """The gradient of the batch's mean loss, in this process's pieces; the same loss and gradient in every process.

        A piece counts by its number of images, so that unequal shares make the same mean. The gradient is the mean over the
        processes, hence the factor.
        """
        total = torch.zeros((), device=self.engine.device)
        for i, (place, number) in enumerate(self.pieces):
            last = i + 1 == len(self.pieces)
            with contextlib.nullcontext() if last or self.together is None else self.together.no_sync():
                loss = self.loss(first + place, number) * (number / batch)
                (loss * self.processes.world).backward()
            total = total + loss.detach()
        return self.processes.sum(total)

    def loss(self, first: int, batch: int) -> Tensor:
        """The mean loss of the images with global indices ``first … first + batch - 1``."""
        shown = self.batches.of(np.arange(first, first + batch))
        # Dropout draws from torch's own generator. Seeded by the position, it too is the same after a resume, and another in
        # each process and each piece of a batch.
        torch.manual_seed((self.config.seed * 1_000_003 + first) % (1 << 63))
        with self.engine.autocast():
            return self.mean_loss(shown)

    def _mean(self, batch: Batch) -> Tensor:
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

    def average(self, ema: PowerEMA) -> dict[str, Tensor]:
        """Averaged weights by name, on the CPU: whole in the first process, though each may keep parts of them only.

        All processes of a network that is cut among them have to ask at once.
        """
        whole = {}
        for name, parameter, value in zip(self.names, self.parameters, ema.values, strict=True):
            value = joined(value, parameter)
            if self.processes.first:
                whole[name] = value.cpu().contiguous()
        return whole

    def checkpoint(self) -> Checkpoint:
        """Everything a resume needs, and nothing else; of a network that is cut among processes, this one's parts."""
        moments = {}
        for name, parameter in zip(self.names, self.parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{key}.{name}"] = own(torch.as_tensor(value))
        parts = {
            "model": dict(zip(self.names, self.own, strict=True)),
            "optimizer": moments,
            **{part: dict(zip(self.names, ema.values, strict=True)) for part, ema in self.emas.items()},
        }
        state = {
            "progress": vars(self.progress).copy(),
            "ema_updates": self.ema.updates,
            "trouble": vars(self.trouble).copy(),
        }
        return Checkpoint(parts, state)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Continues from a checkpoint, whose tensors are whole."""
        for place, (name, parameter) in enumerate(zip(self.names, self.parameters, strict=True)):
            own(parameter).copy_(self._part(parameter, checkpoint.parts["model"][name]))
            for part, ema in self.emas.items():
                ema.values[place].copy_(self._part(parameter, checkpoint.parts[part][name]))
                ema.updates = checkpoint.state["ema_updates"]
            state: dict[str, Any] = {}
            for key in ("exp_avg", "exp_avg_sq", "step"):
                value = checkpoint.parts["optimizer"].get(f"{key}.{name}")
                if value is not None and value.ndim:
                    # The moments lie in memory as the parameter does; the step count is one number.
                    state[key] = torch.empty_like(parameter)
                    own(state[key]).copy_(self._part(parameter, value))
                elif value is not None:
                    state[key] = value.to(own(parameter).device)
            self.optimizer.state.pop(parameter, None)
            if state:
                self.optimizer.state[parameter] = state
        self.progress = Progress(**checkpoint.state["progress"])
        self.trouble = Trouble(**checkpoint.state.get("trouble", {}))

    def _part(self, parameter: Tensor, whole: Tensor) -> Tensor:
        """What this process keeps of a whole tensor that belongs to a parameter."""
        if not isinstance(parameter, DTensor):
            return whole
        return part_of(whole, self.processes.rank, self.processes.world)


class _Loss(nn.Module):
    """A loss as a module, since what shares gradients among processes is laid around one."""

    def __init__(self, denoiser: Denoiser, of: Callable[[Batch], Tensor]) -> None:
        super().__init__()
        self.denoiser, self.of = denoiser, of

    def forward(self, batch: Batch) -> Tensor:
        return self.of(batch)


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


class _Swapped:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self.raw = [value.clone() for value in self.trainer.own]
        self._set(self.trainer.ema.values)
        self.trainer.denoiser.eval()

    def __exit__(self, *_: object) -> None:
        self._set(self.raw)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for mine, value in zip(self.trainer.own, values, strict=True):
            mine.copy_(value)
