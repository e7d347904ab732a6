"""What is looked at while a run trains: the bound and the loss of held-out and of training items, and the samples just drawn.

Always the same items under the same noise, so two looks differ only by what was learned between them. Nothing here draws from
a generator that training draws from, and a look is a function of the run's state alone: watching changes no bit of a run, and
a look that is taken again after a resume says the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.bound.interval import Z95, mean_interval, within
from unstir.data import Dataset, DataSpec, Split
from unstir.data.spec import channel_names
from unstir.data.split import row_hashes
from unstir.data.unit import unit_of
from unstir.runs import Model, Run
from unstir.sets.nearest import standing_out
from unstir.sets.newness import compare
from unstir.training.loop import Trainer
from unstir.training.verdict import EARLY, FEW, LOOKS, Verdict, judge, looks

SHARE = 0.04
"""The part of a run's work that looks at likelihood and loss may take; see :func:`items`."""
BINS = 8
"""Noise levels at which the loss is looked at."""
TERMS = 16
"""Network calls for an item's bound, beside the decoder's."""
FEWEST, MOST = 8, 128
_TRAINING = 3  # network calls that learning from an image costs: forward, and backward for inputs and for weights
_BATCH = 64
_SEARCHED, _CONTROL = 10_000, 256  # training items among which the nearest is looked for; held-out items compared with
_DESCRIBED = 2_000  # training items whose channels are described
_CHANNELS = 16


def items(total: int) -> int:
    """How many held-out items, and as many training items, are looked at each time in a run of so many images.

    Learning from an image costs about three network calls, an item's bound and losses ``TERMS + BINS + 1`` without a gradient. So
    that all looks together stay within the share: ``3 SHARE total / (2 LOOKS (TERMS + BINS + 1))``, at least 8 and at most 128.
    """
    return min(max(int(_TRAINING * SHARE * total / (2 * LOOKS * (TERMS + BINS + 1))), FEWEST), MOST)


class Watch:
    """Looks at a trainer; what stays the same from one look to the next is worked out once.

    Args:
        trainer: with its budget in images known.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.spec = trainer.dataset.spec
        self._near: _Near | None = None
        self._data: dict[str, list[float | None]] | None = None

    def record(self, run: Run, drawn: np.ndarray) -> tuple[dict[str, Any], Verdict]:
        """Looks, judges by this and all earlier looks of the run, and writes both down: the line of ``metrics.jsonl``."""
        images = self.trainer.progress.images
        record = {"event": "watch", "images": images, **self.look(drawn)}
        verdict = judge([*(look for look in looks(run.records()) if look["images"] < images), record])
        record["verdict"] = verdict.word
        run.record(**record)
        return record, verdict

    @torch.no_grad()
    def look(self, drawn: np.ndarray) -> dict[str, Any]:
        """A ``watch`` record, with the averaged weights, but for its verdict.

        Args:
            drawn: samples of the averaged weights, as users hold them.
        """
        trainer, sides = self.trainer, {"heldout": self.trainer.dataset.heldout, "train": self.trainer.dataset.train}
        number = min(items(trainer.progress.total), *map(len, sides.values()))
        with trainer.averaged():
            times, losses = [], {}
            for side, split in sides.items():
                times, losses[side] = loss_by_time(trainer, split, number)
            bound = self._bounds(sides, number)
        if bound is None and all(bool(torch.isfinite(loss).all()) for loss in losses.values()):
            # Where no bound can be had, the loss stands in for it.
            bound = {"unit": "loss", **{side: _short(loss.mean(0)) for side, loss in losses.items()}}
        return {
            "bound": bound,
            "times": _short(torch.tensor(times)),
            "loss": {side: _short(loss.mean(1)) for side, loss in losses.items()},
            "loss_error": {side: _errors(loss) for side, loss in losses.items()},
            "channels": self._channels(drawn),
            "copies": self._copies(drawn),
        }

    def _bounds(self, sides: dict[str, Split], number: int) -> dict[str, Any] | None:
        """The estimated bound of each item, in the data's unit; None where it is infinite, or has no meaning for the model."""
        model, unit = Model(self.trainer.denoiser, self.spec, self.trainer.config), unit_of(self.spec)
        # Both sides at once: of few items, half of what a call costs is the call.
        x = np.concatenate([split.x[split.spread(number)] for split in sides.values()])
        parts = []
        for first in range(0, len(x), _BATCH):
            try:
                part = model.bound(x[first : first + _BATCH], seed=self.trainer.config.seed, first=first, terms=TERMS)
            except ValueError:
                return None
            parts.append(unit.of(part.total).cpu())
        values = torch.cat(parts)
        if not bool(torch.isfinite(values).all()):
            return None
        return {"unit": unit.name, **{side: _short(each) for side, each in zip(sides, values.split(number))}}

    def _channels(self, drawn: np.ndarray) -> dict[str, Any]:
        """Mean and standard deviation of each channel of the samples and of the data, with standard errors."""
        if self._data is None:
            train = self.trainer.dataset.train
            self._data = described(self.spec, train.x[train.spread(_DESCRIBED)])
        names = _names(self.spec)
        return {"names": names, "samples": described(self.spec, drawn), "data": self._data}

    def _copies(self, drawn: np.ndarray) -> dict[str, Any] | None:
        """Whether more samples stand next to one training item than held-out items do; None where that cannot be told."""
        if self._near is None:
            self._near = _Near(self.spec, self.trainer.dataset.train, self.trainer.dataset.heldout)
        return self._near.copies(drawn)


