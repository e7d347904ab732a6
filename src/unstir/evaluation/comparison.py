"""Receipts side by side: whether evaluations may be compared at all, and the table if they may."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unstir.errors import UserError
from unstir.evaluation.receipt import Receipt, question, short

MEASURES = {
    **{"frechet": "frechet", "kernel": "kernel"},
    **dict.fromkeys(("precision", "recall", "density", "coverage"), "overlap"),
}
"""What is compared of samples, and the metric that it is of."""
_PLUS, _ERROR = "{:.5f} ± {:.5f}", "{:.6f} (standard error {:.6f})"

_Row = tuple[str, tuple[str, ...]]
_Number = tuple[float, float, str]
"""A value, how sure it is, and how both are written."""


@dataclass(frozen=True)
class Comparison:
    """Evaluations that may be compared, in columns.

    Args:
        names: of the receipts; of two a last column says how far they lie apart. rows: (what, one text each).
        values: of each measure, by receipt. notes: sentences beneath the table.
    """

    names: tuple[str, ...]
    rows: tuple[_Row, ...]
    values: dict[str, list[float]]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; what is infinite, which JSON does not know, is None."""
        values = {name: [x if math.isfinite(x) else None for x in each] for name, each in self.values.items()}
        return {
            "receipts": list(self.names[: len(next(iter(self.values.values())))]),
            "values": values,
            "notes": list(self.notes),
        }

    def table(self) -> str:
        columns = [("", *(what for what, _ in self.rows))]
        columns += [(name, *(texts[i] for _, texts in self.rows)) for i, name in enumerate(self.names)]
        widths = [max(map(len, column)) for column in columns]
        lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in zip(*columns)]
        return "\n".join([*lines, *self.notes])


def compared(receipts: Sequence[tuple[str, Receipt]]) -> Comparison:
    """The likelihoods and distances that all receipts have, if they are of one kind.

    Raises:
        UserError: naming what differs: numbers on other data, in other features or from other counts do not compare.
    """
    if len(receipts) < 2:
        raise UserError("a comparison takes two receipts at least")
    has = {name: _metrics(each) for name, each in receipts}
    common = [metric for metric in has[receipts[0][0]] if all(metric in each for each in has.values())]
    shared = [key for key in ("bound", "ode") if key in common]
    shared += ["quality"] * any(metric in common for metric in MEASURES.values())
    if not shared:
        raise UserError(
            "these receipts have no measure in common that tells models apart: "
            + "; ".join(f"{name} has {', '.join(each) or 'none'}" for name, each in has.items())
        )
    (first_name, first), *others = receipts
    for name, other in others:
        differ = unlike(first, other, shared)
        if differ:
            raise UserError(f"{first_name} and {name} do not compare: {'; '.join(differ)}")
    facts: list[_Row] = [
        ("weights", tuple(f"{each['model']['weights']}, {each['model']['images']:,} images" for _, each in receipts))
    ]
    measured: list[tuple[str, list[_Number]]] = []
    for key in ("bound", "ode"):
        if key in shared:
            results = [each["results"][key] for _, each in receipts]
            numbers = [(_or_infinite(r["total"]), _or_infinite(r["half_width"]), _PLUS) for r in results]
            measured.append((f"{results[0]['unit']} ({key})", numbers))
    if "bound" in shared:
        facts.append(("chain", tuple(f"{each['results']['bound']['chain']} steps" for _, each in receipts)))
    if "quality" in shared:
        facts.append(("samples", tuple(each["results"]["quality"]["drawn"] for _, each in receipts)))
        at = first["results"]["quality"]["extractor"]
        found = [each["results"]["quality"]["values"] for _, each in receipts]
        measured += [
            (f"{m}@{at}", [_number(each, m) for each in found]) for m in MEASURES if all(m in e for e in found)
        ]
    rows = [*facts, *((name, tuple(map(_shown, values))) for name, values in measured)]
    if "yardsticks" in common:
        rows += _yardsticks([each["results"]["yardsticks"] for _, each in receipts])
    names = tuple(name for name, _ in receipts)
    if len(receipts) == 2:
        names += ("second less first",)
        gaps = {name: _shown(_gap(*values)) for name, values in measured}
        rows = [(name, (*texts, gaps.get(name, ""))) for name, texts in rows]
    values = {name: [value for value, _, _ in numbers] for name, numbers in measured}
    return Comparison(names, tuple(rows), values, tuple(_notes(receipts, has, shared)))


