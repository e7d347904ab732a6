"""Tables: ours beside theirs, with an interval over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from unstir.bound import mean_interval


@dataclass(frozen=True)
class Figure:
    """A number that was measured over seeds, or stands in a paper.

    Args:
        mean: of the seeds. half_width: of the 95 % interval of that mean (Student's t over seeds); None for a number without.
        values: each seed's.
    """

    mean: float
    half_width: float | None = None
    values: tuple[float, ...] = ()

    @classmethod
    def over(cls, values: Sequence[float]) -> Figure:
        """The mean of what each seed gave."""
        mean, half = mean_interval(torch.tensor(values, dtype=torch.float64))
        return cls(mean, half if len(values) > 1 else None, tuple(values))

    def text(self, digits: int = 3) -> str:
        half = "" if self.half_width is None else f" ± {self.half_width:.{digits}f}"
        return f"{self.mean:.{digits}f}{half}"


@dataclass(frozen=True)
class Row:
    """A line of a table: a name, and its figures by column; what is not known is left out."""

    name: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Table:
    """What an experiment found.

    Args:
        name: the experiment's. title: one line. columns: in order.
        notes: sentences below the table. files: figures that were written.
        unit: of the columns, for the heading.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    seeds: int = 1
    digits: int = 3

    def text(self) -> str:
        """The table in plain lines, aligned."""
        cells = [["", *self.columns]]
        for row in self.rows:
            shown = [row.figures[c].text(self.digits) if c in row.figures else "" for c in self.columns]
            cells.append([row.name, *shown])
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines = [self.title]
        for line in cells:
            first, *rest = (cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
            lines.append("  ".join(["", first, *rest]).rstrip())
        return "\n".join([*lines, *self.notes])

    def markdown(self) -> str:
        """The same as a table of a page."""
        head = f"| | {' | '.join(self.columns)} |\n|---|{'---|' * len(self.columns)}"
        rows = [
            f"| {row.name} | "
            + " | ".join(row.figures[c].text(self.digits) if c in row.figures else "" for c in self.columns)
            + " |"
            for row in self.rows
        ]
        return "\n".join([head, *rows])

    def to_json(self) -> dict[str, Any]:
        """JSON values: for each row its name and figures; ``ci`` is half of the 95 % interval over seeds."""
        rows = []
        for row in self.rows:
            figures = {
                key: {"mean": f.mean, "ci": f.half_width, "seeds": list(f.values)} for key, f in row.figures.items()
            }
            flat = {_key(key): f.mean for key, f in row.figures.items()}
            ci = {_key(key): f.half_width for key, f in row.figures.items()}
            rows.append({"name": row.name, **flat, "ci": ci, "seeds": self.seeds, "figures": figures})
        return {"name": self.name, "title": self.title, "rows": rows, "notes": self.notes, "files": self.files}


def _key(column: str) -> str:
    """A column's name as a JSON key: ``K - L_null (bits)`` is ``k_minus_null_bits``."""
    known = {"K (bits)": "k_bits", "K - L_null (bits)": "k_minus_null_bits"}
    plain = "".join(c if c.isalnum() else "_" for c in column.lower())
    return known.get(column, "_".join(part for part in plain.split("_") if part))
