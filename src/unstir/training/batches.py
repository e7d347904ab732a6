"""What the network is shown: which items, at which times, under which noise and conditions.

Everything is a pure function of (seed, global image index, purpose). A process is given the indices that it works on, so a
batch is the same whoever works on which part of it, and however it is cut into pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from unstir.data import Dataset, Split
from unstir.denoisers import Condition, Denoiser
from unstir.denoisers.condition import KINDS
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs.conditions import view_of
from unstir.runs.config import Config, TimesConfig
from unstir.training.augment import augmented
from unstir.training.engine import Engine


@dataclass(frozen=True)
class Batch:
    """Items, and all that an objective asks about them.

    Args:
        x0: (B, *E). t: float64 (B,), in (0, T]. eps: the noise of x_t as the process takes it, (B, *E).
        condition: what the network is told of them.
    """

    x0: Tensor
    t: Tensor
    eps: Tensor
    condition: Condition | None


class Batches:
    """The endless order of a data set's items, each with its own noise.

    Args:
        whole_times: whether t must be one of the chain's 1 … T.
    """

    def __init__(
        self, config: Config, denoiser: Denoiser, dataset: Dataset, engine: Engine, *, whole_times: bool
    ) -> None:
        self.config, self.denoiser, self.dataset, self.engine = config, denoiser, dataset, engine
        self.whole_times = whole_times
        self.view = view_of(config.condition)

    def of(self, images: np.ndarray) -> Batch:
        """The training items with these global image indices, (B,)."""
        config, split = self.config, self.dataset.train
        index = _order(images, len(split), config.seed)
        source = NoiseSource(config.seed, images, self.engine.device)
        x0, labels = split.batch(index)
        x0 = self.engine.send(x0)
        if config.data.flip:
            heads = source.uniform((), "flip") < 0.5
            x0 = torch.where(heads.reshape(-1, *(1,) * (x0.ndim - 1)), x0.flip(-1), x0)
        told = None
        if config.data.augment:
            x0, told = augmented(x0, config.data.augment, source)
        condition = self._condition(split, index, labels, x0, source)
        if condition is not None:
            condition = replace(condition, null=hidden(condition, source, config.label_dropout))
        if told is not None:
            condition = replace(condition or Condition(), augment=told)
        t = self._times(source.uniform((), "time"))
        return Batch(x0, t, self.denoiser.process.noise(source, x0.shape[1:], "noise"), condition)

    def at_levels(self, split: Split, number: int, bins: int) -> Iterator[Batch]:
        """The same items of a split at each of several levels of noise, with nothing hidden: a batch a level."""
        index = split.spread(number)
        source = NoiseSource(self.config.seed, index, self.engine.device)
        x0, labels = split.batch(index)
        x0 = self.engine.send(x0)
        condition = self._condition(split, index, labels, x0, source)
        quantiles = (torch.arange(bins, dtype=torch.float64, device=x0.device) + 0.5) / bins
        for i, t in enumerate(self._times(quantiles)):
            eps = self.denoiser.process.noise(source, x0.shape[1:], "held-out", i)
            yield Batch(x0, t.expand(len(x0)), eps, condition)

    def _condition(
        self, split: Split, index: np.ndarray, labels: Tensor | None, x0: Tensor, source: NoiseSource
    ) -> Condition | None:
        """All that is known of these items, x0 being them; nothing is hidden yet."""
        vector = None if split.vectors is None else self.engine.send(torch.from_numpy(split.vectors[index]))
        image = None if self.view is None else self.engine.send(self.view(x0, source))
        condition = Condition(None if labels is None else self.engine.send(labels), vector, image)
        return None if condition.empty else condition

    def _times(self, u: Tensor) -> Tensor:
        return draw_times(self.config.times, self.denoiser, u, whole=self.whole_times)


def pieces(batch: int, rank: int, world: int, micro: int = 0) -> list[tuple[int, int]]:
    """What one process works on of a batch, one after the other: (place of its first image, number of images).

    Processes have neighbouring images, and all as many pieces, since they exchange something in each; sizes differ by one at most.

    Args:
        batch: images, over all processes.
        micro: the most images that are worked on at once; 0: a process's whole share.

    Raises:
        UserError: when that leaves a process nothing to do.
    """
    if batch < world:
        raise UserError(
            f"a batch of {batch} cannot be shared among {world} processes: start at most {batch}, or raise optimiser.batch"
        )
    largest = math.ceil(batch / world)
    number = math.ceil(largest / micro) if micro else 1
    if number > batch // world:
        raise UserError(
            f"optimiser.micro_batch = {micro} leaves some of {world} processes without images of a batch of {batch}: "
            f"set it to {micro + 1}"
        )
    shares = np.array_split(np.arange(batch), world)
    return [(int(piece[0]), len(piece)) for piece in np.array_split(shares[rank], number)]


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
