"""U-Nets chosen for a shape of data, with a reason beside every number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from unstir.errors import UserError
from unstir.networks.unet import UNetConfig

Shape = tuple[int, int, int]
"""(C, H, W) of one image."""


def preset(name: str, shape: Shape, *, out_channels: int | None = None, classes: int = 0) -> UNetConfig:
    """The configuration called ``name`` (``tiny``, ``small``, ``cifar10``) for images of a shape.

    Args:
        shape: (C, H, W).
        out_channels: C when not given; 2C for a learned variance.
        classes: number of labels; 0: none.

    Raises:
        UserError: for a name that does not exist.
    """
    if name not in PRESETS:
        raise UserError(f"no U-Net preset is called {name!r}; there are {', '.join(PRESETS)}")
    return replace(PRESETS[name](shape), out_channels=out_channels or shape[0], classes=classes)


def tiny(shape: Shape) -> UNetConfig:
    """For pictures of about 8 to 16 pixels, in a minute or two on two cores."""
    return UNetConfig(
        *(shape[0], shape[0]),
        patch=1,  # at 8 pixels there is nothing to fold away
        # 64 takes 2.6 times as long a step: after 35 s of one core on the digits its held-out error (v, mean over time) was
        # 0.308 where 32 had 0.295.
        channels=32,
        multipliers=_levels(shape, patch=1, coarsest=4),  # 8 → 4: one halving, so that a block sees the whole picture
        blocks=1,  # 0.273 against 0.275 with two after 90 s of one core, and a third faster to sample
        **_COMMON,
    )


def small(shape: Shape) -> UNetConfig:
    """For pictures of about 28 to 64 pixels, in minutes to an hour on a CPU."""
    return UNetConfig(
        *(shape[0], shape[0]),
        patch=2,  # a quarter of the positions: 28 → 14, 64 → 32
        # 64 takes 3.2 times as long a step: after 40 s of one core on MNIST, 0.193 where 32 had 0.168.
        channels=32,
        multipliers=_levels(shape, patch=2, coarsest=8),  # 14 → 7, 32 → 16 → 8
        blocks=2,  # as in the papers
        **_COMMON,
    )


def cifar10(shape: Shape) -> UNetConfig:
    """The network of [HO20] app. B for CIFAR-10: 35.7 million parameters on 3×32×32. Hours on a GPU, not for a CPU."""
    return UNetConfig(
        *(shape[0], shape[0]),
        channels=128,
        multipliers=(1, 2, 2, 2),
        blocks=2,
        attention=(1,),  # 16×16
        dropout=0.1,  # the paper's; without it the network overfits CIFAR-10
    )


PRESETS: dict[str, Callable[[Shape], UNetConfig]] = {"tiny": tiny, "small": small, "cifar10": cifar10}

_COMMON = {
    # Together 7 % of a step, and better for it: 0.165 against 0.168 on MNIST after the same 40 s.
    "middle_attention": True,
    "time_embedding": "scale_shift",
    "groups": 2,  # 16 channels a group: what channels-last group norm needs to be fast on a CPU
    "norm_eps": 1e-5,  # bfloat16 needs no finer
}


def _levels(shape: Shape, *, patch: int, coarsest: int) -> tuple[int, ...]:
    # Halve until the longer side is at most `coarsest`; every level below the first is twice as wide.
    side = math.ceil(max(shape[1:]) / patch)
    halvings = max(0, math.ceil(math.log2(side / coarsest)))
    return (1, *[2] * halvings)
