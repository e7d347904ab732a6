"""What the watching says: improving, plateau, memorising; a pure function of the records.

Every look measures the same items under the same noise, so two looks are compared item by item. Where a mean of differences
stands, in t units, is Student's question; three of them make the verdict:

- *improving*: the held-out bound is below the look before, with 97.5 % confidence (its 95 % interval lies below 0);
- *memorising*: since some earlier look the held-out bound has risen and its distance from the training bound has grown, both
  surely; or more samples stand next to one training item than held-out items do, surely. "Surely": over all looks and pairs of
  looks of a run a false alarm comes at most once in a hundred runs (Bonferroni, half for each of the two ways);
- *plateau*: neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from unstir.bound.interval import Z95, mean_interval, student, within
from unstir.runs.records import standing

IMPROVING, PLATEAU, MEMORISING, EARLY = "improving", "plateau", "memorising", "too early to say"
ALARM = 0.01
"""The chance that a run that memorises nothing is ever called memorising."""
LOOKS = 5
"""How often a run is looked at."""
FEW = 2_000
"""Items to learn from, below which copies are to be expected."""

ADVICE = (
    "what helps: more data; --augment 0.12, or --flip where mirrored pictures are as good; a shorter budget; a smaller network; "
    "early.safetensors holds the weights after a fifth of the budget"
)


@dataclass(frozen=True)
class Verdict:
    """A word, and the numbers that it rests on: how the held-out bound changed, or what shows that something is learned by heart."""

    word: str
    reason: str = ""

    @property
    def alarm(self) -> str:
        """One loud sentence where training data are being memorised, else nothing."""
        return f"WARNING, memorising: {self.reason}; {ADVICE}" if self.word == MEMORISING else ""


def looks(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ``watch`` lines of a run's records that still hold, by images seen; what is recorded twice counts once."""
    found = {each["images"]: each for each in standing(records) if each.get("event") == "watch"}
    return [found[images] for images in sorted(found)]


def judge(watched: Sequence[dict[str, Any]]) -> Verdict:
    """The verdict at the last of these looks.

    Args:
        watched: ``watch`` records by rising images: see :mod:`unstir.training.watch`.
    """
    if not watched:
        return Verdict(EARLY, "nothing was looked at yet")
    now, number = watched[-1], max(LOOKS, len(watched))
    # Where a bound was infinite a loss stood in for it, and the two do not compare.
    watched = [look for look in watched if look["bound"] and _alike(look, now)]
    copied = _copies(now, ALARM / 2 / number)
    if not now["bound"]:
        return Verdict(MEMORISING, copied[0]) if copied else Verdict(EARLY, "the bound is not finite")
    level = ALARM / (number * (number - 1))
    grown = [rise for before in watched if before is not now and (rise := _overfitted(before, now, level))]
    if copied or grown:
        return Verdict(MEMORISING, "; ".join([*copied, *(max(grown)[1:] if grown else ())]))
    if len(watched) < 2:
        return Verdict(EARLY, "one look has nothing to be compared with")
    before = watched[-2]
    change, half = mean_interval(_change(before, now, "heldout"), Z95)
    said = f"{_signed(change, half)} since {before['images']:,}"
    if math.isinf(half):
        return Verdict(EARLY, "one held-out item does not tell")
    return Verdict(IMPROVING if change + half < 0 else PLATEAU, said)


def _alike(look: dict[str, Any], now: dict[str, Any]) -> bool:
    ours, theirs = now["bound"] or look["bound"], look["bound"]
    return ours["unit"] == theirs["unit"] and all(len(ours[side]) == len(theirs[side]) for side in ("heldout", "train"))


def _copies(now: dict[str, Any], level: float) -> list[str]:
    copies = now.get("copies")
    if not copies or not copies["p"] < level:
        return []
    return [nearer(copies)]


def nearer(copies: dict[str, Any]) -> str:
    """The ``copies`` of a look in words."""
    least = f"all but {copies['rank'] - 1:,}" if copies["rank"] > 1 else "any"
    return (
        f"{copies['nearer']:,} of {copies['samples']:,} samples stand nearer to one training item than {least} of "
        f"{copies['heldout']:,} held-out items, {copies['expected']:.1f} by chance (p = {copies['p']:.2g})"
    )


def _overfitted(before: dict[str, Any], now: dict[str, Any], level: float) -> tuple[float, str] | None:
    """Where held-out items are surely worse than before and training items surely less so: how much worse, and what is said."""
    heldout, train = _change(before, now, "heldout"), _change(before, now, "train")
    if min(len(heldout), len(train)) < 2:
        return None
    worse, half = mean_interval(heldout, _beyond(level))
    if worse <= half:
        return None
    parts = [(float(values.double().var()) / len(values), len(values) - 1) for values in (heldout, train)]
    variance = sum(square for square, _ in parts)
    # Welch and Satterthwaite's degrees of freedom of a difference of two means.
    freedom = variance**2 / max(sum(square**2 / n for square, n in parts), 1e-300)
    grown = worse - float(train.mean())
    if grown <= student(_beyond(level), freedom) * math.sqrt(variance):
        return None
    said = (
        f"since {before['images']:,} the held-out bound rose by {_signed(worse, half).lstrip('+')} {now['bound']['unit']} and its "
        f"distance from the training bound by {grown:.3g}"
    )
    return worse, said


def _change(before: dict[str, Any], now: dict[str, Any], side: str) -> Tensor:
    then, at = (torch.tensor(look["bound"][side], dtype=torch.float64) for look in (before, now))
    return at - then


def _beyond(level: float) -> float:
    """Where a standard normal is exceeded with this chance."""
    return NormalDist().inv_cdf(1 - level)


def _signed(value: float, half: float) -> str:
    said = within(value, half)
    return said if said.startswith("−") else f"+{said}"
