from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unstir.errors import UserError
from unstir.networks import RBF, RBFConfig


def awake(config: RBFConfig) -> RBF:
    torch.manual_seed(0)
    network = RBF(config)
    nn.init.normal_(network.readout.weight)
    nn.init.normal_(network.log_widths, std=0.5)
    return network.double()


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_starts_with_the_centres_that_are_near_and_zeros_beyond(outputs: int) -> None:
    network, x = RBF(RBFConfig(2, outputs, steps=40)), torch.randn(7, 2)
    output = network(x, torch.arange(7.0))
    assert output.shape == (7, outputs)
    near = network.activations(x) @ network.centres
    torch.testing.assert_close(output[:, :2], near[:, :outputs])
    assert not output[:, 2:].any()


@given(st.integers(1, 5), st.integers(1, 20), st.floats(0.01, 1e4))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_activations_are_the_normalised_bumps_wherever_x_is(features: int, units: int, far: float) -> None:
    network = awake(RBFConfig(features, 1, steps=1, units=units))
    x = far * torch.randn(6, features, dtype=torch.float64)
    with torch.no_grad():
        phi = network.activations(x)
        torch.testing.assert_close(phi.sum(1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-14)
        assert (phi >= 0).all()
        near = torch.randn(6, features, dtype=torch.float64)
        bumps = torch.stack(
            [
                torch.exp(-(near - c).square().sum(1) / (2 * w.exp() ** 2))
                for c, w in zip(network.centres, network.log_widths)
            ],
            1,
        )
        torch.testing.assert_close(network.activations(near), bumps / bumps.sum(1, keepdim=True))


def test_a_bias_would_add_nothing() -> None:
    network = awake(RBFConfig(2, 3, steps=5))
    x, time = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0.0, 2, 2, 4])
    bias = torch.randn(5, 1, 3, dtype=torch.float64)
    with torch.no_grad():
        before = network(x, time)
        network.readout.weight += bias
        torch.testing.assert_close(network(x, time), before + bias[time.long(), 0])


def test_times_and_outputs_share_the_bumps_and_nothing_else() -> None:
    network = awake(RBFConfig(2, 4, steps=5))
    x = torch.randn(3, 2, dtype=torch.float64)
    # Outputs 0 and 1 are one function's, 2 and 3 the other's: each has columns of its own.
    network(x, torch.tensor([1.0, 3, 3]))[:, :2].square().sum().backward()
    gradient = network.readout.weight.grad
    assert gradient is not None
    assert gradient[[1, 3], :, :2].all()
    assert not gradient[[0, 2, 4]].any()
    assert not gradient[:, :, 2:].any()
    for shared in (network.centres, network.log_widths):
        assert shared.grad is not None
        assert shared.grad.all()


def test_samples_do_not_see_each_other() -> None:
    network = awake(RBFConfig(3, 2, steps=6))
    x, time = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0.0, 5, 2, 2, 1])
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        together = network(x, time)
        torch.testing.assert_close(network(x[order], time[order]), together[order])
        torch.testing.assert_close(torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(5)]), together)


@pytest.mark.parametrize("features", [1, 2, 20])
def test_at_the_start_every_unit_has_a_share_and_a_point_a_few_units(features: int) -> None:
    torch.manual_seed(0)
    phi = RBF(RBFConfig(features, 1, steps=1)).activations(torch.randn(2000, features))
    assert (phi.mean(0) > 1e-3).all()
    assert 0.2 < phi.amax(1).mean() < 0.8


def test_it_learns_another_function_at_each_time() -> None:
    torch.manual_seed(0)
    network = RBF(RBFConfig(1, 1, steps=2))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-2)
    x = torch.linspace(-2, 2, 64)[:, None].repeat(2, 1)
    time = torch.arange(2.0).repeat_interleave(64)
    target = torch.where(time[:, None] == 0, x.sin(), x.cos())
    for _ in range(300):
        loss = (network(x, time) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-3


def test_a_label_is_refused() -> None:
    with pytest.raises(UserError, match="without classes"):
        RBF(RBFConfig(2, 2, steps=3))(
            torch.zeros(2, 2), torch.zeros(2), SimpleNamespace(label=torch.zeros(2).long(), null=None)
        )


@pytest.mark.parametrize("name", ["in_features", "out_features", "steps", "units"])
def test_a_configuration_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least 1"):
        RBFConfig(**{"in_features": 2, "out_features": 2, "steps": 3, name: 0})
