from __future__ import annotations

import json
import tomllib

import pytest
import tomli_w
from torch import nn

from unstir.errors import UserError
from unstir.networks import (
    MLP,
    RBF,
    MLPConfig,
    MultiScale,
    MultiScaleConfig,
    RBFConfig,
    StepMLP,
    StepMLPConfig,
    UNet,
    UNetConfig,
    build,
    config_of,
)

NETWORKS = [
    UNet(UNetConfig(1, 2, channels=16, multipliers=(1, 2), attention=(1,), groups=4, classes=3)),
    MLP(MLPConfig(2, 2, width=16, classes=3)),
    RBF(RBFConfig(2, 4, steps=5)),
    StepMLP(StepMLPConfig(4, 4, steps=5, width=6)),
    MultiScale(MultiScaleConfig(1, 2, (7, 5), steps=20, scales=2, dense_layers=2, dense_hidden=6)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_a_network_comes_back_from_json(network: nn.Module) -> None:
    again = build(json.loads(json.dumps(config_of(network))))
    assert type(again) is type(network)
    assert again.config == network.config
    again.load_state_dict(network.state_dict(), strict=True)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_a_network_comes_back_from_toml_which_has_no_null(network: nn.Module) -> None:
    settings = {name: value for name, value in config_of(network).items() if value is not None}
    assert build(tomllib.loads(tomli_w.dumps(settings))).config == network.config


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ({"name": "vgg"}, "no network is called 'vgg'; there are unet, mlp, rbf, step_mlp, multiscale"),
        ({}, "no network is called None"),
        ({"name": "mlp", "in_features": 1, "out_features": 1, "colour": 3}, "no setting colour"),
        ({"name": "unet", "in_channels": 3}, "out_channels"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(description: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(description)


def test_a_foreign_module_has_no_description() -> None:
    with pytest.raises(UserError, match="Linear"):
        config_of(nn.Linear(1, 1))
