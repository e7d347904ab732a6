"""Our U-Net in the words of diffusers' ``UNet2DModel``, and back: plain dictionaries, and the weights keep their names.

Only ``patch`` has no word there. Their class table has one row more than there are classes (the row for "no label"), since
that is what ours holds.
"""

from __future__ import annotations

from typing import Any

from unstir.errors import UserError
from unstir.networks.unet import UNetConfig

# What a UNet2DModel is when its configuration does not say, and the values that our network can take.
_DEFAULTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "num_class_embeds": None,
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "mid_block_scale_factor": (1, None),
    "mid_block_type": ("UNetMidBlock2D",),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
}
_ATTENTION_DOWN, _ATTENTION_UP = "AttnDownBlock2D", "AttnUpBlock2D"
_PLAIN = {"conv": ("DownBlock2D", "UpBlock2D"), "resnet": ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")}


def to_unet2d(config: UNetConfig) -> dict[str, Any]:
    """The arguments of the ``UNet2DModel`` that computes the same function from the same state dict.

    Raises:
        UserError: for a patch other than 1, which that class does not have.
    """
    if config.patch != 1:
        raise UserError(f"UNet2DModel has no patch: a U-Net with patch = {config.patch} cannot be written as one")
    resample = "resnet" if config.resample == "block" else "conv"
    down, up = _PLAIN[resample]
    levels = range(len(config.multipliers))
    attends = [level in config.attention for level in levels]
    return {
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "freq_shift": config.frequency_shift,
        "flip_sin_to_cos": config.cosine_first,
        "down_block_types": tuple(_ATTENTION_DOWN if a else down for a in attends),
        "up_block_types": tuple(_ATTENTION_UP if a else up for a in reversed(attends)),
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "downsample_padding": 0 if config.pad_end else 1,
        "downsample_type": resample,
        "upsample_type": resample,
        "dropout": config.dropout,
        "attention_head_dim": config.head_channels,
        "norm_num_groups": config.groups,
        # Left out, a scale_shift model would lose the norm in its middle attention without a word.
        "attn_norm_num_groups": config.groups,
        "norm_eps": config.norm_eps,
        "resnet_time_scale_shift": "scale_shift" if config.time_embedding == "scale_shift" else "default",
        "add_attention": config.middle_attention,
        "num_class_embeds": config.classes + 1 if config.classes else None,
    }


def from_unet2d(theirs: dict[str, Any]) -> UNetConfig:
    """Our configuration of the network that a ``UNet2DModel`` configuration describes; what is missing has their default.

    Raises:
        UserError: naming the first setting that our U-Net does not have.
    """
    for name, allowed in _FIXED.items():
        if theirs.get(name, allowed[0]) not in allowed:
            raise UserError(f"a UNet2DModel with {name} = {theirs[name]!r} has no counterpart here")
    given = {**_DEFAULTS, **{name: value for name, value in theirs.items() if name in _DEFAULTS}}
    resample = given["downsample_type"]
    kinds = list(given["down_block_types"])
    plain = [kind for kind in kinds if kind != _ATTENTION_DOWN]
    if resample not in _PLAIN or any(kind != _PLAIN[resample][0] for kind in plain):
        raise UserError(
            f"a UNet2DModel with down_block_types = {kinds} and downsample_type = {resample!r} has no counterpart here"
        )
    if (
        given["resnet_time_scale_shift"] == "scale_shift"
        and given["add_attention"]
        and not theirs.get("attn_norm_num_groups")
    ):
        raise UserError(
            "a UNet2DModel with scale_shift and no attn_norm_num_groups has no norm in its middle attention: no counterpart here"
        )
    widths = [int(width) for width in given["block_out_channels"]]
    if any(width % widths[0] for width in widths):
        raise UserError(f"block_out_channels = {widths} are not multiples of the first: no counterpart here")
    classes = given["num_class_embeds"]
    return UNetConfig(
        in_channels=given["in_channels"],
        out_channels=given["out_channels"],
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks=given["layers_per_block"],
        attention=tuple(level for level, kind in enumerate(kinds) if kind == _ATTENTION_DOWN),
        middle_attention=given["add_attention"],
        head_channels=given["attention_head_dim"],
        time_embedding="scale_shift" if given["resnet_time_scale_shift"] == "scale_shift" else "additive",
        dropout=given["dropout"],
        classes=classes - 1 if classes else 0,
        groups=given["norm_num_groups"],
        norm_eps=given["norm_eps"],
        resample="block" if resample == "resnet" else "conv",
        pad_end=given["downsample_padding"] == 0,
        cosine_first=given["flip_sin_to_cos"],
        frequency_shift=given["freq_shift"],
    )
