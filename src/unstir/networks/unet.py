"""The U-Net of [HO20] and of Dhariwal & Nichol 2021 (ADM).

The module tree has the names of diffusers' ``UNet2DModel``: a state dict of one loads into the other as it is
(:mod:`unstir.networks.unet2d` says which configuration of theirs is which of ours).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.networks.blocks import Downsample, ResidualBlock, Resize, SelfAttention, Upsample, zero
from unstir.networks.conditioning import VectorEmbedding, augmentation, beside, embedded
from unstir.networks.embedding import ClassEmbedding, Labels, TimeEmbedding
from unstir.shapes import Features, Images, ImagesAnew, ImagesOfAnySize, ImagesOut, RowNumbers


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net in plain values.

    Args:
        in_channels, out_channels: of the images; a learned variance doubles out_channels.
        channels: width of the finest level.
        multipliers: width of each level in units of ``channels``, finest first; each level has half the size of the last.
        blocks: residual blocks in each level going down (going up there is one more).
        attention: the levels with self-attention, 0 being the finest.
        middle_attention: self-attention at the bottom.
        head_channels: channels of one attention head; None: a single head [HO20].
        time_embedding: how the time enters a block.
        dropout: probability, before the second convolution of each block.
        classes: number of labels; 0: none.
        vector: how many numbers a condition's vector has; 0: none.
        image_channels: of a picture given as condition, beside x and one channel that says whether there is one; 0: none.
        augment: how many numbers say what was done to a training picture; 0: nothing is.
        patch: fold patch × patch pixels into channels at the input and unfold them at the output; 1 is the papers' network.
        groups: of every group norm; each layer's channels must divide by it.
        norm_eps: epsilon of every group norm.
        resample: change sizes by one convolution [HO20] or in a residual block of its own (ADM).
        pad_end: pad the halving convolutions below and right alone [HO20], not all around.
        cosine_first, frequency_shift: the order and the spacing of the time's sinusoids, see
            :func:`unstir.networks.embedding.sinusoidal`.
    """

    in_channels: int
    out_channels: int
    channels: int = 64
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = ()
    middle_attention: bool = True
    head_channels: int | None = None
    time_embedding: Literal["additive", "scale_shift"] = "additive"
    dropout: float = 0.0
    classes: int = 0
    patch: int = 1
    groups: int = 32
    norm_eps: float = 1e-6
    resample: Literal["conv", "block"] = "conv"
    pad_end: bool = True
    cosine_first: bool = False
    frequency_shift: int = 1
    vector: int = 0
    image_channels: int = 0
    augment: int = 0

    def __post_init__(self) -> None:
        # JSON has lists alone; equality and hashing want tuples.
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        object.__setattr__(self, "attention", tuple(self.attention))
        _check(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.channels * m for m in self.multipliers)

    @property
    def channels_in(self) -> int:
        """Of x, of the picture beside it, and of the word whether there is one."""
        return self.in_channels + (self.image_channels + 1 if self.image_channels else 0)

    @property
    def multiple(self) -> int:
        """What height and width are padded to a multiple of: the patch, halved between levels."""
        return self.patch * 2 ** (len(self.multipliers) - 1)


class UNet(nn.Module):
    """x (B, C, H, W), time (B,) and a condition to (B, out_channels, H, W), for any H and W.

    Sizes that are not a multiple of :attr:`UNetConfig.multiple` are padded with zeros, evenly on both sides, and the output
    is cropped back. Zeros, because that is what every convolution inside sees beyond the border already, and because zero
    is the mean of the noise and the middle of the data's range at every time; repeating or mirroring pixels would show the
    network noise that is not independent.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        time_width = 4 * config.channels
        self.conv_in = nn.Conv2d(config.channels_in * config.patch**2, widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(
            widths[0], time_width, shift=config.frequency_shift, cosine_first=config.cosine_first
        )
        self.class_embedding = ClassEmbedding(config.classes, time_width) if config.classes else None
        self.vector_embedding = VectorEmbedding(config.vector, time_width) if config.vector else None
        self.augment_embedding = nn.Linear(config.augment, time_width, bias=False) if config.augment else None
        self.down_blocks = nn.ModuleList(DownLevel(config, level) for level in range(len(widths)))
        self.mid_block = Middle(config)
        self.up_blocks = nn.ModuleList(UpLevel(config, level) for level in reversed(range(len(widths))))
        self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels * config.patch**2, 3, padding=1)
        zero(self.conv_out)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of x in which this network is fastest on a CPU.

        Convolutions prefer channels-last by about a seventh. torch's group norm then needs at least 16 channels in each
        group: below that its channels-last kernels walk single channels, and one costs more than the convolution after it.
        """
        wide = self.config.widths[0] // self.config.groups >= 16
        return torch.channels_last if wide else torch.contiguous_format

    def forward(self, x: Images, time: RowNumbers, condition: Labels | None = None) -> ImagesOut:
        """The raw output, (B, out_channels, H, W).

        Args:
            x: (B, in_channels, H, W).
            time: (B,), real.
            condition: see :class:`unstir.networks.conditioning.Conditions`.
        """
        height, width = x.shape[-2:]
        x, (top, left) = _padded(beside(x, self.config.image_channels, condition), self.config.multiple)
        embedding = self.time_embedding(time)
        for told in (
            embedded(self.class_embedding, self.vector_embedding, len(x), condition),
            augmentation(self.augment_embedding, condition),
        ):
            embedding = embedding if told is None else embedding + told
        embedding = F.silu(embedding)  # every block wants it: once here, not once in each

        h = self.conv_in(F.pixel_unshuffle(x, self.config.patch))
        skips = [h]
        for level in self.down_blocks:
            h = level(h, embedding, skips)
        h = self.mid_block(h, embedding)
        for level in self.up_blocks:
            h = level(h, embedding, skips)
        h = self.conv_out(F.silu(self.conv_norm_out(h)))
        return F.pixel_shuffle(h, self.config.patch)[..., top : top + height, left : left + width]


