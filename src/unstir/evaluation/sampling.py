"""Samples for measuring: how they are drawn, in full, and their features while the next ones are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.evaluation.extractors import Extractor
from unstir.runs import Model
from unstir.runs.walks import AUTO, How

_AHEAD = 4  # batches whose features may still be due: beyond that memory would grow where features are the slow part


@dataclass(frozen=True)
class Sampling(How):
    """All that decides which samples are drawn from given weights; how many at a time does not.

    Args:
        label: a class's name, ``each`` for all in turn, or None for no class.
        seed: sample i of a seed is always the same.
    """

    label: str | None = None
    seed: int = 0

    @property
    def described(self) -> str:
        """In words, without what is as usual."""
        clip = f", clip {self.clip}" if self.clip != AUTO else ""
        label = f", label {self.label}" if self.label is not None else ""
        precision = f", {self.precision}" if self.precision != "fp32" else ""
        return f"{self.walked}{clip}{label}{self.guided}{precision}, seed {self.seed}"

    def sample(self, model: Model, indices: range) -> np.ndarray:
        """These samples of the seed, all at once, as users hold them."""
        return model.sample(len(indices), indices=indices, batch=len(indices), **asdict(self))


@dataclass(frozen=True)
class Drawn:
    """Samples 0 … N-1: as users hold them, x (N, …), and as an extractor sees them, features (N, F).

    Args:
        seconds: that drawing them took, features included.
        extractor: the features' name.
    """

    x: np.ndarray
    features: Tensor
    how: Sampling
    seconds: float
    extractor: str
    weights: str

    @property
    def described(self) -> str:
        """How they were drawn, in words."""
        return f"{self.how.described}, {self.weights} weights"

    def to_json(self) -> dict[str, Any]:
        """How they were drawn, in JSON types."""
        return {"number": len(self.x), **asdict(self.how), "weights": self.weights}


def draw(
    model: Model,
    n: int,
    extractor: Extractor,
    how: Sampling,
    *,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Samples 0 … n-1; one batch's features are computed while the next is drawn.

    Args:
        extractor: see :mod:`unstir.evaluation.extractors`.
        batch: how many at a time; results depend on it to rounding.
        progress: called with (samples done, all).

    Raises:
        UserError: for a way of sampling that does not suit the model.
    """
    began = time.perf_counter()
    parts: list[np.ndarray] = []
    due: list[Future[Tensor]] = []
    worker = ThreadPoolExecutor(1)
    try:
        for first in range(0, n, batch):
            chosen = range(first, min(first + batch, n))
            parts.append(how.sample(model, chosen))
            due.append(worker.submit(_seen, extractor, model.inside(parts[-1]).cpu()))
            if len(due) > _AHEAD:
                due[-_AHEAD - 1].result()
            if progress:
                progress(chosen.stop, n)
        features = torch.cat([each.result() for each in due])
    finally:
        worker.shutdown(cancel_futures=True)  # an interrupt does not wait for what is queued
    return Drawn(np.concatenate(parts), features, how, time.perf_counter() - began, extractor.name, model.weights)


def _seen(extractor: Extractor, x: Tensor) -> Tensor:
    with torch.no_grad():  # whether gradients are kept is a thread's own
        return extractor(x)
