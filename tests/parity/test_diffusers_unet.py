"""diffusers' UNet2DModel as a witness: the same weights under the same names give the same outputs, in both directions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unstir.errors import UserError
from unstir.networks import UNet, UNetConfig
from unstir.networks.embedding import sinusoidal
from unstir.networks.presets import preset
from unstir.networks.unet2d import from_unet2d, to_unet2d

UNet2DModel: Any = pytest.importorskip("diffusers").UNet2DModel

DDPM = UNetConfig(3, 3, channels=32, multipliers=(1, 2, 2), blocks=2, attention=(1,), groups=8)
ADM = UNetConfig(
    in_channels=3,
    out_channels=6,
    channels=32,
    multipliers=(1, 2, 3),
    blocks=1,
    attention=(1, 2),
    head_channels=16,
    time_embedding="scale_shift",
    classes=4,
    groups=8,
    norm_eps=1e-5,
    resample="block",
    pad_end=False,
    cosine_first=True,
    frequency_shift=0,
)
CONFIGS = {
    "ddpm": DDPM,
    "adm": ADM,
    "ddpm without attention": replace(DDPM, attention=(), middle_attention=False, blocks=1),
    "ddpm, padded all around": replace(DDPM, pad_end=False),
    "improved ddpm": replace(ADM, resample="conv", head_channels=32, classes=0),
    "additive adm": replace(ADM, time_embedding="additive"),
}


def witness(config: UNetConfig) -> Any:
    torch.manual_seed(0)
    return UNet2DModel(**to_unet2d(config)).eval()


def inputs(config: UNetConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, config.in_channels, 16, 8, generator=generator, dtype=torch.float64).to(dtype)
    label = torch.tensor([0, 3, config.classes]) if config.classes else None
    return x, torch.tensor([0.0, 3.0, 999.0]), label


def outputs(ours: UNet, theirs: Any, config: UNetConfig, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, time, label = inputs(config, dtype)
    with torch.no_grad():
        mine = ours(x, time, SimpleNamespace(label=label, null=None))
        return mine, theirs(x, time, class_labels=label).sample


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
class TestSameWeightsSameOutputs:
    def test_theirs_in_ours(self, config: UNetConfig) -> None:
        theirs, ours = witness(config), UNet(config).eval()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        mine, expected = outputs(ours, theirs, config, torch.float32)
        assert expected.std() > 0.05
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)

    def test_ours_in_theirs(self, config: UNetConfig) -> None:
        theirs = witness(config)
        torch.manual_seed(2)
        ours = UNet(config).eval()
        for parameter in ours.parameters():  # a fresh one answers zero
            nn.init.normal_(parameter, std=0.05)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        mine, expected = outputs(ours, theirs, config, torch.float32)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)

    def test_to_the_last_digits_in_float64(self, config: UNetConfig) -> None:
        theirs, ours = witness(config).double(), UNet(config).eval().double()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        # Their sinusoids are float32 whatever the weights: at time 999 that is 1e-5 off. Everything after them is compared.
        order = {"shift": config.frequency_shift, "cosine_first": config.cosine_first}
        theirs.time_proj.forward = lambda time: sinusoidal(time.double(), config.widths[0], **order)
        mine, expected = outputs(ours, theirs, config, torch.float64)
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-12)

    def test_gradients(self, config: UNetConfig) -> None:
        theirs, ours = witness(config), UNet(config)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        x, time, label = inputs(config, torch.float32)
        ours(x, time, SimpleNamespace(label=label, null=None)).square().mean().backward()
        theirs(x, time, class_labels=label).sample.square().mean().backward()
        expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        for name, parameter in ours.named_parameters():
            label_of = f"gradient of {name}"
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5, msg=label_of)

    def test_the_configuration_survives_the_round_trip(self, config: UNetConfig) -> None:
        assert from_unet2d(to_unet2d(config)) == config
        assert from_unet2d(dict(witness(config).config)) == config


def test_the_papers_cifar10_network() -> None:
    # [HO20] app. B, table: 35.7 million. Counted by hand from the architecture: c_in c_out 9 + c_out for a 3×3 convolution, …
    config = preset("cifar10", (3, 32, 32))

    def conv(a: int, b: int, k: int = 3) -> int:
        return a * b * k * k + b

    def residual(a: int, b: int) -> int:
        shortcut = conv(a, b, 1) if a != b else 0
        return 2 * a + conv(a, b) + (512 * b + b) + 2 * b + conv(b, b) + shortcut

    def attention(c: int) -> int:
        return 2 * c + 4 * (c * c + c)

    down = residual(128, 128) * 2 + conv(128, 128)
    down += residual(128, 256) + residual(256, 256) + 2 * attention(256) + conv(256, 256)
    down += 2 * residual(256, 256) + conv(256, 256) + 2 * residual(256, 256)
    middle = 2 * residual(256, 256) + attention(256)
    up = 2 * (3 * residual(512, 256) + conv(256, 256))
    up += 2 * residual(512, 256) + residual(384, 256) + 3 * attention(256) + conv(256, 256)
    up += residual(384, 128) + 2 * residual(256, 128)
    ends = conv(3, 128) + 2 * 128 + conv(128, 3)
    time = (128 * 512 + 512) + (512 * 512 + 512)
    total = down + middle + up + ends + time
    with torch.device("meta"):
        ours = sum(p.numel() for p in UNet(config).parameters())
        theirs = sum(p.numel() for p in UNet2DModel(**to_unet2d(config)).parameters())
    assert ours == theirs == total
    assert round(total / 1e6, 1) == 35.7


def test_a_published_configuration_is_read() -> None:
    # The fields of a DDPM checkpoint for CIFAR-10 in its first format, as they stand in its config.json.
    published = {
        "_class_name": "UNet2DModel",
        "act_fn": "silu",
        "attention_head_dim": None,
        "block_out_channels": [128, 256, 256, 256],
        "center_input_sample": False,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "in_channels": 3,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-06,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 32,
        "time_embedding_type": "positional",
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }
    assert from_unet2d(published) == UNetConfig(3, 3, channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(1,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"act_fn": "gelu"}, "act_fn"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"down_block_types": ("SkipDownBlock2D", "AttnDownBlock2D")}, "SkipDownBlock2D"),
        ({"block_out_channels": (32, 48)}, "multiples of the first"),
        ({"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": None}, "attn_norm_num_groups"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    config = to_unet2d(UNetConfig(3, 3, channels=32, multipliers=(1, 2), attention=(1,), groups=8))
    with pytest.raises(UserError, match=says):
        from_unet2d({**config, **changes})


def test_a_patch_has_no_counterpart() -> None:
    with pytest.raises(UserError, match="patch = 2"):
        to_unet2d(UNetConfig(3, 3, patch=2))
