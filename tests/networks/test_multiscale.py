"""Laws of the 2015 network for pictures."""

from __future__ import annotations

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.errors import UserError
from unstir.networks import MultiScale, MultiScaleConfig
from unstir.networks.multiscale import MultiScaleConv, pool

CONV = MultiScaleConfig(2, 6, (9, 7), steps=100, scales=3, conv_layers=2, conv_hidden=5, upper_hidden=4)
DENSE = replace(CONV, scales=0, dense_layers=3, dense_hidden=11)
VARIANTS = {
    "convolutions": CONV,
    "one scale": replace(CONV, scales=1),
    "dense": DENSE,
    "both": replace(CONV, dense_layers=1, dense_features=3),
    "readout alone": replace(CONV, upper_layers=1, temporal_basis=1),
    "three upper layers": replace(CONV, upper_layers=3),
}


def awake(config: MultiScaleConfig, dtype: torch.dtype = torch.float64) -> MultiScale:
    """A network whose readout does not start at zero, so that every path shows in its output."""
    torch.manual_seed(0)
    network = MultiScale(config)
    for parameter in network.readout.parameters():
        nn.init.normal_(parameter)
    return network.to(dtype)


def inputs(size: tuple[int, int] = (9, 7), dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x.to(dtype), torch.tensor([0.0, 17.25, 99.0]).to(dtype)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
class TestEveryVariant:
    def test_starts_at_zero(self, config: MultiScaleConfig) -> None:
        output = MultiScale(config)(*inputs(dtype=torch.float32))
        assert output.shape == (3, 6, 9, 7)
        assert not output.any()

    def test_samples_do_not_see_each_other(self, config: MultiScaleConfig) -> None:
        network = awake(config)
        x, time = inputs()
        order = torch.tensor([2, 0, 1])
        with torch.no_grad():
            together = network(x, time)
            alone = torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(3)])
            torch.testing.assert_close(alone, together)
            torch.testing.assert_close(network(x[order], time[order]), together[order])

    def test_channels_last_and_bfloat16_compute_the_same(self, config: MultiScaleConfig) -> None:
        network = awake(config, torch.float32)
        x, time = inputs(dtype=torch.float32)
        with torch.no_grad():
            expected = network(x, time)
            last = x.contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(network(last, time), expected, rtol=1e-4, atol=1e-4)
            with torch.autocast("cpu", torch.bfloat16):
                low = network(x, time)
            assert (low.float() - expected).norm() < 0.05 * expected.norm()

    def test_every_parameter_gets_a_gradient(self, config: MultiScaleConfig) -> None:
        network = awake(config)
        network(*inputs()).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_time_matters_between_whole_numbers_unless_there_is_one_bump() -> None:
    x = inputs()[0][:1].expand(3, 2, 9, 7)
    time = torch.tensor([3.0, 3.5, 4.0], dtype=torch.float64)
    with torch.no_grad():
        first, second, third = awake(CONV)(x, time)
        assert (second - first).abs().max() > 1e-6
        assert (third - second).abs().max() > 1e-6
        still = awake(replace(CONV, temporal_basis=1))(x, time)
        torch.testing.assert_close(still[1:], still[:1].expand(2, 6, 9, 7))


