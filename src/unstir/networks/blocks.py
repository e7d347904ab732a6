"""The parts of the U-Net: residual block, self-attention, and the two changes of size.

Parameter names are those of diffusers' ``ResnetBlock2D``, ``Attention``, ``Downsample2D`` and ``Upsample2D``, so that
weights pass from one to the other by name.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from unstir.shapes import Features, Heads, Images, ImagesAnew, ImagesResized

Resize = Literal["up", "down"] | None


class ResidualBlock(nn.Module):
    """``x + conv2(silu(norm2(conv1(silu(norm1(x)))) with the time in it))`` [HO20 app. B; Dhariwal & Nichol 2021, §3].

    The time enters as ``norm2(h + a)`` (additive) or ``norm2(h) (1 + a) + b`` (scale and shift). conv2 starts at zero: the
    block starts as the identity.

    Args:
        in_channels, out_channels: where they differ, a 1×1 convolution carries x over.
        time_width: length of the time embedding, which arrives with its SiLU already applied.
        scale_shift: the second form.
        resize: halve (average) or double (nearest) the size inside the block, as ADM does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_width: int,
        *,
        groups: int,
        eps: float,
        scale_shift: bool,
        dropout: float = 0.0,
        resize: Resize = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resize: Resize = resize
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, out_channels * (2 if scale_shift else 1))
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        zero(self.conv2)

    def forward(self, x: Images, time: Features) -> ImagesAnew:
        h = F.silu(self.norm1(x))
        if self.resize is not None:
            x, h = resized(x, self.resize), resized(h, self.resize)
        h = self.conv1(h)
        # The convolution sets the working type (bfloat16 under autocast); a float32 here would widen all that follows.
        shift = self.time_emb_proj(time).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = shift.chunk(2, 1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + shift)
        h = self.conv2(self.dropout(F.silu(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class SelfAttention(nn.Module):
    """``x + W_o softmax(q k^T / sqrt(d)) v``, with q, k, v linear in the normalised pixels of x.

    Each row of the softmax runs over the keys. W_o starts at zero.

    Args:
        channels: of x, split evenly over the heads.
        heads: number of heads.
    """

    def __init__(self, channels: int, heads: int, *, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, channels, eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        zero(self.to_out[0])

    def forward(self, x: Images) -> Images:
        batch, channels, height, width = x.shape
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        layers = (self.to_q, self.to_k, self.to_v)
        # One product for the three: the pixels are read once.
        weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
        qkv = F.linear(pixels, weight, bias).reshape(batch, height * width, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, HW, d)
        mixed = attend(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
        return x + self.to_out[0](mixed).transpose(1, 2).reshape(batch, channels, height, width)


class Downsample(nn.Module):
    """A 3×3 convolution with stride 2: half the size.

    Args:
        pad_end: pad below and right alone, as TensorFlow's "same" does [HO20], not all around.
    """

    def __init__(self, channels: int, *, pad_end: bool) -> None:
        super().__init__()
        self.pad_end = pad_end
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if pad_end else 1)

    def forward(self, x: Images, time: Features) -> ImagesResized:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.pad_end else x)


class Upsample(nn.Module):
    """Nearest neighbours, then a 3×3 convolution: twice the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Images, time: Features) -> ImagesResized:
        return self.conv(resized(x, "up"))


def attend(q: Heads, k: Heads, v: Heads) -> Heads:
    """``softmax(q k^T / sqrt(d)) v``, all (B, heads, tokens, d); each row of the softmax runs over the keys.

    torch's fused kernel, but not in bfloat16 on a CPU: there it was measured 3 to 10 times slower, forward and backward,
    than the same in three steps. The fused one needs no tokens × tokens table, so it keeps the large pictures.
    """
    tokens, width = q.shape[-2:]
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and tokens <= 1024:
        return torch.softmax((q * width**-0.5) @ k.transpose(-1, -2), -1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def resized(x: Images, how: Literal["up", "down"]) -> ImagesResized:
    """Half the size by averaging, or twice the size by repeating."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if how == "up" else F.avg_pool2d(x, 2)


def zero(layer: nn.Module) -> None:
    """Set a layer's weights to zero, so that the branch it ends starts silent."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
