"""Time and class embeddings: what tells a network how noisy its input is, and what it should show."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.shapes import Features, RowAbsences, RowLabels, RowMask, RowNumbers


class Labels(Protocol):
    """What a network reads of a condition: two optional tensors with leading dimension B.

    label: class indices, long. null: bool (B,), or the first column of (B, 3), True where the sample has no label.
    """

    @property
    def label(self) -> RowLabels | None: ...

    @property
    def null(self) -> RowMask | RowAbsences | None: ...


def sinusoidal(time: RowNumbers, size: int, *, shift: int = 1, cosine_first: bool = False) -> Features:
    """``[sin(time f_k), cos(time f_k)]``, ``f_k = 10000^(-k / (size/2 - shift))``, k = 0 … size/2 - 1 (Vaswani et al. 2017, §3.5).

    Computed in float32, or in float64 for a float64 time: at time 999 a bfloat16 could not tell neighbours apart.

    Args:
        time: (B,), real.
        size: the embedding's width, even, more than 2.
        shift: 1 makes the slowest frequency exactly 1/10000 [HO20]; 0 stops one step before it (ADM).
        cosine_first: put the cosines before the sines (ADM).
    Returns:
        (B, size), float32 or float64.
    """
    time = time.to(torch.promote_types(time.dtype, torch.float32))
    half = size // 2
    k = torch.arange(half, dtype=time.dtype, device=time.device)
    angle = time[:, None] * torch.exp(-math.log(10000) * k / (half - shift))
    parts = (angle.cos(), angle.sin()) if cosine_first else (angle.sin(), angle.cos())
    return torch.cat(parts, 1)


class TimeEmbedding(nn.Module):
    """Two linear layers with a SiLU between them, on the sinusoids: (B,) to (B, width) [HO20 app. B]."""

    def __init__(self, size: int, width: int, *, shift: int = 1, cosine_first: bool = False) -> None:
        super().__init__()
        self.size, self.shift, self.cosine_first = size, shift, cosine_first
        self.linear_1 = nn.Linear(size, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, time: RowNumbers) -> Features:
        weight = self.linear_1.weight
        # The sinusoids follow the weights up to float64, and are never computed below float32.
        time = time.to(torch.promote_types(weight.dtype, torch.float32))
        waves = sinusoidal(time, self.size, shift=self.shift, cosine_first=self.cosine_first)
        return self.linear_2(F.silu(self.linear_1(waves.to(weight.dtype))))


class ClassEmbedding(nn.Embedding):
    """One learned vector for each class, and in row ``classes`` one for "no label": never a real class's."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)
        self.classes = classes

    def rows(self, batch: int, condition: Labels | None) -> RowLabels:
        """The row of each sample of a batch: long, (B,)."""
        label = None if condition is None else condition.label
        if condition is None or label is None:
            return torch.full((batch,), self.classes, dtype=torch.long, device=self.weight.device)
        null = condition.null
        if null is None:
            return label
        return torch.where(null[:, 0] if null.ndim == 2 else null, self.classes, label)


def class_vectors(table: ClassEmbedding | None, batch: int, condition: Labels | None) -> Features | None:
    """What a condition adds to the time embedding: (B, width), or nothing for a network without classes.

    Raises:
        UserError: when labels are given to a network that was made without classes.
    """
    if table is not None:
        return table(table.rows(batch, condition))
    if condition is not None and condition.label is not None and condition.null is None:
        raise UserError("a label was given, but this network was made without classes (classes = 0): drop the label")
    return None
