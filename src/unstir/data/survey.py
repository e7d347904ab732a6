"""What was found in a source, picture by picture: kept beside the decoded arrays, so that it is found out only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Survey:
    """Counts and names.

    Args:
        found: pictures (or points) in the source, broken ones included.
        sizes: how many are of each ``"WIDTHxHEIGHT"``, most frequent first.
        modes: how many are of each mode, as Pillow names it in the file.
        broken: [name, reason] of each that was skipped.
        duplicates: names of those that are equal once decoded, group by group.
    """

    found: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    broken: list[list[str]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; ``from_json`` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Survey:
        """The survey that ``to_json`` wrote."""
        return cls(**fields)


def counted(values: list[str]) -> dict[str, int]:
    """How often each value occurs, most frequent first."""
    return dict(Counter(values).most_common())
