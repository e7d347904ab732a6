"""What is in a data set, what is wrong with it, and what the network will see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unstir.data.loading import load_surveyed
from unstir.data.options import Options
from unstir.data.pixels import Progress
from unstir.data.sheet import contact_sheet
from unstir.data.spec import Dataset
from unstir.data.survey import Survey
from unstir.errors import UserError


@dataclass(frozen=True)
class Inspection:
    """A loaded data set and what was found in its source.

    Args:
        dataset: exactly what training gets.
        survey: counts of sizes and modes, names of broken files and of duplicates.
    """

    dataset: Dataset
    survey: Survey

    @property
    def classes(self) -> dict[str, int]:
        """How many of each class are usable, by class name."""
        labels = [split.labels for split in (self.dataset.train, self.dataset.heldout) if split.labels is not None]
        if not labels:
            return {}
        names = self.dataset.spec.classes
        counts = np.bincount(np.concatenate(labels), minlength=len(names))
        return {name: int(count) for name, count in zip(names, counts)}

    @property
    def activity(self) -> float | None:
        """The mean of all bits; None for other data."""
        if self.dataset.spec.kind != "bits":
            return None
        both = (self.dataset.train.x, self.dataset.heldout.x)
        return sum(int(np.count_nonzero(x)) for x in both) / sum(x.size for x in both)

    @property
    def alphabet(self) -> dict[str, int]:
        """How often each symbol occurs; empty for other data."""
        size = self.dataset.spec.symbols
        if size is None:
            return {}
        counts = sum(
            np.bincount(split.x.ravel(), minlength=size) for split in (self.dataset.train, self.dataset.heldout)
        )
        return {str(symbol): int(count) for symbol, count in enumerate(np.atleast_1d(counts))}

    def sheet(self, number: int = 64) -> Image.Image:
        """A contact sheet of pictures to learn from, evenly spaced in their order.

        Raises:
            UserError: for data without pixels.
        """
        spec, train = self.dataset.spec, self.dataset.train
        if spec.kind != "image":
            raise UserError(f"{spec.source}: holds {spec.kind}, of which no contact sheet can be made")
        return contact_sheet(spec.levels(train.x[train.spread(number)]))

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, in JSON types."""
        dataset = self.dataset
        return {
            "data": dataset.spec.to_json(),
            "train": len(dataset.train),
            "heldout": len(dataset.heldout),
            "classes": self.classes,
            **({} if self.activity is None else {"activity": self.activity}),
            **({"alphabet": self.alphabet} if self.alphabet else {}),
            **self.survey.to_json(),
            "log": dataset.log,
        }


def inspect(
    source: str | Path,
    *,
    size: int | None = None,
    mode: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    strict: bool = False,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Loads as ``load`` does, with the same arguments and errors, and keeps what was found on the way.

    Pictures of any kind have a contact sheet, bits a mean activity, symbols an alphabet.
    """
    return Inspection(*load_surveyed(source, Options(size, mode, background), strict, cache, progress))
