"""Receipts side by side: whether evaluations may be compared at all, and the table if they may."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unstir.errors import UserError
from unstir.evaluation.receipt import Receipt, short

MEASURES = ("frechet", "kernel", "precision", "recall", "density", "coverage")
_PLUS, _ERROR = "{:.5f} ± {:.5f}", "{:.6f} (standard error {:.6f})"

_Row = tuple[str, tuple[str, ...]]
_Number = tuple[float, float, str]
"""A value, how sure it is, and how both are written."""


@dataclass(frozen=True)
class Comparison:
    """Evaluations that may be compared, in columns.

    Args:
        names: of the receipts; of two a last column says how far they lie apart. rows: (what, one text each).
        values: of each measure, by receipt.
    """

    names: tuple[str, ...]
    rows: tuple[_Row, ...]
    values: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {"receipts": list(self.names[: len(next(iter(self.values.values())))]), "values": self.values}

    def table(self) -> str:
        columns = [("", *(what for what, _ in self.rows))]
        columns += [(name, *(texts[i] for _, texts in self.rows)) for i, name in enumerate(self.names)]
        widths = [max(map(len, column)) for column in columns]
        lines = zip(*columns)
        return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def compared(receipts: Sequence[tuple[str, Receipt]]) -> Comparison:
    """The likelihoods and distances that all receipts have, if they are of one kind.

    Raises:
        UserError: naming what differs: numbers on other data, in other features or from other counts do not compare.
    """
    if len(receipts) < 2:
        raise UserError("a comparison takes two receipts at least")
    shared = [key for key in ("bound", "ode", "quality") if all(key in each["results"] for _, each in receipts)]
    if not shared:
        raise UserError("these receipts have no measure in common")
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
            measured.append((f"{results[0]['unit']} ({key})", [(r["total"], r["half_width"], _PLUS) for r in results]))
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
    names = tuple(name for name, _ in receipts)
    if len(receipts) == 2:
        names += ("second less first",)
        gaps = {name: _shown(_gap(*values)) for name, values in measured}
        rows = [(name, (*texts, gaps.get(name, ""))) for name, texts in rows]
    values = {name: [value for value, _, _ in numbers] for name, numbers in measured}
    return Comparison(names, tuple(rows), values)


def unlike(a: Receipt, b: Receipt, results: Sequence[str]) -> list[str]:
    """What forbids comparing these results of two receipts, in words; empty where nothing does."""
    found: list[str] = []

    def ask(what: str, one: Any, other: Any) -> None:
        if one != other:
            found.append(f"{what}: {short(one)} and {short(other)}")

    ask("other data", a["data"]["hash"], b["data"]["hash"])
    ask("prepared by other rules", a["data"]["rules"], b["data"]["rules"])
    if {"bound", "ode"} & set(results):
        ask("bound given labels", a["asked"]["given_labels"], b["asked"]["given_labels"])
        for key in {"bound", "ode"} & set(results):
            ask("items measured", a["results"][key]["items"], b["results"][key]["items"])
    if "quality" in results:
        ask("other features", *(f"{each['extractor']['name']} {each['extractor']['hash']}" for each in (a, b)))
        for key in ("samples", "real", "heldout"):
            ask(f"counts of {key}", *(each["results"]["quality"][key] for each in (a, b)))
    return found


def _number(values: Mapping[str, float], measure: str) -> _Number:
    for suffix, form in (("_half", _PLUS), ("_error", _ERROR)):
        if measure + suffix in values:
            return values[measure], values[measure + suffix], form
    return values[measure], 0.0, "{:.4f}"


def _shown(number: _Number) -> str:
    value, width, form = number
    return form.format(value, width)


def _gap(first: _Number, second: _Number) -> _Number:
    """Their difference, as wide as that of two independent numbers: of the same items' bounds rather too wide."""
    return second[0] - first[0], math.hypot(first[1], second[1]), first[2].replace("{:", "{:+", 1)
