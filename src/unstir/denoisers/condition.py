"""What a sample is asked to be: labels, vectors and pictures, and where they are absent."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from unstir.shapes import Images, Picked, RowAbsences, RowLabels, RowMask, RowTable

KINDS = ("label", "vector", "image")
"""The fields that say something, in the order of the columns of :attr:`Condition.null`."""


@dataclass(frozen=True)
class Condition:
    """The conditions of a batch; every field is optional and has leading dimension B.

    Args:
        label: class indices, long (B,).
        vector: numbers on the scaled axis, (B, V).
        image: what is known of the picture, (B, C', H, W), see :mod:`unstir.editing.views`.
        null: True where the sample has no condition, bool (B,), or (B, 3) with a column each for label, vector and image. A network
            then uses what it learned for "nothing is known", which no label, vector or picture stands for.
        augment: what was done to a training picture, (B, A), all 0 for nothing, which is also what None means. Nobody asks for it,
            and nothing hides it.
    """

    label: RowLabels | None = None
    vector: RowTable | None = None
    image: Images | None = None
    null: RowMask | RowAbsences | None = None
    augment: RowTable | None = None

    def select(self, rows: Picked) -> Condition:
        """The conditions of some rows: an index or a mask over B."""
        return Condition(**{f.name: _pick(getattr(self, f.name), rows) for f in fields(self)})

    def without(self, *kinds: str) -> Condition:
        """The same batch with every condition taken away, or with these of :data:`KINDS` alone.

        The first is the unconditional branch of guidance.
        """
        given = self._given
        if given is None:
            return Condition()
        if not kinds:
            return replace(self, null=torch.ones(len(given), dtype=torch.bool, device=given.device))
        null = torch.zeros(len(given), len(KINDS), dtype=torch.bool, device=given.device)
        if self.null is not None:
            null |= self.null if self.null.ndim == 2 else self.null[:, None]
        null[:, [KINDS.index(kind) for kind in kinds]] = True
        return replace(self, null=null)

    def absent(self, kind: str) -> RowMask | None:
        """True where a sample lacks this one of :data:`KINDS`, (B,); None where all have it. Only for a field that is given."""
        if self.null is None:
            return None
        return self.null[:, KINDS.index(kind)] if self.null.ndim == 2 else self.null

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return self._given is None

    @property
    def _given(self) -> Tensor | None:
        return next((value for kind in KINDS if (value := getattr(self, kind)) is not None), None)


def _pick(value: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if value is None else value[rows]
