"""A residual network for points and vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.networks.blocks import zero
from unstir.networks.conditioning import VectorEmbedding, embedded, without_picture
from unstir.networks.embedding import ClassEmbedding, Labels, TimeEmbedding
from unstir.shapes import Features, Points, RowNumbers


@dataclass(frozen=True)
class MLPConfig:
    """A residual network in plain values.

    Args:
        in_features, out_features: numbers in a point, and in the answer for it.
        width: of the hidden vector.
        depth: residual blocks.
        dropout: probability, inside each block.
        classes: number of labels; 0: none.
        vector: how many numbers a condition's vector has; 0: none.
    """

    in_features: int
    out_features: int
    width: int = 128
    depth: int = 4
    dropout: float = 0.0
    classes: int = 0
    vector: int = 0

    def __post_init__(self) -> None:
        if min(self.in_features, self.out_features, self.depth) < 1 or min(self.classes, self.vector) < 0:
            raise UserError("the MLP's features and depth must be at least 1, its classes and vector at least 0")
        if self.width < 4 or self.width % 2:
            raise UserError(f"the MLP's width must be even and at least 4, not {self.width}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"the MLP's dropout must be a probability below 1, not {self.dropout}")


class MLP(nn.Module):
    """x (B, D), time (B,) and a condition to (B, out_features)."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embedding = TimeEmbedding(config.width, config.width)
        self.class_embedding = ClassEmbedding(config.classes, config.width) if config.classes else None
        self.vector_embedding = VectorEmbedding(config.vector, config.width) if config.vector else None
        self.linear_in = nn.Linear(config.in_features, config.width)
        self.blocks = nn.ModuleList(MLPBlock(config.width, config.dropout) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(config.width)
        self.linear_out = nn.Linear(config.width, config.out_features)
        zero(self.linear_out)

    def forward(self, x: Points, time: RowNumbers, condition: Labels | None = None) -> Features:
        """The raw output, (B, out_features).

        Args:
            x: (B, in_features).
            time: (B,), real.
            condition: see :class:`unstir.networks.conditioning.Conditions`; a picture is refused.
        """
        without_picture(condition)
        embedding = self.time_embedding(time)
        vectors = embedded(self.class_embedding, self.vector_embedding, len(x), condition)
        embedding = F.silu(embedding if vectors is None else embedding + vectors)
        h = self.linear_in(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.linear_out(F.silu(self.norm_out(h)))


class MLPBlock(nn.Module):
    """``h + linear_2(silu(linear_1(norm(h) (1 + a) + b)))`` with a and b linear in the time embedding; starts as the identity."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time_emb_proj = nn.Linear(width, 2 * width)
        self.linear_1 = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = nn.Linear(2 * width, width)
        zero(self.linear_2)

    def forward(self, h: Features, time: Points) -> Features:
        scale, shift = self.time_emb_proj(time).chunk(2, 1)
        inner = self.linear_1(self.norm(h) * (1 + scale) + shift)
        return h + self.linear_2(self.dropout(F.silu(inner)))
