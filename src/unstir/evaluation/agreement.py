"""Two receipts side by side: whether a repetition agrees, and whether two evaluations may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.evaluation.receipt import Receipt, weights_hash
from unstir.runs import Model

CLOSE, SHARE = 0.01, 0.1
"""A repeated number agrees within 1 % of itself or a tenth of its own interval: what other processors' rounding can do."""
_NEVER_REPEATED = {"seconds"}

Value = float | list[float]


@dataclass(frozen=True)
class Row:
    """One number, then and now.

    Args:
        allowed: how far apart the two may lie. apart: how far they do; of lists the furthest entries.
    """

    name: str
    then: Value | None
    now: Value | None
    apart: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return self.apart <= self.allowed


@dataclass(frozen=True)
class Repeated:
    """All numbers of a receipt beside those of its repetition.

    Args:
        other: what the two were made with that is not the same: versions, device, threads.
    """

    rows: tuple[Row, ...]
    other: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return all(row.agrees for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        wrong = [{"name": row.name, "then": row.then, "now": row.now} for row in self.rows if not row.agrees]
        furthest = max((row.apart for row in self.rows), default=0.0)
        return {
            "agrees": self.agrees,
            "numbers": len(self.rows),
            "identical": furthest == 0,
            "differ": wrong,
            "made_with": list(self.other),
        }

    def table(self) -> str:
        wrong, equal = [row for row in self.rows if not row.agrees], sum(row.apart == 0 for row in self.rows)
        lines = [f"{row.name}: {_shown(row.then)} then, {_shown(row.now)} now" for row in wrong]
        if not wrong:
            exact = "to the last bit" if equal == len(self.rows) else f"to rounding, {equal} to the last bit"
            lines.append(f"agrees: all {len(self.rows)} numbers, {exact}")
        else:
            lines.append(f"does not agree: {len(wrong)} of {len(self.rows)} numbers differ")
        return "\n".join([*lines, *self.other])


def repeated(then: Receipt, now: Receipt) -> Repeated:
    """Each number of a receipt against the same number of its repetition.

    Within 1 % of itself or a tenth of its interval counts as the same: the seeds are the same, so nothing but rounding differs
    between machines.
    """
    old, new = dict(numbers(then["results"])), dict(numbers(now["results"]))
    rows = []
    for name in dict.fromkeys([*old, *new]):
        (before, allowed), (after, _) = old.get(name, (None, 0.0)), new.get(name, (None, 0.0))
        rows.append(Row(name, before, after, _apart(before, after), allowed))
    return Repeated(tuple(rows), tuple(_made_otherwise(then["made"], now["made"])))


def check_same(then: Receipt, model: Model, dataset: Dataset) -> None:
    """Refuses to repeat a receipt on other data or weights."""
    for part, here, what, mend in (
        ("data", dataset.spec.hash, "the data", "name the right one with --data"),
        ("model", weights_hash(model), "the weights", "name the run it was made of, trained as far as then"),
    ):
        if then[part].get("hash") != here:
            raise UserError(
                f"{what} here are not those of the receipt ({_short(here)}, not {_short(then[part].get('hash'))}): {mend}"
            )


def numbers(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[Value, float]]]:
    """All numbers of results by dotted name, each with how far its repetition may lie from it."""
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from numbers(value, f"{name}.")
        elif key not in _NEVER_REPEATED and _is_value(value):
            size = max(map(abs, value), default=0.0) if isinstance(value, list) else abs(value)
            widths = [results.get(each) for each in (f"{key}_half", f"{key}_error", "half_width")]
            width = max((float(each) for each in widths if isinstance(each, int | float)), default=0.0)
            yield name, (value, max(CLOSE * size, SHARE * width))


@dataclass(frozen=True)
class Comparison:
    """Evaluations that may be compared, in columns.

    Args:
        names: of the receipts. rows: (what, one text each).
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    values: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {"receipts": list(self.names), "values": self.values}

    def table(self) -> str:
        columns = [("", *(what for what, _ in self.rows))]
        columns += [(name, *(texts[i] for _, texts in self.rows)) for i, name in enumerate(self.names)]
        widths = [max(map(len, column)) for column in columns]
        lines = zip(*columns)
        return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


MEASURES = ("frechet", "kernel", "precision", "recall", "density", "coverage")


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
    rows: list[tuple[str, tuple[str, ...]]] = [
        ("weights", tuple(f"{each['model']['weights']}, {each['model']['images']:,} images" for _, each in receipts))
    ]
    values: dict[str, list[float]] = {}
    for key in ("bound", "ode"):
        if key in shared:
            results = [each["results"][key] for _, each in receipts]
            label = f"{results[0]['unit']} ({key})"
            values[label] = [result["total"] for result in results]
            texts = tuple(f"{result['total']:.4f} ± {result['half_width']:.4f}" for result in results)
            rows.append((label, texts))
    if "quality" in shared:
        rows.append(("samples", tuple(each["results"]["quality"]["drawn"] for _, each in receipts)))
        at = first["results"]["quality"]["extractor"]
        found = [each["results"]["quality"]["values"] for _, each in receipts]
        for measure in MEASURES:
            if all(measure in each for each in found):
                values[f"{measure}@{at}"] = [each[measure] for each in found]
                rows.append((f"{measure}@{at}", tuple(_with_width(each, measure) for each in found)))
    return Comparison(tuple(name for name, _ in receipts), tuple(rows), values)


def unlike(a: Receipt, b: Receipt, results: Sequence[str]) -> list[str]:
    """What forbids comparing these results of two receipts, in words; empty where nothing does."""
    found: list[str] = []

    def ask(what: str, one: Any, other: Any) -> None:
        if one != other:
            found.append(f"{what}: {_short(one)} and {_short(other)}")

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


def _with_width(values: Mapping[str, float], measure: str) -> str:
    if f"{measure}_half" in values:
        return f"{values[measure]:.5f} ± {values[f'{measure}_half']:.5f}"
    if f"{measure}_error" in values:
        return f"{values[measure]:.6f} (standard error {values[f'{measure}_error']:.6f})"
    return f"{values[measure]:.3f}"


def _made_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    pairs = [(key, then.get(key), now.get(key)) for key in ("device", "machine", "threads")]
    versions = then.get("versions", {}), now.get("versions", {})
    pairs += [(key, versions[0].get(key), versions[1].get(key)) for key in dict.fromkeys([*versions[0], *versions[1]])]
    for key, before, after in pairs:
        if before != after:
            yield f"made with {key} {before}, repeated with {after}"


def _apart(one: Value | None, other: Value | None) -> float:
    if one is None or other is None or isinstance(one, list) != isinstance(other, list):
        return math.inf
    if isinstance(one, list) and isinstance(other, list):
        return math.inf if len(one) != len(other) else max((abs(x - y) for x, y in zip(one, other)), default=0.0)
    return abs(float(one) - float(other))  # type: ignore[arg-type]


def _is_value(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_number, value))
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = str(value)
    words = [word[:12] + "…" if len(word) == 64 else word for word in text.split()]
    return " ".join(words)


def _shown(value: Value | None) -> str:
    if value is None:
        return "nothing"
    return "a list of other numbers" if isinstance(value, list) else f"{value:.6g}"