class DownLevel(nn.Module):
    """Residual blocks at one size, attention after each where wanted, then half the size (but not at the coarsest level)."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        widths = config.widths
        width = widths[level]
        inputs = [widths[max(level - 1, 0)]] + [width] * (config.blocks - 1)
        self.resnets = nn.ModuleList(_residual(config, before, width) for before in inputs)
        self.attentions = _attentions(config, level, config.blocks)
        self.downsamplers = nn.ModuleList() if level == len(widths) - 1 else nn.ModuleList([_smaller(config, width)])

    def forward(self, h: Images, time: Features, skips: list[ImagesOfAnySize]) -> ImagesAnew:
        for i, resnet in enumerate(self.resnets):
            h = resnet(h, time)
            if self.attentions:
                h = self.attentions[i](h)
            skips.append(h)
        for downsampler in self.downsamplers:
            h = downsampler(h, time)
            skips.append(h)
        return h


class Middle(nn.Module):
    """Two residual blocks at the coarsest size, with attention between them where wanted."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.resnets = nn.ModuleList(_residual(config, width, width) for _ in range(2))
        self.attentions = nn.ModuleList([_attention(config, width)] if config.middle_attention else [])

    def forward(self, h: Images, time: Features) -> Images:
        h = self.resnets[0](h, time)
        for attention in self.attentions:
            h = attention(h)
        return self.resnets[1](h, time)


class UpLevel(nn.Module):
    """Residual blocks that each take one of the way down's outputs back in, then twice the size (but not at the finest level)."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        widths = config.widths
        width = widths[level]
        below = [widths[min(level + 1, len(widths) - 1)]] + [width] * config.blocks
        skipped = [width] * config.blocks + [widths[max(level - 1, 0)]]
        self.resnets = nn.ModuleList(_residual(config, a + b, width) for a, b in zip(below, skipped))
        self.attentions = _attentions(config, level, config.blocks + 1)
        self.upsamplers = nn.ModuleList([] if level == 0 else [_larger(config, width)])

    def forward(self, h: Images, time: Features, skips: list[ImagesOfAnySize]) -> ImagesAnew:
        for i, resnet in enumerate(self.resnets):
            h = resnet(torch.cat([h, skips.pop()], 1), time)
            if self.attentions:
                h = self.attentions[i](h)
        for upsampler in self.upsamplers:
            h = upsampler(h, time)
        return h


def _residual(config: UNetConfig, before: int, width: int, resize: Resize = None) -> ResidualBlock:
    return ResidualBlock(
        before,
        width,
        4 * config.channels,
        groups=config.groups,
        eps=config.norm_eps,
        scale_shift=config.time_embedding == "scale_shift",
        dropout=config.dropout,
        resize=resize,
    )


def _attention(config: UNetConfig, width: int) -> SelfAttention:
    return SelfAttention(width, width // (config.head_channels or width), groups=config.groups, eps=config.norm_eps)


def _attentions(config: UNetConfig, level: int, count: int) -> nn.ModuleList:
    wanted = count if level in config.attention else 0
    return nn.ModuleList(_attention(config, config.widths[level]) for _ in range(wanted))


def _smaller(config: UNetConfig, width: int) -> nn.Module:
    if config.resample == "block":
        return _residual(config, width, width, "down")
    return Downsample(width, pad_end=config.pad_end)


def _larger(config: UNetConfig, width: int) -> nn.Module:
    return _residual(config, width, width, "up") if config.resample == "block" else Upsample(width)


def _padded(x: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    # Returns the rows above and columns to the left that were added, for the crop.
    height, width = x.shape[-2:]
    rows, columns = -height % multiple, -width % multiple
    top, left = rows // 2, columns // 2
    if rows or columns:
        x = F.pad(x, (left, columns - left, top, rows - top))
    return x, (top, left)


def _check(config: UNetConfig) -> None:
    def need(holds: bool, message: str) -> None:
        if not holds:
            raise UserError(f"the U-Net's {message}")

    sizes = (config.in_channels, config.out_channels, config.channels, config.blocks, config.patch, config.groups)
    need(min(sizes) >= 1, "channel counts, blocks, patch and groups must be at least 1")
    need(len(config.multipliers) >= 1 and min(config.multipliers) >= 1, "multipliers must be whole numbers from 1 up")
    need(config.widths[0] % 2 == 0 and config.widths[0] > 2, "finest width must be even and more than 2")
    for width in config.widths:
        need(width % config.groups == 0, f"widths {config.widths} must each divide by groups = {config.groups}")
    levels = len(config.multipliers)
    need(
        all(0 <= level < levels for level in config.attention),
        f"attention names levels from 0 (finest) to {levels - 1}, not {config.attention}",
    )
    attended = [config.widths[level] for level in config.attention] + [config.widths[-1]] * config.middle_attention
    need(
        all(width % (config.head_channels or width) == 0 for width in attended),
        f"widths with attention {tuple(attended)} must each divide by head_channels = {config.head_channels}",
    )
    need(0 <= config.dropout < 1, f"dropout must be a probability below 1, not {config.dropout}")
    need(config.classes >= 0, f"number of classes cannot be {config.classes}")
    need(
        min(config.vector, config.image_channels, config.augment) >= 0,
        "vector, image_channels and augment cannot be negative",
    )
    need(config.time_embedding in ("additive", "scale_shift"), 'time_embedding is "additive" or "scale_shift"')
    need(config.resample in ("conv", "block"), 'resample is "conv" or "block"')
