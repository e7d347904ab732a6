"""Networks by name, fitted to the shape of the data; every number with its reason."""

from __future__ import annotations

from unstir.networks.mlp import MLPConfig
from unstir.networks.unet import UNetConfig


def get(name: str, shape: tuple[int, ...], classes: int = 0) -> UNetConfig | MLPConfig:
    """The network ``tiny``, ``small``, ``cifar10`` or ``points`` for data of a shape, (C, H, W) or (D,)."""
    return {"tiny": tiny, "small": small, "cifar10": cifar10, "points": points}[name](shape, classes)


def tiny(shape: tuple[int, ...], classes: int = 0) -> UNetConfig:
    """For pictures of 8 to 16 pixels and a minute or two on two processor cores."""
    channels = shape[0]
    return UNetConfig(
        in_channels=channels,
        out_channels=channels,
        channels=32,  # each halving of the width buys updates, which count for more in two minutes
        multipliers=(1, 2),  # 8×8 and 4×4: a 3×3 convolution at 4×4 already sees the whole picture
        blocks=2,
        attention=(),
        middle_attention=False,  # nothing is out of a convolution's reach at 4×4
        time_embedding="scale_shift",  # better than adding, at no cost that can be measured (ADM, table 3)
        groups=8,  # groups of at least 4 channels: with 32 groups each would hold one
        classes=classes,
    )


def small(shape: tuple[int, ...], classes: int = 0) -> UNetConfig:
    """For pictures of 24 to 64 pixels and minutes to an hour on two processor cores, or minutes on a GPU."""
    channels, side = shape[0], max(shape[1:])
    return UNetConfig(
        in_channels=channels,
        out_channels=channels,
        channels=32,  # at this budget the number of updates counts more than width
        multipliers=(1, 2) if side <= 28 else (1, 2, 2) if side <= 32 else (1, 2, 2, 2),  # down to 4…8 pixels
        blocks=2,
        attention=(),
        middle_attention=True,  # once, at the coarsest size, where it costs nothing: strokes and colours that agree
        head_channels=32,
        time_embedding="scale_shift",
        groups=8,
        patch=2,  # a quarter of the places with four times the channels: convolutions run fastest there
        classes=classes,
    )


def cifar10(shape: tuple[int, ...], classes: int = 0) -> UNetConfig:
    """The network of [HO20] for CIFAR-10, 35.7 million parameters: 4 levels of 2 blocks, attention at the second (16×16)."""
    return UNetConfig(
        in_channels=shape[0],
        out_channels=shape[0],
        channels=128,
        multipliers=(1, 2, 2, 2),
        blocks=2,
        attention=(1,),
        dropout=0.1,
        classes=classes,
    )


def points(shape: tuple[int, ...], classes: int = 0) -> MLPConfig:
    """For points: four residual blocks of 128, small enough for thousands of updates a minute."""
    return MLPConfig(in_features=shape[0], out_features=shape[0], width=128, depth=4, classes=classes)
