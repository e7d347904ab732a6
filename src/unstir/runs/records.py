"""Which lines of ``metrics.jsonl`` still hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def standing(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what was recorded after the place that a later resume or rollback went back to: it was lost, and learned again."""
    kept: list[dict[str, Any]] = []
    for record in records:
        if record.get("event") in ("resume", "rollback"):
            kept = [each for each in kept if each["images"] <= record["images"]]
        kept.append(record)
    return kept
