"""How strange each item is to a model. Every score rises with strangeness.

- the bound on -log p. On its own it takes simple pictures for familiar ones, whatever they show (Nalisnick et al., *Do deep
  generative models know what they don't know?*, ICLR 2019);
- that less what PNG needs, since what is simple is short for everybody (Serrà et al., *Input complexity and
  out-of-distribution detection with likelihood-based generative models*, ICLR 2020);
- typicality: how far the bound lies from what training items have, on either side (Nalisnick et al., *Detecting
  out-of-distribution inputs to deep generative models using typicality*, 2019);
- reconstruction: how wrong the model is about the item from its noisy version, beside how wrong it is about training items
  (Graham et al., *Denoising diffusion models for out-of-distribution detection*, CVPR workshops 2023).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import numpy as np
import torch
from torch import Tensor

from unstir.data import Dataset, Split
from unstir.data.split import row_hashes
from unstir.data.unit import unit_of
from unstir.denoisers import DenoiserBase, Prediction, PredictionBase
from unstir.errors import UserError
from unstir.evaluation.yardsticks import encoded
from unstir.runs import Model
from unstir.samplers import DDIM
from unstir.sets.auroc import Auroc, auroc

SCORES = ("bits", "typicality", "reconstruction")
LOG_SNRS = (2.0, 0.0, -2.0)
"""How noisy the versions are that an item is rebuilt from: a little, half, much."""
_SURPRISE = 32.0  # bits for one value: a network that rules a value out is not believed further than that


@dataclass(frozen=True)
class Scores:
    """Figures of N items, in the order of their source.

    Args:
        names: what the user calls them. labels: (N,), indices into ``classes``, or None.
        columns: float64 (N,) by name: scores, and under ``…_error`` their standard errors.
        reference: of how many training items' figures typicality and reconstruction are beside; 0 where of none.
    """

    names: list[str]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    columns: dict[str, np.ndarray]
    reference: int

    @property
    def scores(self) -> list[str]:
        """The columns that say how strange an item is."""
        return [name for name in self.columns if not name.endswith("_error")]

    def rows(self) -> Iterator[list[str]]:
        """A heading and a row for each item: name, label if there are any, then the columns."""
        labelled = self.labels is not None
        yield ["name", *(["label"] if labelled else []), *self.columns]
        for i, name in enumerate(self.names):
            label = [] if self.labels is None else [self.classes[self.labels[i]]]
            yield [name, *label, *(f"{column[i]:.9g}" for column in self.columns.values())]

    def write(self, file: TextIO) -> None:
        """The rows as CSV."""
        csv.writer(file, lineterminator="\n").writerows(self.rows())

    @property
    def telling(self) -> str:
        """The column to look at first: reconstruction, else the bits, else whatever was measured."""
        names = self.scores
        return next((name for name in ("reconstruction", "bits_per_dim", "bits_per_item") if name in names), names[0])

    def strangest(self, number: int = 10) -> list[tuple[str, float]]:
        """Names and figures of the strangest items by that column, the strangest first."""
        column = self.columns[self.telling]
        return [(self.names[i], float(column[i])) for i in np.argsort(-column, kind="stable")[:number]]

    def apart(self, strange: Sequence[str]) -> dict[str, Auroc]:
        """How well each score tells items of these classes from all others: see :func:`~unstir.sets.auroc.auroc`.

        Raises:
            UserError: as :func:`check_strange`, and where there are fewer than two items on a side.
        """
        mask = _strange(strange, self.labels, self.classes)
        return {name: auroc(self.columns[name][mask], self.columns[name][~mask]) for name in self.scores}


def _strange(strange: Sequence[str], labels: np.ndarray | None, classes: tuple[str, ...]) -> np.ndarray:
    """Which items (N,) are of the strange classes."""
    check_strange(strange, () if labels is None else classes)
    mask = np.isin([] if labels is None else labels, [classes.index(name) for name in strange])
    sides = int(mask.sum()), int((~mask).sum())
    if min(sides) < 2:
        raise UserError(f"{sides[0]} of the items are strange and {sides[1]} are not: two at least of each are needed")
    return mask


def check_apart(data: Dataset, strange: Sequence[str], limit: int | None = None) -> None:
    """Refuses, before anything is measured, what :meth:`Scores.apart` of :func:`measure` of so many items would refuse."""
    _strange(strange, _Items(data, limit).labels, data.spec.classes)


def check_strange(strange: Sequence[str], classes: Sequence[str]) -> None:
    """Refuses strange classes that the data do not have.

    Args:
        classes: the data's; none where they have no labels.
    """
    if not classes:
        raise UserError(
            "--strange names classes, and this data has none: put the pictures into a folder for each class"
        )
    for name in strange:
        if name not in classes:
            known = f"{', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}"
            raise UserError(f"there is no class {name!r} in this data; there are {known}")


def check(model: Model, scores: Sequence[str], steps: int = 1) -> None:
    """Refuses what cannot be measured, before anything is read."""
    unknown = [name for name in scores if name not in SCORES]
    if unknown or not scores:
        raise UserError(f"there is no score called {next(iter(unknown), '')!r}; there are {', '.join(SCORES)}")
    process = model.denoiser.process
    if not 1 <= steps <= process.T:
        raise UserError(f"--steps must be from 1 to this chain's {process.T}, not {steps}")
    if steps > 1 and not process.continuous:
        raise UserError(f"{model.spec.kind} are rebuilt in one look: leave --steps out")


def measure(
    model: Model,
    data: Dataset,
    training: Callable[[], Split],
    *,
    scores: Sequence[str] = SCORES,
    terms: int | None = 10,
    draws: int | None = None,
    steps: int = 1,
    reference: int = 256,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Scores of every item of both parts of a data set.

    An item's noise is keyed by its content: it scores the same alone, in any batch, among any others, under any name.

    Args:
        data: prepared for the model, see :func:`unstir.runs.everything`.
        training: gives what the model learned from; asked only for typicality and reconstruction.
        terms: of the bound; None for all of them, with one draw and no standard error.
        draws: how often each term, and each reconstruction, is drawn; by default 2, and up to 16 of items of fewer than 128 values,
            over which less is averaged.
        steps: of DDIM from the noisy version back, for numbers; 1 is one look, the predicted x0.
        reference: how many training items the others are beside, spread evenly.
        limit: at most so many items, spread evenly.
        progress: called with (items done, all), training items included.

    Returns:
        columns ``bits_per_dim`` (of 8-bit data) or ``bits_per_item`` and its ``_error``; ``bits_less_png`` of 8-bit pictures;
        ``typicality``, in the same unit; ``error_t…`` for each time that items are rebuilt from, the mean square error of
        numbers as the network sees them and ``-log2 p(x0 | x_t)`` of bits and symbols, each averaged over an item's values;
        and ``reconstruction``, the mean over these times of ``(error - m) / s``, m and s the mean and spread over training items.

    Raises:
        UserError: as :func:`check`, and where there are fewer than two training items.
    """
    check(model, scores, steps)
    draws = min(16, max(2, math.ceil(256 / math.prod(model.spec.shape)))) if draws is None else draws
    if draws < 2:
        raise ValueError(f"a standard error takes two draws at least, not {draws}")
    items = _Items(data, limit)
    beside = training() if set(scores) & {"typicality", "reconstruction"} else None
    index = np.zeros(0, np.int64) if beside is None else beside.spread(reference)
    if beside is not None and len(index) < 2:
        raise UserError("typicality and reconstruction take at least two training items, and here are fewer")
    unit = unit_of(model.spec)
    bounded = bool(set(scores) & {"bits", "typicality"})
    times = _times(model) if "reconstruction" in scores else []

    def figures(x: np.ndarray) -> dict[str, np.ndarray]:
        keys, found = _keys(x), {}
        if bounded:
            bound = model.bound(x, seed=seed, indices=keys, terms=terms, draws=draws if terms else 1)
            found[unit.column] = unit.of(bound.total)
            if bound.standard_error is not None:
                found[f"{unit.column}_error"] = bound.standard_error * unit.per_nat
        for t in times:
            found[f"error_t{t}"] = _rebuilding(model, x, t, keys, seed, draws, steps)
        found = {name: values.cpu().numpy().astype(np.float64) for name, values in found.items()}
        if "bits" in scores and model.spec.kind == "image" and model.spec.eight_bit:
            found["bits_less_png"] = found[unit.column] - [8 * len(encoded(one, "PNG")) / one.size for one in x]
        return found

    done, all_ = 0, len(items) + len(index)

    def over(parts: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal done
        found: dict[str, list[np.ndarray]] = {}
        for x in parts:
            for name, values in figures(x).items():
                found.setdefault(name, []).append(values)
            done += len(x)
            if progress:
                progress(done, all_)
        return {name: np.concatenate(values) for name, values in found.items()}

    usual = {} if beside is None else over(beside.x[index[i : i + batch]] for i in range(0, len(index), batch))
    own = over(items.x(i, i + batch) for i in range(0, len(items), batch))
    columns = _columns(own, usual, unit.column, scores, times)
    return Scores(items.names, items.labels, data.spec.classes, columns, len(index))


def _columns(
    own: dict[str, np.ndarray], usual: dict[str, np.ndarray], bits: str, scores: Sequence[str], times: Sequence[int]
) -> dict[str, np.ndarray]:
    """What was found, in the order of the scores, with what follows from the training items' figures."""
    columns: dict[str, np.ndarray] = {}
    if "bits" in scores:
        columns |= {name: own[name] for name in (bits, f"{bits}_error", "bits_less_png") if name in own}
    if "typicality" in scores:
        middle = usual[bits].mean()
        if not math.isfinite(middle):
            raise UserError("this run's bound on its own training data is infinite: leave typicality out of --scores")
        columns["typicality"] = np.abs(own[bits] - middle)
    if times:
        errors = [f"error_t{t}" for t in times]
        columns |= {name: own[name] for name in errors}
        standard = [(own[name] - usual[name].mean()) / (usual[name].std(ddof=1) or 1.0) for name in errors]
        columns["reconstruction"] = np.mean(standard, axis=0)
    return columns


class _Items:
    """Both parts of a data set in the order of its source, read piece by piece: they may be larger than memory."""

    def __init__(self, data: Dataset, limit: int | None) -> None:
        self.splits = (data.train, data.heldout)
        rows = np.concatenate([np.arange(len(s)) if s.rows is None else s.rows for s in self.splits])
        # A single item serves on both sides.
        places = np.unique(rows, return_index=True)[1]
        if limit is not None and limit < len(places):
            places = places[np.linspace(0, len(places) - 1, limit).astype(np.int64)]
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def x(self, begin: int, end: int) -> np.ndarray:
        """Items begin … end - 1, as users hold them."""
        first, second = self.splits
        places = self.places[begin:end]
        x = np.empty((len(places), *first.x.shape[1:]), first.x.dtype)
        later = places >= len(first)
        x[~later] = first.x[places[~later]]
        x[later] = second.x[places[later] - len(first)]
        return x

    @property
    def names(self) -> list[str]:
        first, second = (split.names for split in self.splits)
        places: list[int] = self.places.tolist()
        return [first[p] if p < len(first) else second[p - len(first)] for p in places]

    @property
    def labels(self) -> np.ndarray | None:
        first, second = (split.labels for split in self.splits)
        return None if first is None or second is None else np.concatenate([first, second])[self.places]


def _keys(x: np.ndarray) -> np.ndarray:
    """Which sample of a seed each item (N, …) is: 47 bits of its content's hash."""
    return np.array([int.from_bytes(value[:6], "little") >> 1 for value in row_hashes(x)], np.int64)


def _times(model: Model) -> list[int]:
    """The whole times nearest to the log-SNRs, rising; fewer where a short chain has one for several."""
    process = model.denoiser.process
    times = process.schedule.time(torch.tensor(LOG_SNRS, dtype=torch.float64)).detach().round().clamp(min=1)
    return sorted({int(t) for t in times})


@torch.no_grad()
def _rebuilding(model: Model, x: np.ndarray, t: int, keys: np.ndarray, seed: int, draws: int, steps: int) -> Tensor:
    """How wrong the model is about each item from its version at time t, (N,)."""
    x0, noise, denoiser = model.inside(x), model.noise_of(seed, keys), model.bounded
    marginal = denoiser.process.marginal(x0, torch.full((len(x0),), float(t), device=x0.device))
    total = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for draw in range(draws):
        prediction = _back(denoiser, marginal.draw(noise, f"reconstruction {draw}", t), t, steps)
        if isinstance(prediction, Prediction):
            wrong = prediction.distortion(x0)
        else:
            wrong = (-prediction.x0.log_prob(x0) / math.log(2)).clamp(max=_SURPRISE)
        total += wrong.double().flatten(1).mean(1) / draws
    return total


def _back(denoiser: DenoiserBase, x_t: Tensor, t: int, steps: int) -> PredictionBase:
    """The last prediction of x0 on DDIM's way from x_t back, in even steps."""
    solver = DDIM()
    state = solver.start(x_t, torch.linspace(t, 0, steps + 1, dtype=torch.float64))
    while True:
        prediction = denoiser.predict(*solver.query(state))
        if int(state.position[0]) == steps - 1:
            return prediction
        state = solver.advance(state, prediction)