class TestScales:
    @pytest.mark.parametrize("size", [(28, 28), (7, 5), (1, 1), (3, 16)])
    def test_each_block_is_the_mean_of_the_pixels_it_has(self, size: tuple[int, int]) -> None:
        x, _ = inputs(size)
        for k in range(4):
            side, pooled = 2**k, pool(x, k)
            assert pooled.shape[-2:] == (-(-size[0] // side), -(-size[1] // side))
            for i in range(pooled.shape[2]):
                for j in range(pooled.shape[3]):
                    block = x[..., i * side : (i + 1) * side, j * side : (j + 1) * side]
                    torch.testing.assert_close(pooled[..., i, j], block.mean((2, 3)))

    @pytest.mark.parametrize("size", [(28, 28), (7, 5), (1, 1), (3, 16)])
    def test_a_layer_is_the_sum_over_its_scales(self, size: tuple[int, int]) -> None:
        torch.manual_seed(0)
        layer = MultiScaleConv(2, 3, 3).double()
        x, _ = inputs(size)
        total = torch.zeros(3, 3, *size, dtype=torch.float64)
        for k, conv in enumerate(layer.convs):
            fine = conv(pool(x, k)).repeat_interleave(2**k, 2).repeat_interleave(2**k, 3)
            total = total + fine[..., : size[0], : size[1]]
        torch.testing.assert_close(layer(x), torch.log1p(total.exp()))

    @pytest.mark.parametrize("size", [(28, 28), (32, 32), (1, 4), (4, 1), (17, 23)])
    def test_every_size_keeps_its_shape_and_convolutions_fit_all(self, size: tuple[int, int]) -> None:
        x, time = inputs(size)
        with torch.no_grad():
            output = awake(CONV)(x, time)
        assert output.shape == (3, 6, *size)
        assert output.isfinite().all()

    def test_convolutions_move_with_the_picture_by_the_coarsest_block(self) -> None:
        # Two layers at three scales reach at most twice 4 + 3 pixels; beyond that from the border a shift passes through.
        network, (x, time) = awake(CONV), inputs((52, 48))
        margin = 20
        inside = (..., slice(margin, -margin), slice(margin, -margin))

        def moved(y: Tensor, by: int) -> Tensor:
            return y.roll((by, -by), (2, 3))

        with torch.no_grad():
            torch.testing.assert_close(network(moved(x, 4), time)[inside], moved(network(x, time), 4)[inside])
            assert (network(moved(x, 2), time) - moved(network(x, time), 2))[inside].abs().max() > 1e-3
            finest = awake(replace(CONV, scales=1))
            torch.testing.assert_close(finest(moved(x, 1), time)[inside], moved(finest(x, time), 1)[inside])

    def test_dense_layers_know_where_they_are(self) -> None:
        network = awake(replace(DENSE, size=(8, 8)))
        x, time = inputs((8, 8))
        with torch.no_grad():
            moved = network(x.roll((4, 4), (2, 3)), time)
            assert (moved - network(x, time).roll((4, 4), (2, 3))).abs().max() > 1e-3

    def test_dense_layers_see_the_whole_picture_and_convolutions_what_is_near(self) -> None:
        for config, reaches in ((replace(CONV, size=(40, 40)), False), (replace(DENSE, size=(40, 40)), True)):
            x, time = inputs((40, 40))
            x.requires_grad_()
            awake(config)(x, time)[..., 0, 0].square().sum().backward()
            assert x.grad is not None
            assert bool(x.grad[..., -1, -1].any()) == reaches

    def test_dense_layers_refuse_another_size(self) -> None:
        with pytest.raises(UserError, match="7×9 pixels, not 9×7"):
            awake(DENSE)(*inputs((7, 9)))


@pytest.mark.parametrize("scales", [1, 3])
@pytest.mark.parametrize("smooth", [False, True])
def test_what_varies_in_the_picture_lasts_through_the_layers(scales: int, smooth: bool) -> None:
    torch.manual_seed(0)
    h = torch.randn(16, 1, 40, 40)
    if smooth:
        h = F.avg_pool2d(h, 13, 1)
    h = h / h.std()
    with torch.no_grad():
        for layer in MultiScale(MultiScaleConfig(1, 1, (28, 28), steps=10, scales=scales)).convolutions:
            h = layer(h)
            assert 0.05 < h.std(0).mean() < 1
            assert 0.5 < h.mean() < 1.2


def test_it_traces_without_a_break() -> None:
    network = awake(VARIANTS["both"], torch.float32)
    x, time = inputs(dtype=torch.float32)
    program = torch.export.export(network, (x, time))
    torch.testing.assert_close(program.module()(x, time), network(x, time), rtol=1e-5, atol=1e-5)


def test_a_label_is_refused() -> None:
    x, time = inputs(dtype=torch.float32)
    with pytest.raises(UserError, match="without classes"):
        MultiScale(CONV)(x, time, SimpleNamespace(label=torch.zeros(3, dtype=torch.long), null=None))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"in_channels": 0}, "channels"),
        ({"size": (9,)}, "size is"),
        ({"size": (9, 0)}, "size"),
        ({"scales": -1}, "negative"),
        ({"scales": 0}, "cannot both be 0"),
        ({"scales": 5}, "coarsest of 5 scales"),
        ({"conv_hidden": 0}, "hidden widths"),
        ({"upper_layers": 0}, "upper_layers"),
        ({"temporal_basis": 101}, "temporal_basis"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_one_line(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        MultiScaleConfig(**{**asdict(CONV), **changes})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
