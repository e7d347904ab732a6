"""The average of the weights is the weighted mean that it says it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import small
from unstir.averaging import gamma_of
from unstir.training.ema import PowerEMA


def shares(n: int, gamma: float) -> np.ndarray:
    """What the weights at update i = 1 … n count: ``(i/n)^(g+1) - ((i-1)/n)^(g+1)``, the profile i^g summed over one update."""
    edges = (np.arange(n + 1) / n) ** (gamma + 1)
    return np.diff(edges)


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2, 0.28])
@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_it_is_the_weighted_mean(width: float, n: int) -> None:
    history = np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32)
    ema = PowerEMA([torch.full((5,), 1e6)], width)
    for row in history:
        ema.update([torch.from_numpy(row.copy())])
    np.testing.assert_allclose(ema.values[0].numpy(), shares(n, ema.gamma) @ history, rtol=1e-4, atol=1e-5)


def test_the_first_update_forgets_the_initial_weights() -> None:
    ema = PowerEMA([torch.full((3,), 1e30)])
    weights = torch.tensor([1.0, -2.0, 0.3])
    ema.update([weights])
    assert torch.equal(ema.values[0], weights)


@pytest.mark.parametrize("width", [0.01, 0.03, 0.1, 0.2, 0.28])
def test_its_width_is_the_standard_deviation_of_the_profile(width: float) -> None:
    n = 200_000
    p = shares(n, gamma_of(width))
    place = (np.arange(n) + 0.5) / n
    mean = (p * place).sum()
    assert np.sqrt((p * (place - mean) ** 2).sum()) == pytest.approx(width, rel=1e-3)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3, float("nan")])
def test_a_width_without_a_profile_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width"):
        gamma_of(width)


def test_it_is_updated_once_for_each_optimizer_step() -> None:
    made = small.trainer()
    for n in range(1, 6):
        made.update()
        assert made.ema.updates == n
        steps = {int(state["step"]) for state in made.optimizer.state.values()}
        assert steps == {n}


def test_it_follows_copies_and_keeps_float32() -> None:
    weights = torch.ones(4, dtype=torch.bfloat16)
    ema = PowerEMA([weights])
    weights.zero_()
    assert ema.values[0].dtype == torch.float32
    assert torch.equal(ema.values[0], torch.ones(4))


def test_nothing_but_parameters_is_saved_or_averaged() -> None:
    made = small.trainer()
    parameters = {name for name, _ in made.denoiser.network.named_parameters()}
    assert set(made.denoiser.state_dict()) == {f"network.{name}" for name in parameters}
    assert set(made.checkpoint().parts["ema"]) == parameters
    table = made.denoiser.process.schedule.alpha_bar.clone()
    for _ in range(3):
        made.update()
    assert torch.equal(made.denoiser.process.schedule.alpha_bar, table)
    made.denoiser.half()
    assert made.denoiser.process.schedule.alpha_bar.dtype == torch.float64
