"""What a sample is asked to be: labels, and where they are absent."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unstir.shapes import Picked, RowLabels, RowMask


@dataclass(frozen=True)
class Condition:
    """The conditions of a batch; every field is optional and has leading dimension B.

    Args:
        label: class indices, long (B,).
        null: True where the sample has no condition, bool (B,); a network then uses its null class.
    """

    label: RowLabels | None = None
    null: RowMask | None = None

    def select(self, rows: Picked) -> Condition:
        """The conditions of some rows: an index or a mask over B."""
        return Condition(**{f.name: _pick(getattr(self, f.name), rows) for f in fields(self)})

    def without(self) -> Condition:
        """The same batch with every condition taken away, for the unconditional branch of guidance."""
        if self.label is None:
            return Condition()
        return Condition(label=self.label, null=torch.ones_like(self.label, dtype=torch.bool))


def _pick(value: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if value is None else value[rows]
