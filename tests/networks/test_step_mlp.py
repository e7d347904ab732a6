from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unstir.errors import UserError
from unstir.networks import StepMLP, StepMLPConfig


def awake(config: StepMLPConfig) -> StepMLP:
    torch.manual_seed(0)
    network = StepMLP(config)
    for parameter in network.readout.parameters():
        nn.init.normal_(parameter)
    return network.double()


def test_starts_at_zero_with_the_shape_it_was_asked_for() -> None:
    network = StepMLP(StepMLPConfig(20, 20, steps=2000))
    # The paper's: 20 to 50, twice 50 to 50, and 2000 readouts of 50 to 20.
    assert sum(p.numel() for p in network.parameters()) == 21 * 50 + 2 * 51 * 50 + 2000 * 51 * 20
    output = network(torch.randn(7, 20), torch.arange(7.0))
    assert output.shape == (7, 20)
    assert not output.any()


def test_it_is_the_formula() -> None:
    network = awake(StepMLPConfig(3, 2, steps=4, width=5, depth=2))
    x, time = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0.0, 3, 1, 1, 2, 0])
    h = x
    for linear in network.hidden:
        h = 1 / (1 + torch.exp(-(h @ linear.weight.T + linear.bias)))  # type: ignore[operator]
    for row, t in enumerate(time.long()):
        expected = h[row] @ network.readout.levels[0].weight[t] + network.readout.levels[0].bias[t]  # type: ignore[index]
        torch.testing.assert_close(network(x, time)[row], expected)


def test_times_share_the_hidden_layers_and_nothing_else() -> None:
    network = awake(StepMLPConfig(3, 2, steps=6, width=8))
    network(torch.randn(4, 3, dtype=torch.float64), torch.tensor([1.0, 4, 4, 1])).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        if name.startswith("readout"):
            assert parameter.grad[[1, 4]].all()
            assert not parameter.grad[[0, 2, 3, 5]].any()
        else:
            assert parameter.grad.all()


def test_samples_do_not_see_each_other() -> None:
    network = awake(StepMLPConfig(3, 2, steps=6, width=8))
    x, time = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0.0, 5, 2, 2, 1])
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        together = network(x, time)
        torch.testing.assert_close(network(x[order], time[order]), together[order])
        torch.testing.assert_close(torch.cat([network(x[i : i + 1], time[i : i + 1]) for i in range(5)]), together)


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_its_layers_begin_awake_and_centred(depth: int) -> None:
    # At torch's own weights a sigmoid layer passes a seventh of what varies in its input, and three of them next to nothing.
    torch.manual_seed(0)
    network = StepMLP(StepMLPConfig(20, 20, steps=1, depth=depth))
    h = torch.randint(0, 2, (2000, 20)) * 2.0 - 1
    with torch.no_grad():
        for linear in network.hidden:
            h = torch.sigmoid(linear(h))
            assert (h.mean() - 0.5).abs() < 0.05
            assert 0.08 < h.std(0).mean() < 0.35


def test_it_learns_to_know_its_sequences_at_every_time() -> None:
    torch.manual_seed(0)
    network = StepMLP(StepMLPConfig(20, 20, steps=3))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    beats = torch.eye(5).repeat(1, 4)
    target = torch.stack([beats, beats.roll(1, 1), 1 - beats]).flatten(0, 1)
    x, time = beats.repeat(3, 1) * 2 - 1, torch.arange(3.0).repeat_interleave(5)
    for _ in range(200):
        loss = nn.functional.binary_cross_entropy_with_logits(network(x, time), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02


def test_a_label_is_refused() -> None:
    with pytest.raises(UserError, match="without classes"):
        StepMLP(StepMLPConfig(2, 2, steps=3))(
            torch.zeros(2, 2), torch.zeros(2), SimpleNamespace(label=torch.zeros(2).long(), null=None)
        )


@pytest.mark.parametrize("name", ["in_features", "out_features", "steps", "width", "depth"])
def test_a_configuration_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="at least 1"):
        StepMLPConfig(**{"in_features": 2, "out_features": 2, "steps": 3, name: 0})


def test_it_traces_without_a_break() -> None:
    network = awake(StepMLPConfig(3, 2, steps=6, width=8)).float()
    x, time = torch.randn(4, 3), torch.tensor([0.0, 5, 2, 2])
    program = torch.export.export(network, (x, time)).module()
    for times in (time, torch.full((4,), 3.0)):
        torch.testing.assert_close(program(x, times), network(x, times), rtol=1e-5, atol=1e-5)
