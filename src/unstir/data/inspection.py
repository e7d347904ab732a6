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

    def sheet(self, number: int = 64) -> Image.Image:
        """A contact sheet of pictures to learn from, evenly spaced in their order.

        Raises:
            UserError: for points.
        """
        if self.dataset.spec.kind != "image":
            raise UserError(f"{self.dataset.spec.source}: holds points, of which no contact sheet can be made")
        train = self.dataset.train
        return contact_sheet(train.x[train.spread(number)])

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, in JSON types."""
        dataset = self.dataset
        return {
            "data": dataset.spec.to_json(),
            "train": len(dataset.train),
            "heldout": len(dataset.heldout),
            "classes": self.classes,
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
    """Loads as ``load`` does, with the same arguments and errors, and keeps what was found on the way."""
    return Inspection(*load_surveyed(source, Options(size, mode, background), strict, cache, progress))
