"""Vectors and pictures as conditions of a network: what is known changes the answer, and "nothing is known" is no value of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from unstir.denoisers import Condition
from unstir.errors import UserError
from unstir.networks import MLP, RBF, MLPConfig, RBFConfig, UNet, UNetConfig, takes

F64 = torch.float64
MLP_CONFIG = MLPConfig(2, 2, width=16, depth=2, classes=3, vector=3)
UNET_CONFIG = UNetConfig(
    3, 3, channels=8, multipliers=(1, 2), blocks=1, groups=4, classes=3, vector=3, image_channels=2, patch=2
)


def awake(network: nn.Module) -> nn.Module:
    g = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=g))
    return network.double().eval()


def case(name: str, batch: int = 4) -> tuple[nn.Module, torch.Tensor, torch.Tensor, dict[str, Any]]:
    g = torch.Generator().manual_seed(1)
    vector, label = torch.randn(batch, 3, generator=g), torch.arange(batch) % 3
    time = torch.linspace(1, 900, batch, dtype=F64)
    if name == "mlp":
        x = torch.randn(batch, 2, dtype=F64, generator=g)
        return awake(MLP(MLP_CONFIG)), x, time, {"label": label, "vector": vector}
    x = torch.randn(batch, 3, 6, 5, dtype=F64, generator=g)  # sides that are padded
    given = {"label": label, "vector": vector, "image": torch.randn(batch, 2, 6, 5, generator=g)}
    return awake(UNet(UNET_CONFIG)), x, time, given


BOTH = pytest.mark.parametrize("name", ["mlp", "unet"])


@BOTH
@torch.no_grad()
def test_each_kind_is_seen_and_each_absence_is_that_of_the_field(name: str) -> None:
    network, x, time, given = case(name)
    whole = network(x, time, Condition(**given))
    nothing = network(x, time)
    assert ((whole - nothing).flatten(1).abs().amax(1) > 1e-6).all()
    for kind in given:
        less = network(x, time, Condition(**{k: v for k, v in given.items() if k != kind}))
        hidden = network(x, time, Condition(**given).without(kind))
        torch.testing.assert_close(hidden, less)
        assert ((less - whole).flatten(1).abs().amax(1) > 1e-6).all(), kind
    torch.testing.assert_close(network(x, time, Condition(**given).without()), nothing)
    some = torch.tensor([True, False, False, True])
    mixed = network(x, time, Condition(**given, null=some))
    torch.testing.assert_close(mixed, torch.where(some.reshape(-1, *(1,) * (x.ndim - 1)), nothing, whole))


@BOTH
@torch.no_grad()
def test_nothing_is_known_is_never_a_real_condition(name: str) -> None:
    """Trap 28: not a class, not a vector of zeros, not a picture of zeros."""
    network, x, time, given = case(name)
    nothing = network(x, time)
    for kind, value in given.items():
        some = [torch.full_like(value, k) for k in range(3)] if kind == "label" else [torch.zeros_like(value)]
        for known in some:
            said = network(x, time, Condition(**{kind: known}))
            assert ((said - nothing).flatten(1).abs().amax(1) > 1e-6).all(), kind


@BOTH
@torch.no_grad()
def test_samples_do_not_see_each_others_conditions(name: str) -> None:
    network, x, time, given = case(name)
    together = network(x, time, Condition(**given))
    rows = [slice(i, i + 1) for i in range(4)]
    alone = [network(x[i], time[i], Condition(**{kind: value[i] for kind, value in given.items()})) for i in rows]
    torch.testing.assert_close(together, torch.cat(alone))


def test_what_a_network_was_not_made_for_is_refused() -> None:
    x, time = torch.zeros(2, 2), torch.ones(2)
    plain = MLP(MLPConfig(2, 2, width=16))
    images = torch.zeros(2, 3, 4, 4)
    without = UNet(UNetConfig(3, 3, channels=8, multipliers=(1,), blocks=1, groups=4))
    refused = [
        (plain, x, Condition(vector=torch.zeros(2, 3)), "made without vectors"),
        (plain, x, Condition(image=images), "made without"),
        (MLP(MLP_CONFIG), x, Condition(vector=torch.zeros(2, 4)), "vectors of 3 numbers, not 4"),
        (without, images, Condition(image=images), "made without"),
        (UNet(UNET_CONFIG), images, Condition(image=images), "this network takes"),
        (UNet(UNET_CONFIG), images, Condition(image=torch.zeros(2, 2, 8, 8)), "this network takes"),
        (RBF(RBFConfig(2, 2, 5)), x, Condition(vector=torch.zeros(2, 3)), "made without vectors"),
        (RBF(RBFConfig(2, 2, 5)), x, Condition(image=images), "made without"),
    ]
    for network, given, condition, match in refused:
        with pytest.raises(UserError, match=match):
            network(given, time, condition.without() if network is plain else condition)
    assert takes(UNet(UNET_CONFIG)) == ("label", "vector", "image")
    assert takes(plain) == takes(nn.Identity()) == ()


def test_a_network_without_conditions_has_the_weights_it_had() -> None:
    """Files of weights from before conditions fit: nothing new is in the state."""
    names = UNet(UNetConfig(3, 3, channels=8, multipliers=(1,), blocks=1, groups=4)).state_dict()
    assert names["conv_in.weight"].shape[1] == 3
    assert not [name for name in names if "vector" in name]
    assert not [name for name in MLP(MLPConfig(2, 2, width=16)).state_dict() if "vector" in name]
