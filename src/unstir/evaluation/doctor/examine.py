"""The looks in their order, and what they say together: the most likely cause first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unstir.data import Dataset
from unstir.evaluation.doctor import channels, data, grid, labels, learned, samples, schedule, weights
from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import Finding, Look
from unstir.runs import Model, Run

Check = Callable[[Evidence], Look | None]

_DATA: tuple[Check, ...] = (data.levels,)
_NETWORK: tuple[Check, ...] = (
    schedule.written, schedule.times, channels.order, channels.tint, learned.learned, learned.high_noise,
    schedule.end, grid.grid, labels.use, samples.copies, samples.channels, data.recorded,
)  # fmt: skip

_ORDER = (
    "weights-not-finite", "model-unreadable", "data-range", "data-scale", "data-other", "ema-too-young", "ema-worse",
    "undone", "memorised", "wrong", "untrained", "undertrained", "schedule-end", "grid-start", "grid-coarse", "labels-unused",
    "high-noise", "samples-shifted", "samples-spread",
)  # fmt: skip
"""What explains others comes before what it explains: no network can be better than its weights and its data; what was undone
and took the loss away is surer than what only says that the loss is large; and how samples look comes last."""

_UNDONE = ("schedule-mismatch", "channels-swapped", "tint")
_CAUSE = 0.75
"""A fault explains a network that knows nothing only where without it the network knows something: where its loss is then at most this
part of the beginning's. Else the network is untrained first, and what was undone one of the ways in which that shows."""


@dataclass(frozen=True)
class Diagnosis:
    """What was looked at and what was found, the most likely cause first.

    Args:
        weights: whose answers were looked at.
    """

    looks: tuple[Look, ...]
    weights: str

    @property
    def findings(self) -> tuple[Finding, ...]:
        found = [(look.rest, look.finding) for look in self.looks if look.finding is not None]
        return tuple(finding for _, finding in sorted(found, key=_rank))

    @property
    def healthy(self) -> bool:
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {
            "healthy": self.healthy,
            "weights": self.weights,
            "findings": [finding.to_json() for finding in self.findings],
            "checked": [look.to_json() for look in self.looks],
        }

    def table(self) -> str:
        """Sentences, then the figures behind them."""
        lines = [f"{i}. {f.text}.\n   {f.advice}." for i, f in enumerate(self.findings, 1)]
        if not lines:
            lines = [f"healthy: nothing was found in {len(self.looks)} looks."]
        width = max(len(look.name) for look in self.looks)
        return "\n".join([*lines, "", *(f"{look.name:<{width}}  {look.said}" for look in self.looks), *self._levels()])

    def _levels(self) -> list[str]:
        """One-step x0 at several t: the losses by level."""
        rows = next((look.figures["by_level"] for look in self.looks if look.name == "learned"), [])
        if not rows:
            return []
        names = [name for name in rows[0] if name not in ("t", "noise")]
        head = f"{'t':>8} {'noise':>8} " + " ".join(f"{name:>15}" for name in names)
        return [
            "",
            f"held-out loss of one step from x_t to x0, {self.weights} weights",
            head,
            *(f"{r['t']:8.4g} {r['noise']:8.3g} " + " ".join(f"{r[name]:15.4f}" for name in names) for r in rows),
        ]


def examine(
    model: Model, dataset: Dataset, run: Run | None = None, *, progress: Callable[[int, int, str], None] | None = None
) -> Diagnosis:
    """Looks at a model with its data.

    Args:
        model: on its device; of a run the averaged weights.
        dataset: the model's own data, or other data prepared by its rules.
        run: the folder, whose raw weights and files are looked at too; None of a single file.
        progress: called with (looks done, all, what is looked at).

    Raises:
        UserError: for a way of sampling that does not suit the model.
    """
    evidence = Evidence(model, dataset, run)
    total = len(_DATA) + 2 + len(_NETWORK)
    looks: list[Look] = []

    def look(check: Check) -> Look | None:
        if progress:
            progress(len(looks), total, check.__name__)
        found = check(evidence)
        if found is not None:
            looks.append(found)
        return found

    for check in _DATA:
        look(check)
    broken = look(weights.finite)
    if broken is not None and broken.finding is not None:
        return Diagnosis(tuple(looks), model.weights)
    average = look(weights.averages)
    if average is not None and average.finding is not None and evidence.raw is not None:
        evidence.subject = evidence.raw  # what else is wrong shows where the average does not hide it
    for check in _NETWORK:
        look(check)
    if progress:
        progress(total, total, "")
    return Diagnosis(tuple(looks), evidence.subject.weights)


def _rank(found: tuple[float, Finding]) -> tuple[float, float]:
    rest, finding = found
    if finding.name not in _UNDONE:
        return _ORDER.index(finding.name), 0.0
    return (_ORDER.index("undone") if rest < _CAUSE else _ORDER.index("untrained") + 0.5), rest
