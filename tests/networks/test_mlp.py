from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unstir.errors import UserError
from unstir.networks import MLP, MLPConfig


def awake(config: MLPConfig) -> MLP:
    torch.manual_seed(0)
    network = MLP(config)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.double().eval()


def test_starts_at_zero_with_the_shape_it_was_asked_for() -> None:
    output = MLP(MLPConfig(2, 5, width=16, depth=2))(torch.randn(7, 2), torch.rand(7))
    assert output.shape == (7, 5)
    assert not output.any()


def test_samples_do_not_see_each_other_and_time_is_real() -> None:
    network = awake(MLPConfig(3, 3, width=16))
    x, time = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1, 1.5, 999], dtype=torch.float64)
    with torch.no_grad():
        together = network(x, time)
        alone = torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(4)])
        same_x = network(x[:1].expand(4, 3), time)
    torch.testing.assert_close(together, alone)
    assert torch.pdist(same_x).min() > 1e-6


def test_labels_and_their_absence() -> None:
    network = awake(MLPConfig(2, 2, width=16, classes=3))
    x, time = torch.randn(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    label, null = torch.tensor([2, 1]), torch.tensor([True, False])
    with torch.no_grad():
        nothing = network(x, time)
        real = network(x, time, SimpleNamespace(label=label, null=None))
        mixed = network(x, time, SimpleNamespace(label=label, null=null))
    torch.testing.assert_close(mixed, torch.stack([nothing[0], real[1]]))
    assert ((real - nothing).abs().amax(1) > 1e-6).all()


def test_it_learns_the_mean_of_noise_free_data() -> None:
    torch.manual_seed(0)
    network = MLP(MLPConfig(1, 1, width=32, depth=2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    x = torch.linspace(-2, 2, 64)[:, None]
    for _ in range(300):
        loss = (network(x, torch.zeros(64)) - x.sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-2


@pytest.mark.parametrize("changes", [{"in_features": 0}, {"width": 5}, {"dropout": 1.0}])
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UserError):
        MLPConfig(**{"in_features": 2, "out_features": 2, **changes})  # type: ignore[arg-type]
