"""Laws of the U-Net that hold for any weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from unstir.errors import UserError
from unstir.networks import UNet, UNetConfig

PLAIN = UNetConfig(2, 3, channels=16, multipliers=(1, 2), blocks=1, groups=4)
VARIANTS = {
    "additive": PLAIN,
    "scale_shift": replace(PLAIN, time_embedding="scale_shift", cosine_first=True, frequency_shift=0),
    "attention": replace(PLAIN, attention=(0, 1), head_channels=8),
    "resample in blocks": replace(PLAIN, resample="block"),
    "patch": replace(PLAIN, patch=2),
    "classes": replace(PLAIN, classes=5),
    "one level, three blocks": replace(PLAIN, multipliers=(1,), blocks=3, middle_attention=False),
    "wide groups": replace(PLAIN, groups=1),
}


def awake(config: UNetConfig, dtype: torch.dtype = torch.float64) -> UNet:
    """A network without the zeros it starts with, so that every path shows in its output."""
    torch.manual_seed(0)
    network = UNet(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.to(dtype).eval()


def inputs(size: tuple[int, int] = (8, 8), batch: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 2, *size, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.tensor([0.0, 17.25, 999.0])[:batch].to(dtype)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
class TestEveryVariant:
    def test_starts_at_zero(self, config: UNetConfig) -> None:
        x, time = inputs(dtype=torch.float32)
        output = UNet(config)(x, time)
        assert output.shape == (3, 3, 8, 8)
        assert not output.any()

    @pytest.mark.parametrize("size", [(1, 1), (7, 5), (17, 23), (28, 28), (2, 64)])
    def test_any_size_is_the_padded_size_cropped(self, config: UNetConfig, size: tuple[int, int]) -> None:
        network = awake(config)
        x, time = inputs(size)
        m = config.multiple
        rows, columns = -size[0] % m, -size[1] % m
        top, left = rows // 2, columns // 2
        padded = torch.zeros(3, 2, size[0] + rows, size[1] + columns, dtype=torch.float64)
        padded[..., top : top + size[0], left : left + size[1]] = x
        with torch.no_grad():
            expected = network(padded, time)[..., top : top + size[0], left : left + size[1]]
            torch.testing.assert_close(network(x, time), expected, rtol=0, atol=0)

    def test_samples_do_not_see_each_other(self, config: UNetConfig) -> None:
        network = awake(config)
        x, time = inputs()
        with torch.no_grad():
            together = network(x, time)
            alone = torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)

    def test_time_matters_between_whole_numbers(self, config: UNetConfig) -> None:
        network = awake(config)
        x, _ = inputs(batch=1)
        with torch.no_grad():
            outputs = [network(x, torch.tensor([t], dtype=torch.float64)) for t in (3.0, 3.5, 4.0)]
        assert (outputs[1] - outputs[0]).abs().max() > 1e-6
        assert (outputs[2] - outputs[1]).abs().max() > 1e-6

    def test_channels_last_and_bfloat16_compute_the_same(self, config: UNetConfig) -> None:
        network = awake(config, torch.float32)
        x, time = inputs(dtype=torch.float32)
        with torch.no_grad():
            expected = network(x, time)
            torch.testing.assert_close(
                network(x.to(memory_format=torch.channels_last), time), expected, rtol=1e-4, atol=1e-4
            )
            for layout in (torch.contiguous_format, torch.channels_last):
                with torch.autocast("cpu", torch.bfloat16):
                    low = network(x.contiguous(memory_format=layout), time)
                assert low.dtype == torch.bfloat16
                assert (low.float() - expected).norm() < 0.05 * expected.norm()

    def test_every_parameter_gets_a_gradient(self, config: UNetConfig) -> None:
        network = awake(config, torch.float32).train()
        x, time = inputs(dtype=torch.float32)
        labels = SimpleNamespace(label=torch.tensor([0, 1, 2]), null=None) if config.classes else None
        with torch.autocast("cpu", torch.bfloat16):
            network(x, time, labels).float().square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A key's bias adds the same to a whole row of the softmax, and a bias before a one-group norm can vanish too.
            if not name.endswith("to_k.bias"):
                assert parameter.grad.any(), name


def test_blocks_start_as_the_identity_of_their_input() -> None:
    network = UNet(replace(PLAIN, attention=(0,)))
    x = torch.randn(2, 16, 8, 8)
    time = torch.randn(2, 64)
    block, attention = network.down_blocks[0].resnets[0], network.down_blocks[0].attentions[0]  # type: ignore[union-attr]
    torch.testing.assert_close(block(x, time), x, rtol=0, atol=0)
    torch.testing.assert_close(attention(x), x, rtol=0, atol=0)


class TestClasses:
    config = replace(PLAIN, classes=4)

    def outputs(self, label: Tensor | None, null: Tensor | None) -> Tensor:
        x, time = inputs()
        with torch.no_grad():
            return awake(self.config)(x, time, SimpleNamespace(label=label, null=null))

    def test_no_label_is_one_row_of_its_own(self) -> None:
        x, time = inputs()
        label = torch.tensor([0, 3, 2])
        with torch.no_grad():
            nothing = awake(self.config)(x, time)
        torch.testing.assert_close(self.outputs(None, None), nothing, rtol=0, atol=0)
        torch.testing.assert_close(self.outputs(label, torch.ones(3, dtype=torch.bool)), nothing, rtol=0, atol=0)
        for c in range(4):
            real = self.outputs(torch.full((3,), c), None)
            assert ((real - nothing).abs().amax((1, 2, 3)) > 1e-6).all()

    def test_null_is_per_sample(self) -> None:
        label = torch.tensor([0, 3, 2])
        null = torch.tensor([False, True, False])
        mixed = self.outputs(label, null)
        labelled, nothing = self.outputs(label, None), self.outputs(None, None)
        torch.testing.assert_close(mixed[[0, 2]], labelled[[0, 2]])
        torch.testing.assert_close(mixed[1], nothing[1])
        assert (mixed[1] - labelled[1]).abs().max() > 1e-6

    def test_a_class_that_does_not_exist_is_an_error(self) -> None:
        with pytest.raises(IndexError):
            self.outputs(torch.tensor([0, 5, 1]), None)

    def test_a_label_for_a_network_without_classes_is_refused(self) -> None:
        x, time = inputs(dtype=torch.float32)
        with pytest.raises(UserError, match="classes = 0"):
            UNet(PLAIN)(x, time, SimpleNamespace(label=torch.zeros(3, dtype=torch.long), null=None))


def test_dropout_acts_in_training_alone() -> None:
    network = awake(replace(PLAIN, dropout=0.5))
    x, time = inputs()
    with torch.no_grad():
        torch.testing.assert_close(network(x, time), network(x, time), rtol=0, atol=0)
        network.train()
        assert (network(x, time) - network(x, time)).abs().max() > 1e-6


def test_it_traces_without_a_break() -> None:
    network = awake(replace(PLAIN, attention=(1,), classes=3), torch.float32)
    x, time = inputs((9, 8), dtype=torch.float32)
    program = torch.export.export(network, (x, time))
    torch.testing.assert_close(program.module()(x, time), network(x, time), rtol=1e-5, atol=1e-5)


def test_the_layout_it_asks_for_follows_the_width_of_its_groups() -> None:
    assert UNet(replace(PLAIN, groups=1)).memory_format == torch.channels_last
    assert UNet(replace(PLAIN, groups=4)).memory_format == torch.contiguous_format


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"groups": 3}, "groups = 3"),
        ({"attention": (2,)}, "levels from 0"),
        ({"attention": (0,), "head_channels": 12}, "head_channels = 12"),
        ({"multipliers": ()}, "multipliers"),
        ({"dropout": 1.0}, "dropout"),
        ({"patch": 0}, "patch"),
        ({"time_embedding": "both"}, "time_embedding"),
        ({"resample": "fir"}, "resample"),
        ({"classes": -1}, "classes"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_one_line(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        UNetConfig(**{**asdict(PLAIN), **changes})
    assert "\n" not in str(raised.value)
