"""What the bound can be asked to choose first, on training data: the times of a short chain, and the reverse variance."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from unstir import denoisers
from unstir.bound import bound_terms, shortest_chain
from unstir.bound.subchain import candidate_times
from unstir.data import Split
from unstir.denoisers import AnalyticVariance
from unstir.errors import UserError
from unstir.processes import Gaussian
from unstir.runs import Model
from unstir.samplers import Grid

BEST = "best"
SPACINGS = (BEST, "uniform", "trailing", "log-snr")
_FITTED = "analytic, fitted on training data"

Progress = Callable[[int, int], None]


def check(model: Model, steps: int | None, spacing: str | None) -> None:
    """Refuses a short chain that the model cannot walk, before any data is read."""
    process = model.denoiser.process
    if spacing is not None and steps is None:
        raise UserError("--spacing says how some steps are spread: give their number too, with --steps")
    if steps is None:
        return
    if not 1 <= steps <= process.T:
        raise UserError(f"--steps must be from 1 to this chain's {process.T}, not {steps}")
    if model.denoiser.consecutive and steps < process.T:
        raise UserError("this network speaks of single steps alone, so its chain has no shorter one: leave --steps out")


def times(
    model: Model,
    training: Callable[[], Split],
    steps: int,
    spacing: str,
    *,
    images: int = 256,
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
) -> list[float]:
    """The rising times of a chain of so many steps to T.

    Args:
        training: gives the data for ``best``, the chain of the lowest bound on them, found by dynamic programming over the
            bound's own terms. The other spacings are those of samples.
        images: how many of them, spread evenly.
        progress: called with (network calls done, all).
    """
    if spacing != BEST:
        return Grid.named(spacing, model.denoiser.process.schedule, steps).times[:-1].flip(0).tolist()
    places = candidate_times(model.denoiser.process.T, steps)
    total: Tensor | None = None
    split = training()
    index = split.spread(images)
    batches = math.ceil(len(index) / batch)
    for i in range(batches):
        rows = index[i * batch : (i + 1) * batch]
        labels = split.labels[rows] if given_labels and split.labels is not None else None
        x0, condition = model.at_hand(split.x[rows], labels)
        terms = bound_terms(
            model.bounded, x0, places,
            condition=condition, decoder=model.decoder, noise=model.noise(seed, i * batch, len(rows)),
            progress=None if progress is None else lambda done, each, i=i: progress(i * each + done, batches * each),
        )  # fmt: skip
        total = terms * len(rows) if total is None else total + terms * len(rows)
    assert total is not None
    try:
        return [places[place - 1] for place in shortest_chain(total, steps)]
    except ValueError as error:
        raise UserError(str(error)) from None


def fit_variance(
    model: Model,
    training: Split,
    *,
    images: int = 256,
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
) -> None:
    """Gives the model the best reverse variance for its own error on training data; see :func:`unstir.denoisers.fit_variance`."""
    check_variance(model)
    index = training.spread(images)
    labels = training.labels[index] if given_labels and training.labels is not None else None
    x0, condition = model.at_hand(training.x[index], labels)
    denoisers.fit_variance(
        model.bounded, x0, condition=condition, batch=batch, noise=model.noise(seed, 0, len(index)), progress=progress
    )


def check_variance(model: Model) -> None:
    """Refuses a model that has no variance to fit, before any data is read."""
    if not isinstance(model.denoiser.process, Gaussian):
        raise UserError("--variance analytic is for real numbers: the reverse step of bits and symbols has no variance")
    if model.denoiser.variance in ("learned", "free"):
        raise UserError("this network says its reverse variance itself, so there is none to fit: leave --variance out")


def described(model: Model) -> str:
    """The reverse variance in words, where it is not the run's own."""
    return _FITTED if isinstance(model.denoiser.variance, AnalyticVariance) else ""
