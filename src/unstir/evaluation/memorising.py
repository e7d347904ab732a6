"""Does a model copy its training data? Nearest training items of samples and of held-out items, compared, shown and named.

Raw distances do not tell: a blurred sample, near to the middle of everything, is nearer to its nearest training item than any
real picture, and no copy. The verdict uses the ratio

    ``distance to the nearest training item / mean distance to the next ten different ones``,

which has no scale (Carlini et al. 2023 extract training pictures by it). What belongs to the data as a whole is about as far
from the next as from the nearest, blurred or sharp; only a copy stands much nearer to one than to all others.

What it cannot see: copies that neither space thinks near (shifted or mirrored in pixels; whatever an extractor's features
leave out), copies of parts, copies of an item that more than ten others nearly equal, and a few copies among very many
samples. And to be nearer as a whole is not to copy: so is a model that draws too much of what is densest in the data, and any
model where held-out items are of another law than training items, as MNIST's are by other writers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unstir.data import DataSpec, Split, contact_sheet
from unstir.data.split import duplicates, row_hashes
from unstir.errors import UserError
from unstir.evaluation.duplicates import Duplicates, repeated
from unstir.sets.nearest import NEXT, Rows, standing_out
from unstir.sets.newness import Newness, compare, conformal
from unstir.sets.resampling import shuffled

ALARM = 0.01
"""The chance that all tests together raise an alarm at samples as new as held-out items."""

_HELDOUT = 2_000  # held-out items that are looked at
_SHOWN = 20  # suspects
_FAR = 1.5
_OWN = {"image": "pixels", "points": "coordinates"}  # what the numbers that networks see are called
_PICTURES = 8  # of a kind, on a sheet


@dataclass(frozen=True)
class Suspect:
    """One sample and the training item that it is nearest to.

    Args:
        sample: its number. nearest: the item's name. p: the chance that a new item is as near, by the ratio.
    """

    sample: int
    nearest: str
    distance: float
    ratio: float
    p: float


@dataclass(frozen=True)
class Space:
    """How near samples (n,) and held-out items (m,) are to training items in one space.

    Args:
        name: ``pixels``, ``places`` (of bits and symbols: how many differ), ``coordinates``, or the extractor's name.
        nearest: the nearest training item's row, (n,); of equal items the first. Where sides were mixed, rows of held-out items
            follow those of training items.
        distance, ratio: (n,) and ``heldout_`` (m,). p: conformal, by the ratio, (n,).
        by_ratio, by_distance: the tests of each; the verdict is by the ratio.
        exact, heldout_exact: how many are at distance 0.
        suspects: the most suspicious samples first.
        level: below which one test's p is an alarm.
    """

    name: str
    nearest: np.ndarray
    distance: np.ndarray
    ratio: np.ndarray
    heldout_distance: np.ndarray
    heldout_ratio: np.ndarray
    p: np.ndarray
    by_ratio: Newness
    by_distance: Newness
    suspects: tuple[Suspect, ...]
    level: float

    @property
    def exact(self) -> int:
        return int((self.distance == 0).sum())

    @property
    def heldout_exact(self) -> int:
        return int((self.heldout_distance == 0).sum())

    @property
    def alarm(self) -> bool:
        """Whether either test is below the level."""
        return min(self.by_ratio.tail_p, self.by_ratio.whole_p) < self.level

    @property
    def verdict(self) -> str:
        test, n = self.by_ratio, len(self.ratio)
        if test.tail_p < self.level:
            return (
                f"copies: {test.nearer:,} of {n:,} samples are nearer to one training item than "
                f"{_most(test, len(self.heldout_ratio))} of held-out ones, {test.expected:.1f} by chance (p = {test.tail_p:.2g})"
            )
        if test.whole_p < self.level:
            return (
                f"nearer as a whole: in {100 * test.share:.1f} % of pairs a sample is nearer to one training item than a held-out "
                f"one is, 50 % by chance (p = {test.whole_p:.2g}), but no more of them stand out than by chance"
            )
        return "no sign of copying"

    def to_json(self) -> dict[str, Any]:
        """Numbers, and the first of the suspects."""
        halves = {
            "median_distance": self.distance,
            "median_distance_heldout": self.heldout_distance,
            "median_ratio": self.ratio,
            "median_ratio_heldout": self.heldout_ratio,
        }
        return {
            "verdict": self.verdict,
            "samples": len(self.ratio),
            "heldout": len(self.heldout_ratio),
            **{key: float(np.median(values)) for key, values in halves.items()},
            "exact": self.exact,
            "exact_heldout": self.heldout_exact,
            "by_ratio": self.by_ratio.to_json(),
            "by_distance": self.by_distance.to_json(),
            "suspects": [vars(suspect) for suspect in self.suspects],
        }

    def lines(self) -> list[str]:
        n, m = len(self.ratio), len(self.heldout_ratio)
        return [
            f"  {self.name}: {self.verdict}",
            "    ratio     " + _told(self.ratio, self.heldout_ratio, self.by_ratio),
            "    distance  " + _told(self.distance, self.heldout_distance, self.by_distance),
            f"    equal to a training item: {self.exact:,} of {n:,} samples, {self.heldout_exact:,} of {m:,} held-out items",
            *(
                f"    sample {s.sample} beside {s.nearest}: ratio {s.ratio:.3g}, p = {s.p:.2g} for it alone"
                for s in self.suspects[: 5 if self.alarm else 1]
            ),
        ]


@dataclass(frozen=True)
class Memorising:
    """Nearest training items, the tests, and what the training data hold twice.

    Args:
        spaces: by name.
        mixed: whether the held-out items compared with were drawn anew from both sides of the split.
    """

    spaces: dict[str, Space]
    duplicates: Duplicates
    mixed: bool

    @property
    def verdict(self) -> str:
        """In words, of all tests together, of which one in a hundred would raise an alarm for nothing."""
        alarms = [f"{space.verdict}, in {space.name}" for space in self.spaces.values() if space.alarm]
        # What single samples show comes before what shows on average.
        return "; ".join(sorted(alarms)) or "no sign of copying"

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; lists hold their first 20."""
        return {
            "verdict": self.verdict,
            "alarm_by_chance": ALARM,
            "next": NEXT,
            "mixed": self.mixed,
            "spaces": {name: space.to_json() for name, space in self.spaces.items()},
            "duplicates": self.duplicates.to_json(),
        }

    def table(self) -> str:
        mixed = "  equal items stand on one side of the split: those compared with were drawn from both sides anew"
        return "\n".join(
            [
                f"memorising  {self.verdict}",
                *(line for space in self.spaces.values() for line in space.lines()),
                *([mixed] if self.mixed else ()),
                *self._far(),
                *self.duplicates.lines(),
                f"  ratio: to the nearest training item, over the mean of the next {NEXT} different ones",
                f"  all tests together raise a false alarm once in {round(1 / ALARM)} times",
            ]
        )

    def _far(self) -> list[str]:
        """Whether the samples are near to the data at all: what is far from everything is no copy, and no achievement."""
        far = [s.name for s in self.spaces.values() if np.median(s.distance) > _FAR * np.median(s.heldout_distance) > 0]
        if not far:
            return []
        return [
            f"  in {' and '.join(far)} samples lie more than {_FAR} times as far from the training data as held-out items do: "
            "too poor to be copies"
        ]

    def sheet(self, samples: np.ndarray, training: Split, spec: DataSpec) -> Image.Image:
        """Samples beside their nearest training pictures, six in a row: one of the 8 most suspicious samples, its nearest in
        pixels, its nearest in features; then the same of one of the first 8 samples.

        Args:
            samples, training: those that were measured.

        Raises:
            UserError: for data that are not pictures.
        """
        spaces = list(self.spaces.values())
        order = np.lexsort([np.min([s.ratio for s in spaces], 0), np.min([s.p for s in spaces], 0)])
        number = min(_PICTURES, len(samples))
        shown = []
        for pair in zip(order[:number], range(number)):
            for i in pair:
                shown += [samples[i], *(training.x[space.nearest[i]] for space in spaces)]
        return contact_sheet(spec.levels(np.stack(shown)), columns=2 * (1 + len(spaces)))