class _Near:
    """Training items to look for, once, and how near held-out items are to them."""

    def __init__(self, spec: DataSpec, train: Split, heldout: Split) -> None:
        self.spec, self.train = spec, train
        index = train.spread(_SEARCHED)
        first: dict[bytes, int] = {}
        for place, key in zip(index.tolist(), row_hashes(train.x[index])):
            first.setdefault(key, place)
        self.among = np.fromiter(first.values(), np.int64)
        # Of numbers, bits and symbols honest draws repeat themselves where the data do, and the split kept equal ones together.
        repeats = spec.kind != "image" and len(self.among) < len(index)
        self.silent = repeats or len(self.among) < 2
        self.heldout = np.empty(0) if self.silent else self._ratio(heldout.x[heldout.spread(_CONTROL)])

    def copies(self, drawn: np.ndarray) -> dict[str, Any] | None:
        if self.silent:
            return None
        test = compare(self._ratio(drawn), self.heldout)
        numbers = {"samples": len(drawn), "heldout": len(self.heldout), "rank": test.rank, "nearer": test.nearer}
        return numbers | {"expected": _rounded(test.expected), "p": _rounded(test.tail_p)}

    def _ratio(self, x: np.ndarray) -> np.ndarray:
        def rows(items: np.ndarray) -> Tensor:
            return self.spec.codec.rows(self.spec.inside(items))

        _, _, ratio = standing_out(
            lambda index: rows(x[index]), len(x), lambda index: rows(self.train.x[index]), self.among,
            squared=self.spec.kind in ("bits", "symbols"),
        )  # fmt: skip
        return ratio


def loss_by_time(trainer: Trainer, split: Split, number: int) -> tuple[list[float], Tensor]:
    """The loss of items spread evenly over a split at noise levels as training draws them: (times, losses (bins, items)).

    With the weights and the mode that the network has.
    """
    times, losses = [], []
    for batch in trainer.batches.at_levels(split, number, BINS):
        with torch.no_grad(), trainer.engine.autocast():
            loss = trainer.objective(trainer.denoiser, batch.x0, batch.t, batch.eps, batch.condition)
        times.append(float(batch.t[0]))
        losses.append(loss.double().cpu())
    return times, torch.stack(losses)


def described(spec: DataSpec, x: np.ndarray) -> dict[str, list[float | None]]:
    """``mean``, ``mean_error``, ``std``, ``std_error`` of each channel over items (n, …) as users hold them.

    The errors are standard errors over items, which are independent, where their pixels are not. With a channel's mean m and an
    item's mean square about it q, ``std = sqrt(mean q)``, whose error is that of ``mean q`` over ``2 std``. Of symbols each is a
    channel, 1 where it stands.
    """
    values = _by_channel(spec, x)
    n = len(values)
    means = values.mean(1)
    mean = means.mean(0)
    squares = np.square(values - mean).mean(1)
    std = np.sqrt(squares.mean(0))
    # Of a single item nobody can tell how much items differ.
    spread = [each.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.zeros_like(mean) for each in (means, squares)]
    std_error = np.divide(spread[1], 2 * std, out=np.zeros_like(std), where=std > 0)
    columns = {"mean": mean, "mean_error": spread[0], "std": std, "std_error": std_error}
    return {name: [_rounded(value) for value in column] for name, column in columns.items()}


def _by_channel(spec: DataSpec, x: np.ndarray) -> np.ndarray:
    """float64 (n, places, channels)."""
    if spec.kind == "symbols":
        return (x[:, :, None] == np.arange(spec.symbols or 1)[:_CHANNELS]).astype(np.float64)
    if spec.kind == "bits":
        return x[:, :, None].astype(np.float64)
    return x.reshape(len(x), -1, x.shape[-1])[:, :, :_CHANNELS].astype(np.float64)


def _names(spec: DataSpec) -> list[str]:
    if spec.kind == "bits":
        return ["bits"]
    number = {"image": spec.shape[0], "symbols": spec.symbols or 1}.get(spec.kind, spec.shape[-1])
    return channel_names(spec.kind, number)[:_CHANNELS]


def few(dataset: Dataset) -> str | None:
    """One sentence where there is so little to learn from that copies of it are to be expected."""
    number = len(dataset.train)
    if number >= FEW or dataset.spec.kind not in ("image", "points"):
        return None
    return (
        f"{number:,} items to learn from are few: a network may learn them by heart and draw copies, which is watched for while it "
        "trains"
    )


def sentence(record: dict[str, Any], verdict: Verdict) -> str:
    """A look in one line: ``50,000 images: 2.31 ± 0.04 bits/dim held out (train 2.29): improving, −0.12 ± 0.01 since 40,000``."""
    bound = record["bound"]
    if bound is None:
        return f"{record['images']:,} images: the bound is not finite: {verdict.word}"
    mean, half = mean_interval(torch.tensor(bound["heldout"], dtype=torch.float64), Z95)
    train = sum(bound["train"]) / len(bound["train"])
    digits = len(within(mean, half).split(" ")[0].partition(".")[2])
    said = f"{within(mean, half)} {bound['unit']} held out (train {train:,.{digits}f})".replace(" -", " −")
    # What an alarm rests on it says itself.
    numbers = "" if verdict.alarm or verdict.word == EARLY else f", {verdict.reason}"
    return f"{record['images']:,} images: {said}: {verdict.word}{numbers}"


def _errors(loss: Tensor) -> list[float | None]:
    """Standard errors of the means over items (bins, items)."""
    n = loss.shape[1]
    return _short(loss.std(1) / n**0.5) if n > 1 else [0.0] * len(loss)


def _short(values: Tensor) -> list[float | None]:
    return [_rounded(value) for value in values.double().tolist()]


def _rounded(value: float) -> float | None:
    """To seven digits, about what float32 holds; None for what JSON has no number for."""
    return float(f"{value:.7g}") if math.isfinite(value) else None
