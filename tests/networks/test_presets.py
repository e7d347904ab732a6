from __future__ import annotations

import pytest
import torch

from unstir.errors import UserError
from unstir.networks import UNet
from unstir.networks.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 17, 40), (2, 1, 1)])
def test_every_preset_fits_every_shape(name: str, shape: tuple[int, int, int]) -> None:
    config = preset(name, shape, out_channels=2 * shape[0], classes=3)
    with torch.device("meta"):
        network = UNet(config)
        output = network(torch.empty(2, *shape), torch.empty(2))
    assert output.shape == (2, 2 * shape[0], *shape[1:])
    assert network.class_embedding is not None


def test_small_presets_run_in_the_fast_layout_and_waste_no_padding() -> None:
    for name, shape in (("tiny", (1, 8, 8)), ("small", (1, 28, 28)), ("small", (3, 32, 32)), ("small", (3, 64, 64))):
        config = preset(name, shape)
        assert shape[1] % config.multiple == 0
        with torch.device("meta"):
            assert UNet(config).memory_format == torch.channels_last


def test_the_names_are_said() -> None:
    with pytest.raises(UserError, match="tiny, small, cifar10"):
        preset("huge", (3, 8, 8))
