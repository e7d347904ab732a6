"""Linear measurements ``y = A x``: what a camera, a lens or a pair of scissors did, as ``A`` and its adjoint.

Every operator here leaves a picture of one colour that colour, so y is on the scale of x; :class:`Matrix` need not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from unstir.shapes import Dense, Measurements, Meets, Reals, Vector


class Operator(ABC):
    """``y = A x``, linear, row by row of a batch.

    Attributes:
        gram: c where ``A Aᵀ A = c A``, so that ``Aᵀ/c`` is the pseudo-inverse; None where there is no such number.
    """

    gram: float | None = None

    @abstractmethod
    def forward(self, x: Reals) -> Measurements:
        """``A x``: (B, *E) to (B, *Y)."""

    @abstractmethod
    def adjoint(self, y: Measurements) -> Reals:
        """``Aᵀ y``: (B, *Y) to (B, *E), with ``<A x, y> = <x, Aᵀ y>``."""


class Identity(Operator):
    """``y = x``: nothing but noise was added."""

    gram = 1.0

    def forward(self, x: Reals) -> Measurements:
        return x

    def adjoint(self, y: Measurements) -> Reals:
        return y


class Masking(Operator):
    """``y = x`` where it is known, 0 elsewhere.

    Args:
        known: bool, broadcasting against x (B, *E).
    """

    gram = 1.0

    def __init__(self, known: Meets) -> None:
        if known.dtype != torch.bool:
            raise ValueError(f"the mask of known values is bool, not {known.dtype}")
        self.known = known

    def forward(self, x: Reals) -> Measurements:
        return torch.where(self.known.to(x.device), x, 0)

    def adjoint(self, y: Measurements) -> Reals:
        return torch.where(self.known.to(y.device), y, 0)


class Separable(Operator):
    """``y = R x Cᵀ`` in each channel: the same along every column, and along every row.

    Args:
        down: R, (h, H). across: C, (w, W).
    """

    def __init__(self, down: Dense, across: Dense) -> None:
        self.down, self.across = down.double(), across.double()
        grams = [_multiple_of_one(m @ m.T) for m in (self.down, self.across)]
        self.gram = None if None in grams else math.prod(g for g in grams if g is not None)

    def forward(self, x: Reals) -> Measurements:
        self._check(x, self.down.shape[1], self.across.shape[1])
        return self.down.to(x) @ x @ self.across.to(x).T

    def adjoint(self, y: Measurements) -> Reals:
        self._check(y, self.down.shape[0], self.across.shape[0])
        return self.down.to(y).T @ y @ self.across.to(y)

    def _check(self, x: Tensor, height: int, width: int) -> None:
        if x.ndim != 4 or x.shape[2:] != (height, width):
            raise ValueError(f"this operator is for pictures (B, C, {height}, {width}), not {tuple(x.shape)}")


class Grey(Operator):
    """``y = sum_c w_c x_c``: one channel of several, with weights that sum to one.

    Args:
        weights: (C,); by default those of ITU-R 601 luma, by which data become grey.
    """

    def __init__(self, weights: Vector | None = None) -> None:
        weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64) if weights is None else weights.double()
        if abs(float(weights.sum()) - 1) > 1e-6:
            raise ValueError("the weights of the channels sum to one, so that grey stays what it was")
        self.weights, self.gram = weights, float(weights.square().sum())

    def forward(self, x: Reals) -> Measurements:
        if x.ndim < 2 or x.shape[1] != len(self.weights):
            raise ValueError(f"{len(self.weights)} weights make one channel of {len(self.weights)}: {tuple(x.shape)}")
        return (self._column(x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Measurements) -> Reals:
        return self._column(y) * y

    def _column(self, like: Tensor) -> Tensor:
        return self.weights.to(like).reshape(-1, *(1,) * (like.ndim - 2))


class Matrix(Operator):
    """``y = M x`` of points.

    Args:
        matrix: M, (m, D).
    """

    def __init__(self, matrix: Dense) -> None:
        self.matrix = matrix.double()
        self.gram = _multiple_of_one(self.matrix @ self.matrix.T)

    def forward(self, x: Reals) -> Measurements:
        return x @ self.matrix.to(x).T

    def adjoint(self, y: Measurements) -> Reals:
        return y @ self.matrix.to(y)


def downscale(height: int, width: int, factor: int) -> Separable:
    """The mean of every block of ``factor`` by ``factor`` pixels.

    Raises:
        ValueError: if the sides are not multiples of the factor.
    """
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"{height}×{width} pixels do not fall into blocks of {factor}×{factor}")
    return Separable(_means(height, factor), _means(width, factor))


def blur(height: int, width: int, radius: float) -> Separable:
    """A Gaussian blur of standard deviation ``radius`` pixels, mirrored at the edges: every row of weights sums to one.

    Raises:
        ValueError: for a radius that is not above 0.
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"the radius of a blur is a number of pixels above 0, not {radius:g}")
    return Separable(_smooth(height, radius), _smooth(width, radius))


def _means(side: int, factor: int) -> Tensor:
    return torch.eye(side // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor


def _smooth(side: int, radius: float) -> Tensor:
    reach = math.ceil(4 * radius)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / radius) ** 2)
    place = torch.arange(side)[:, None] + offsets
    # Mirrored with the edge's own pixel repeated: … 1 0 | 0 1 2 … side-1 | side-1 …
    place = place.remainder(2 * side)
    place = torch.where(place < side, place, 2 * side - 1 - place)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, place, (weights / weights.sum()).expand(side, -1))


def _multiple_of_one(square: Tensor) -> float | None:
    """c where the matrix is c times the identity, else None."""
    c = float(square.diagonal().mean())
    same = torch.allclose(square, c * torch.eye(len(square), dtype=square.dtype), rtol=0, atol=1e-12 * abs(c))
    return c if c > 0 and same else None
