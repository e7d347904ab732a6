"""Views: what a network is shown of a picture while it learns, so that it can fill in the rest of others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from unstir.denoisers import Around, Condition, DenoiserBase, Prediction, PredictionBase
from unstir.editing.operators import Grey, Operator, downscale
from unstir.noise import NoiseSource
from unstir.shapes import Data, Images, ImagesAnew, RowTimes

NAMES = ("super-resolution", "colouring", "mask")
_RECTANGLES = 3


class View(ABC):
    """Some linear measurement of a picture, as a picture of the same size.

    Attributes:
        draws: whether chance has a part in it.
    """

    draws: ClassVar[bool] = False

    @abstractmethod
    def channels(self, shape: tuple[int, int, int]) -> int:
        """C', of what is shown of pictures of a shape (C, H, W).

        Raises:
            ValueError: for pictures that this view does not suit.
        """

    @abstractmethod
    def __call__(self, x0: Images, noise: NoiseSource) -> ImagesAnew:
        """What is shown of x0: (B, C', H, W); keyed by the source where chance has a part."""

    @abstractmethod
    def hold(self, x0: Images, image: ImagesAnew) -> Images:
        """The picture nearest to x0 of which exactly this is shown: ``x0 + A⁺ (y - A x0)``, A⁺ the pseudo-inverse.

        A perfect denoiser needs none of it: A is linear, so ``A E[x0 | x_t, y] = y`` (the null-space step of Wang et al. 2023, eq. 7).
        """


class LowResolution(View):
    """``A⁺ A x0``: the mean of every block of pixels, put back into all of them.

    Args:
        factor: the side of a block.
    """

    def __init__(self, factor: int) -> None:
        if factor < 2:
            raise ValueError(f"super-resolution enlarges by a whole factor from 2 up, not {factor}")
        self.factor = factor

    def channels(self, shape: tuple[int, int, int]) -> int:
        downscale(*shape[1:], self.factor)  # which refuses sides that do not divide
        return shape[0]

    def __call__(self, x0: Images, noise: NoiseSource) -> ImagesAnew:
        return self.means(x0)

    def means(self, x0: Images) -> Images:
        """Every pixel the mean of its block, (B, C, H, W)."""
        blocks = downscale(x0.shape[2], x0.shape[3], self.factor)
        return _inverse(blocks, blocks.forward(x0))

    def enlarged(self, small: Images) -> ImagesAnew:
        """``A⁺ y``: every pixel of small pictures as a block of its own."""
        blocks = downscale(small.shape[2] * self.factor, small.shape[3] * self.factor, self.factor)
        return _inverse(blocks, small)

    def hold(self, x0: Images, image: ImagesAnew) -> Images:
        return x0 + (image.to(x0) - self.means(x0))


class Grayscale(View):
    """``sum_c w_c x_c``, ITU-R 601 luma: how bright every pixel is."""

    def channels(self, shape: tuple[int, int, int]) -> int:
        if shape[0] != 3:
            raise ValueError("colouring is of pictures in colour, and these are grey: use mode RGB")
        return 1

    def __call__(self, x0: Images, noise: NoiseSource) -> ImagesAnew:
        return Grey().forward(x0)

    def hold(self, x0: Images, image: ImagesAnew) -> Images:
        grey = Grey()
        return x0 + _inverse(grey, image.to(x0) - grey.forward(x0))


class Masked(View):
    """x0 where it is known, 0 elsewhere, and a last channel that is 1 where it is known.

    Which part that is, is drawn: half of the picture is unknown (one in four), or all but a rectangle (one in four), or one to
    three rectangles that may overlap.
    """

    draws: ClassVar[bool] = True

    def channels(self, shape: tuple[int, int, int]) -> int:
        return shape[0] + 1

    def __call__(self, x0: Images, noise: NoiseSource) -> ImagesAnew:
        return self.shown(x0, known(noise, x0.shape[2], x0.shape[3]).to(x0))

    @staticmethod
    def shown(x0: Images, mask: ImagesAnew) -> ImagesAnew:
        """What is shown where the mask, (B, 1, H, W), is 1."""
        return torch.cat([x0 * mask, mask], 1)

    def hold(self, x0: Images, image: ImagesAnew) -> Images:
        return torch.where(image[:, -1:] > 0.5, image[:, :-1].to(x0), x0)


def known(noise: NoiseSource, height: int, width: int) -> Images:
    """Which pixels a masked picture shows, 1 or 0 in float64: (B, 1, H, W), a pure function of the source's keys."""
    u = noise.uniform((3 + 4 * _RECTANGLES,), "mask").reshape(len(noise.indices), -1, 1, 1)
    kind, count, side = u[:, 0], (u[:, 1] * _RECTANGLES).ceil(), (u[:, 2] * 4).floor()
    y = ((torch.arange(height, dtype=u.dtype, device=u.device) + 0.5) / height)[:, None]
    x = ((torch.arange(width, dtype=u.dtype, device=u.device) + 0.5) / width)[None]

    def rectangle(number: int, least: float, most: float) -> Tensor:
        tall, wide, down, across = (u[:, 3 + 4 * number + i] for i in range(4))
        tall, wide = (least + (most - least) * share for share in (tall, wide))
        top, left = down * (1 - tall), across * (1 - wide)
        return (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)

    half = torch.where(side < 2, torch.where(side < 1, y, 1 - y), torch.where(side < 3, x, 1 - x)) < 0.5
    holes = torch.zeros_like(half)
    for number in range(_RECTANGLES):
        holes |= rectangle(number, 1 / 8, 5 / 8) & (count > number)
    unknown = torch.where(kind < 0.25, half, torch.where(kind < 0.5, ~rectangle(0, 3 / 8, 7 / 8), holes))
    return (~unknown).to(u.dtype)[:, None]


def get(name: str) -> View:
    """The view called ``super-resolution:FACTOR``, ``colouring`` or ``mask``.

    Raises:
        ValueError: for another name, or a factor that is none.
    """
    kind, colon, option = name.partition(":")
    if kind == "super-resolution" and option.isdecimal():
        return LowResolution(int(option))
    if kind in NAMES[1:] and not colon:
        return Grayscale() if kind == "colouring" else Masked()
    raise ValueError(f"pictures are shown as super-resolution:4 (or another factor), colouring or mask, not {name!r}")


class Held(Around):
    """x0 made to agree with what the condition shows of it, by :meth:`View.hold`; rows without a picture are left alone.

    A walk ends at a predicted x0, so what it shows comes back exactly: known pixels of a mask, the means of blocks and the
    brightness to rounding.
    """

    def __init__(self, denoiser: DenoiserBase, view: View) -> None:
        super().__init__(denoiser)
        self.view = view

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        prediction = self.denoiser.predict(x_t, t, condition)
        if condition is None or condition.image is None or not isinstance(prediction, Prediction):
            return prediction
        held = self.view.hold(prediction.x0, condition.image)
        absent = condition.absent("image")
        if absent is not None:
            held = torch.where(absent.reshape(-1, 1, 1, 1), prediction.x0, held)
        return prediction.with_x0(held)


def _inverse(operator: Operator, y: Tensor) -> Tensor:
    """``A⁺ y``, of an operator that knows its gram."""
    assert operator.gram is not None
    return operator.adjoint(y) / operator.gram
