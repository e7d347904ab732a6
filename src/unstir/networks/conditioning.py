"""What conditions give to a network: vectors added to the embedding of the time, and pictures laid beside its input."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.networks.embedding import ClassEmbedding, Labels, class_vectors
from unstir.shapes import Features, Images, ImagesAnew, RowMask


class Conditions(Labels, Protocol):
    """What a network reads of a condition: optional tensors with leading dimension B.

    label: class indices, long. vector: (B, V). image: (B, C', H, W). absent(kind): bool (B,), True where a sample lacks this one.
    """

    @property
    def vector(self) -> Features | None: ...

    @property
    def image(self) -> Images | None: ...

    def absent(self, kind: str) -> RowMask | None: ...


class VectorEmbedding(nn.Module):
    """Two linear layers with a SiLU between them: (B, V) to (B, width); where there is no vector, a learned one stands for that.

    It is added after both layers, so that no vector, were it all zeros, is mistaken for none.
    """

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(numbers, width)
        self.linear_2 = nn.Linear(width, width)
        self.null = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, batch: int, condition: Labels | None) -> Features:
        """What a batch's vectors add to the embedding of the time, (B, width)."""
        vector = getattr(condition, "vector", None)
        if vector is None:
            return self.null.expand(batch, -1)
        if vector.shape[1] != self.linear_1.in_features:
            raise UserError(f"this network takes vectors of {self.linear_1.in_features} numbers, not {vector.shape[1]}")
        known = self.linear_2(F.silu(self.linear_1(vector.to(self.linear_1.weight.dtype))))
        absent = _absent(condition, "vector")
        return known if absent is None else torch.where(absent[:, None], self.null.to(known.dtype), known)


def embedded(
    classes: ClassEmbedding | None, vectors: VectorEmbedding | None, batch: int, condition: Labels | None
) -> Features | None:
    """What a condition adds to the embedding of the time: (B, width), or nothing for a network that takes neither.

    Raises:
        UserError: when labels or vectors are given to a network that was made without them.
    """
    added = class_vectors(classes, batch, condition)
    if vectors is None:
        if getattr(condition, "vector", None) is not None:
            raise UserError(
                "a vector was given, but this network was made without vectors (vector = 0): drop the vector"
            )
        return added
    told = vectors(batch, condition)
    return told if added is None else added + told


def augmentation(layer: nn.Linear | None, condition: Labels | None) -> Features | None:
    """What word of a training picture's changes adds to the embedding of the time, (B, width): nothing where there were none.

    The layer has no bias, so that no changes, all 0, add nothing either.
    """
    told = getattr(condition, "augment", None)
    return None if layer is None or told is None else layer(told.to(layer.weight.dtype))


def beside(x: Images, channels: int, condition: Labels | None) -> ImagesAnew:
    """x with what is known of the picture in further channels, and one channel that is 1 where anything is: (B, C + C' + 1, H, W).

    Where nothing is known all of these are 0, which with a picture, be it all zeros, they never are.

    Args:
        channels: C', of the pictures that the network was made for; 0: none, and x is given back.

    Raises:
        UserError: for a picture of other channels or another size, or given to a network that was made without.
    """
    if channels == 0:
        without_picture(condition)
        return x
    image = getattr(condition, "image", None)
    if image is None:
        return torch.cat([x, x.new_zeros(len(x), channels + 1, *x.shape[2:])], 1)
    if image.shape[1:] != (channels, *x.shape[2:]):
        raise UserError(
            f"the picture given as condition is {tuple(image.shape[1:])}, and this network takes {(channels, *x.shape[2:])}"
        )
    told = torch.cat([image.to(x), torch.ones_like(x[:, :1])], 1)
    absent = _absent(condition, "image")
    if absent is not None:
        told = torch.where(absent[:, None, None, None], 0, told)
    return torch.cat([x, told], 1)


def without_picture(condition: Labels | None) -> None:
    """Raises a UserError where a network that takes no picture is given one."""
    if getattr(condition, "image", None) is not None:
        raise UserError("a picture was given as condition, but this network was made without (image_channels = 0)")


def unconditional(batch: int, condition: Labels | None) -> None:
    """Raises a UserError where a network that takes no condition is given one; labels that training may hide are passed over."""
    embedded(None, None, batch, condition)
    without_picture(condition)


def takes(network: nn.Module) -> tuple[str, ...]:
    """The kinds of condition that a network was made for: of label, vector and image."""
    config = getattr(network, "config", None)
    settings = {"label": "classes", "vector": "vector", "image": "image_channels"}
    return tuple(kind for kind, setting in settings.items() if getattr(config, setting, 0))


def _absent(condition: Labels | None, kind: str) -> Tensor | None:
    find = getattr(condition, "absent", None)
    return find(kind) if find is not None else getattr(condition, "null", None)
