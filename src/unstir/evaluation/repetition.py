"""A receipt repeated: whether all its numbers came out again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.evaluation.quality import Reference
from unstir.evaluation.receipt import Receipt, model_hash, short
from unstir.runs import Model

CLOSE, SHARE = 0.01, 0.1
"""A repeated number agrees within 1 % of itself or a tenth of its own interval: what other processors' rounding can do."""
SAME = 0.01
"""With the same versions on a machine of the same kind, within so much of that: a batch may be cut in another place."""
_LEFT_OUT = {"suspects"}
"""Lists whose order rounding may change, and with it every entry; what they are chosen by is compared."""

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

    Made with other versions or on another machine, within 1 % of itself or a tenth of its interval counts as the same: the seeds
    are the same, so nothing but rounding differs. With the same, within a hundredth of that.
    """
    old, new = dict(numbers(then["results"])), dict(numbers(now["results"]))
    other = tuple(_made_otherwise(then["made"], now["made"]))
    share = 1.0 if other else SAME
    rows = []
    for name in dict.fromkeys([*old, *new]):
        (before, allowed), (after, _) = old.get(name, (None, 0.0)), new.get(name, (None, 0.0))
        rows.append(Row(name, before, after, _apart(before, after), share * allowed))
    return Repeated(tuple(rows), other)


def check_same(then: Receipt, model: Model, dataset: Dataset) -> None:
    """Refuses to repeat a receipt on other data, or with another model."""
    _check("the data", then["data"].get("hash"), dataset.spec.hash, "name the right one with --data")
    mend = "name the run it was made of, trained as far as then"
    _check("the model", then["model"].get("hash"), model_hash(model), mend)


def check_same_features(then: Receipt, reference: Reference | None) -> None:
    """Refuses to repeat a receipt in other features: a file may have been replaced under its name."""
    before, now = (then.get("extractor") or {}).get("hash"), reference and reference.extractor.hash
    _check("the features", before, now, "use the file that was used then")


def _check(what: str, then: Any, here: Any, mend: str) -> None:
    if then != here:
        raise UserError(f"{what} here: {short(here)}; in the receipt: {short(then)}; they are not the same, so {mend}")


def numbers(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[Value, float]]]:
    """All numbers of results by dotted name, each with how far its repetition may lie from it."""
    for key, value in results.items():
        name = f"{prefix}{key}"
        if key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            yield from numbers(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            for i, each in enumerate(value):
                yield from numbers(each, f"{name}.{each.get('name', i)}.")
        elif _is_value(value):
            size = max(map(abs, value), default=0.0) if isinstance(value, list) else abs(value)
            widths = [results.get(each) for each in (f"{key}_half", f"{key}_error", "half_width", "half")]
            width = max((float(each) for each in widths if isinstance(each, int | float)), default=0.0)
            yield name, (value, max(CLOSE * size, SHARE * width))


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


def _shown(value: Value | None) -> str:
    if value is None:
        return "nothing"
    return "a list of other numbers" if isinstance(value, list) else f"{value:.6g}"