def unlike(a: Receipt, b: Receipt, results: Sequence[str]) -> list[str]:
    """What forbids comparing these results of two receipts, in words; empty where nothing does."""
    found: list[str] = []

    def ask(what: str, one: Any, other: Any) -> None:
        if one != other:
            found.append(f"{what}: {short(one)} and {short(other)}")

    ask("other data", a["data"]["hash"], b["data"]["hash"])
    ask("prepared by other rules", a["data"]["rules"], b["data"]["rules"])
    if {"bound", "ode"} & set(results):
        ask("bound given labels", *(question(each)[0].given_labels for each in (a, b)))
        for key in [key for key in ("bound", "ode") if key in results]:
            ask("other units", a["results"][key]["unit"], b["results"][key]["unit"])
            ask("items measured", a["results"][key]["items"], b["results"][key]["items"])
    if "quality" in results:
        ask("other features", *(f"{each['extractor']['name']} {each['extractor']['hash']}" for each in (a, b)))
        for key in ("samples", "real", "heldout"):
            ask(f"counts of {key}", *(each["results"]["quality"][key] for each in (a, b)))
    return found


def _metrics(receipt: Receipt) -> list[str]:
    """What was measured, as it is asked for; of samples only what there are values of."""
    results = receipt["results"]
    quality = (
        metric for measure, metric in MEASURES.items() if measure in results.get("quality", {}).get("values", {})
    )
    return [*(key for key in results if key != "quality"), *dict.fromkeys(quality)]


def _notes(
    receipts: Sequence[tuple[str, Receipt]], has: Mapping[str, Sequence[str]], shared: Sequence[str]
) -> Iterator[str]:
    if len(receipts) == 2 and _same_items(receipts[0][1], receipts[1][1], shared):
        yield "the same items: the difference is surer than ± says"
    alone: dict[str, list[str]] = {}
    for metric in dict.fromkeys(metric for each in has.values() for metric in each):
        holders = [name for name, each in has.items() if metric in each]
        if len(holders) < len(has):
            alone.setdefault(", ".join(holders), []).append(metric)
    if alone:
        yield "; ".join(f"only in {names}: {', '.join(metrics)}" for names, metrics in alone.items())


def _same_items(a: Receipt, b: Receipt, shared: Sequence[str]) -> bool:
    """Whether likelihoods are of the very same items with the very same noise; data and counts are known to be the same."""
    if not {"bound", "ode"} & set(shared):
        return False
    one, other = question(a)[0], question(b)[0]
    same = (one.images, one.seed) == (other.images, other.seed)
    if "bound" in shared:
        same &= one.terms == other.terms and a["results"]["bound"]["chain"] == b["results"]["bound"]["chain"]
    return same


def _yardsticks(found: Sequence[Mapping[str, Any]]) -> list[_Row]:
    """What other coders need, where that was for as many items in each receipt."""
    if len({each["items"] for each in found}) > 1:
        return []
    values = [{row.get("name"): row.get("value") for row in each["rows"]} for each in found]
    names = [name for name in values[0] if all(name in each for each in values)]
    return [
        (f"{name} (yardstick)", tuple(_shown((_or_infinite(each[name]), 0.0, "{:.5f}")) for each in values))
        for name in names
    ]


def _or_infinite(value: float | None) -> float:
    """Out of JSON, where what is infinite is null."""
    return math.inf if value is None else float(value)


def _number(values: Mapping[str, float | None], measure: str) -> _Number:
    for suffix, form in (("_half", _PLUS), ("_error", _ERROR)):
        if measure + suffix in values:
            return _or_infinite(values[measure]), _or_infinite(values[measure + suffix]), form
    return _or_infinite(values[measure]), 0.0, "{:.4f}"


def _shown(number: _Number) -> str:
    value, width, form = number
    return "unknown" if math.isnan(value) else form.format(value, width)


def _gap(first: _Number, second: _Number) -> _Number:
    """Their difference, as wide as that of two independent numbers: of the same items' bounds rather too wide."""
    return second[0] - first[0], math.hypot(first[1], second[1]), first[2].replace("{:", "{:+", 1)
