"""Encoding and decoding along the probability-flow ODE of a mixture that is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import Counting, gaussian_denoiser, through
from unstir import samplers
from unstir.denoisers import GaussianMixtureDenoiser
from unstir.editing import encoding, invert
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun, Sampler
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
STEPS = {1: (24, 48, 96), 2: (8, 16, 32)}


def mixture(schedule: Schedule) -> GaussianMixtureDenoiser:
    means = torch.tensor([[-0.8, 0.5], [0.8, -0.2]], dtype=F64)
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.6]], [[0.6, 0.0], [0.0, 0.9]]], dtype=F64)
    return GaussianMixtureDenoiser(Gaussian(schedule), torch.tensor([0.3, 0.7], dtype=F64), means, covariances)


def even_angles(schedule: Schedule, n: int) -> Grid:
    """Equal steps in ``atan(sigma / alpha)`` from T down to 0."""
    last = float(torch.atan2(schedule.sigma(schedule.T), schedule.alpha(schedule.T)))
    phi = torch.linspace(last, 0, n + 1, dtype=F64)[1:-1]
    inner = schedule.time(-2 * phi.tan().log()).tolist()
    return Grid.custom([float(schedule.T), *inner, 0.0])


def slope(order: int, errors: list[float]) -> float:
    """Of log error against log step."""
    return float(np.polyfit(-np.log(STEPS[order]), np.log(errors), 1)[0])


def decode(denoiser: GaussianMixtureDenoiser, sampler: Sampler, grid: Grid, x: Tensor) -> Tensor:
    return samplers.sample(denoiser, sampler, grid, tuple(x.shape), start=x, dtype=F64)


X0 = torch.tensor([[-1.2, 0.7], [0.9, -0.4], [0.1, 0.2], [1.6, 0.5]], dtype=F64)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2)], ids=["ddim", "heun"])
@pytest.mark.parametrize(
    ("schedule", "says"), [(LinearBeta(), "x0"), (InverseTime(100), "v")], ids=["linear, x0", "to alpha 0, v"]
)
def test_round_trips_close_at_the_solvers_order(sampler: Sampler, order: int, schedule: Schedule, says: str) -> None:
    """Trap 32: an index for a time, or a neighbour's, leaves an error that does not fall."""
    denoiser = through(mixture(schedule), says)
    errors = []
    for n in STEPS[order]:
        grid = even_angles(schedule, n)
        back = decode(denoiser, sampler, grid, invert(denoiser, X0, grid, sampler=sampler))  # pyright: ignore[reportArgumentType]
        errors.append(float((back - X0).abs().max()))
    assert order - 0.25 <= slope(order, errors) <= order + 0.6, errors


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2)], ids=["ddim", "heun"])
def test_the_noise_is_the_flows_own(sampler: Sampler, order: int) -> None:
    """Not only does it come back: x_T of Gaussian data keeps x0's quantile, and the error falls at the order."""
    schedule, m, v = LinearBeta(), 0.4, 0.25
    curve, denoiser = Curve(schedule), gaussian_denoiser(Gaussian(LinearBeta()), 0.4, 0.25)
    x0 = torch.tensor([[-0.8], [0.2], [1.3]], dtype=F64)
    ab_T = curve(schedule.T)
    truth = torch.tensor(
        [[math.sqrt(ab_T) * m + math.sqrt(ab_T * v + 1 - ab_T) * (float(u) - m) / math.sqrt(v)] for u in x0.flatten()],
        dtype=F64,
    )
    errors = []
    for n in STEPS[order]:
        grid = even_angles(schedule, n)
        errors.append(float((invert(denoiser, x0, grid, sampler=sampler) - truth).abs().max()))
    assert order - 0.25 <= slope(order, errors) <= order + 0.6, errors
    assert gaussian.flow(float(truth[0]), ab_T, 1.0, m, v) == pytest.approx(-0.8)


def test_each_step_asks_about_the_time_it_stands_at() -> None:
    schedule = LinearBeta()
    grid = Grid.custom([1000.0, 600, 250, 40, 0])
    counting = Counting(mixture(schedule))
    reached = [t for t, _ in encoding(counting, X0, grid, sampler=DDIM())]
    assert reached == [40, 250, 600, 1000]
    assert [float(t[0]) for t in counting.times] == [40, 250, 600]
    counting = Counting(mixture(schedule))
    reached = [t for t, _ in encoding(counting, X0, grid, sampler=Heun())]
    assert reached == [40, 250, 600, 1000]
    assert [float(t[0]) for t in counting.times] == [40, 40, 250, 250, 600, 600, 1000]


def test_one_step_is_the_clean_end_at_once() -> None:
    schedule = Cosine(50)
    out = invert(mixture(schedule), X0, Grid.custom([50.0, 0.0]))
    torch.testing.assert_close(out, float(schedule.alpha(50)) * X0)


def test_what_makes_no_sense_is_refused() -> None:
    denoiser, grid = mixture(Cosine(50)), Grid.trailing(Cosine(50), 5)
    with pytest.raises(ValueError, match="noise"):
        invert(denoiser, X0, grid, sampler=DDIM(0.5))
    with pytest.raises(ValueError, match="noise"):
        invert(denoiser, X0, grid, sampler=Ancestral())
    with pytest.raises(ValueError, match="ends at 3"):
        invert(denoiser, X0, Grid.custom([50.0, 20.0, 3.0]))
