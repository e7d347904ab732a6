"""A residual network for points and vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from unstir.networks.blocks import zero
from unstir.networks.embedding import ClassEmbedding, Labels, TimeEmbedding, class_vectors


@dataclass(frozen=True)
class MLPConfig:
    """An MLP in plain values.

    Args:
        in_dims, out_dims: D, and D or 2 D with a learned variance.
        width: of every hidden layer.
        depth: residual blocks.
        classes: number of labels; 0: none.
    """

    in_dims: int
    out_dims: int
    width: int = 128
    depth: int = 4
    classes: int = 0


class MLP(nn.Module):
    """x (B, D), time (B,) and a condition to (B, out_dims); exactly 0 before training, as the U-Net is."""

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.linear_in = nn.Linear(config.in_dims, width)
        self.time_embedding = TimeEmbedding(width, width)
        self.class_embedding = ClassEmbedding(config.classes, width) if config.classes else None
        self.blocks = nn.ModuleList(_Block(width) for _ in range(config.depth))
        self.linear_out = nn.Linear(width, config.out_dims)
        zero(self.linear_out)

    def forward(self, x: Tensor, time: Tensor, condition: Labels | None = None) -> Tensor:
        """The raw output, (B, out_dims).

        Args:
            x: (B, in_dims). time: (B,), real.
            condition: anything with ``label`` (B,) long or None, and ``null`` (B,) bool or None.
        """
        embedding = self.time_embedding(time)
        vectors = class_vectors(self.class_embedding, len(x), condition)
        embedding = F.silu(embedding if vectors is None else embedding + vectors)
        h = self.linear_in(x)
        for block in self.blocks:
            h = block(h, embedding)
        return self.linear_out(F.silu(h))


class _Block(nn.Module):
    """``h + W2 silu(norm(W1 silu(h)) scaled and shifted by the time)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.time_proj = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.time_proj(embedding).chunk(2, 1)
        inner = self.norm(self.linear1(F.silu(h))) * (1 + scale) + shift
        return h + self.linear2(F.silu(inner))