def measure(
    samples: np.ndarray,
    sample_features: Tensor,
    training: Split,
    training_features: Tensor,
    heldout: Split,
    heldout_features: Tensor,
    inside: Callable[[np.ndarray], Tensor],
    extractor_name: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Memorising:
    """The nearest training item of every sample, and of at most 2,000 held-out items, in two spaces.

    The first space is what networks see (of bits and symbols the number of places that differ), the second the extractor's.
    Training items that are there several times count once. In each space both tests of :mod:`~unstir.sets.newness`
    ask whether samples are nearer, by the ratio; the four together raise an alarm by chance once in a hundred times (Bonferroni),
    whatever the data.

    The split keeps equal items on one side, so that no held-out picture is a copy. Of bits, symbols and points, where honest
    draws repeat themselves, that would make honest samples look like copies: if training items do repeat themselves, the items
    to compare with are drawn anew, by chance alone, from training and held-out items together, and the rest are neighbours.

    Args:
        samples: as users hold them, (n, …). inside: takes such data to what networks see.
        sample_features, training_features, heldout_features: float64 (·, F), a row for each item.
        progress: called with (items done, all), an item once in each space.

    Raises:
        UserError: without a sample or a held-out item, or with less than two different training items.
        ValueError: for features of other numbers of rows.
    """
    for rows, features in ((samples, sample_features), (training, training_features), (heldout, heldout_features)):
        if len(rows) != len(features):
            raise ValueError(f"{len(rows)} items have as many rows of features, not {len(features)}")
    if not (len(samples) and len(heldout)):
        raise UserError("copies are told from new items: this takes samples, and held-out items to compare them with")
    kind = training.codec.kind
    hashes = row_hashes(training.x)
    groups = duplicates(hashes)
    among, control = np.arange(len(training)), len(training) + heldout.spread(_HELDOUT)
    mixed = bool(groups) and kind != "image"
    if mixed:
        order = shuffled(torch.arange(len(training) + len(heldout)), 0, "mixed").numpy()
        control, among = order[: len(control)], np.sort(order[len(control) :])
        hashes = hashes + row_hashes(heldout.x)
    first: dict[bytes, int] = {}
    for i in among.tolist():
        first.setdefault(hashes[i], i)
    among = np.fromiter(first.values(), np.int64)
    if len(among) < 2:
        raise UserError("copies are told by how far the next training item is: this takes two different ones at least")

    def named(i: int) -> str:
        return training.names[i] if i < len(training) else heldout.names[i - len(training)]

    def numbers(data: np.ndarray) -> Tensor:
        return training.codec.rows(inside(data).cpu())

    n, own = len(samples), _OWN.get(kind, "places")
    seen, known, held = (x.cpu().numpy() for x in (sample_features, training_features, heldout_features))
    sides: dict[str, tuple[Rows, Rows]] = {
        own: (lambda i: numbers(samples[i]), lambda i: numbers(_either(training.x, heldout.x, i))),
        extractor_name: (
            lambda i: torch.from_numpy(seen[i]),
            lambda i: torch.from_numpy(_either(known, held, i)),
        ),
    }
    spaces: dict[str, Space] = {}
    items = n + len(control)
    for turn, (name, (drawn, kept)) in enumerate(sides.items()):
        spaces[name] = _space(
            name, drawn, n, kept, control, among, named, ALARM / (2 * len(sides)),
            None if progress is None else lambda done, _, turn=turn: progress(turn * items + done, 2 * items),
        )  # fmt: skip
    typical = float(np.median(spaces[extractor_name].heldout_distance)) if kind == "image" else None
    return Memorising(spaces, repeated(training, groups, training_features, extractor_name, typical), mixed)


def _most(test: Newness, m: int) -> str:
    """The share of held-out items beyond which a sample counts."""
    return f"{100 * (1 - test.rank / m):.4g} %"


def _told(values: np.ndarray, heldout: np.ndarray, test: Newness) -> str:
    return (
        f"median {np.median(values):.4g}, held-out {np.median(heldout):.4g}; {test.nearer:,} samples below "
        f"{_most(test, len(heldout))} of held-out ones, {test.expected:.1f} by chance (p = {test.tail_p:.2g}); "
        f"below in {100 * test.share:.1f} % of pairs (p = {test.whole_p:.2g})"
    )


def _either(first: np.ndarray, second: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of both, the second's after the first's: end to end they may be too much to hold, and may be memory maps."""
    late = index >= len(first)
    out = np.empty((len(index), *first.shape[1:]), first.dtype)
    out[~late], out[late] = first[index[~late]], second[index[late] - len(first)]
    return out


def _space(
    name: str,
    drawn: Rows,
    n: int,
    kept: Rows,
    control: np.ndarray,
    among: np.ndarray,
    named: Callable[[int], str],
    level: float,
    progress: Callable[[int, int], None] | None,
) -> Space:
    """One space: samples and control items in one search, samples first."""

    def both(index: np.ndarray) -> Tensor:
        late = index >= n
        parts = [drawn(index[~late])] if not late.all() else []
        return torch.cat([*parts, kept(control[index[late] - n])] if late.any() else parts)

    found = standing_out(both, n + len(control), kept, among, squared=name == "places", progress=progress)
    (nearest, _), (distance, heldout_distance), (ratio, heldout_ratio) = (np.split(each, [n]) for each in found)
    p = conformal(ratio, heldout_ratio)
    suspects = tuple(
        Suspect(int(i), named(int(nearest[i])), float(distance[i]), float(ratio[i]), float(p[i]))
        for i in np.lexsort([distance, ratio])[:_SHOWN]
    )
    return Space(
        name, nearest, distance, ratio, heldout_distance, heldout_ratio, p,
        compare(ratio, heldout_ratio), compare(distance, heldout_distance), suspects, level,
    )  # fmt: skip
