"""Varying, interpolating, mixing classes, and reading a picture's noise level: laws, on data known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.oracles.denoisers import Counting, gaussian_denoiser
from unstir import samplers
from unstir.denoisers import (
    Condition,
    DenoiserBase,
    FiniteDenoiser,
    GaussianMixtureDenoiser,
    Guided,
    Prediction,
)
from unstir.denoisers.variance import rule
from unstir.editing import Mixed, below, interpolate, invert, noise_level, noised, slerp, vary
from unstir.processes import Binomial, Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
M, V, T = 0.4, 0.25, 60


def one(variance: str = "large") -> GaussianMixtureDenoiser:
    return gaussian_denoiser(Gaussian(Cosine(T)), M, V, variance)


GRID = Grid.trailing(Cosine(T), T)
COARSE = Grid.trailing(Cosine(T), 20)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# --- vary -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [15.0, 40.0])
@pytest.mark.parametrize("sampler", [Heun(), Ancestral()], ids=["heun", "ancestral"])
def test_variations_of_data_are_data(t: float, sampler: samplers.Sampler) -> None:
    """Mean and variance stay those of the data, and the correlation with x0 is ``alpha_t² v / (alpha_t² v + sigma_t²)`` by the
    flow's slope, and that squared by the posterior's draw; within four standard errors."""
    n = 6000
    x0 = M + math.sqrt(V) * draws(n, 1)
    out = vary(one(), x0, t, GRID, sampler=sampler, dtype=F64)
    assert float(out.mean()) == pytest.approx(M, abs=4 * math.sqrt(V / n))
    assert float(out.var()) == pytest.approx(V, abs=4 * V * math.sqrt(2 / n) + 0.01)
    alpha, sigma = (float(f(t)) for f in (Cosine(T).alpha, Cosine(T).sigma))
    kept = alpha**2 * V / (alpha**2 * V + sigma**2)
    expected = math.sqrt(kept) if isinstance(sampler, Heun) else kept
    found = float(torch.corrcoef(torch.stack([x0[:, 0], out[:, 0]]))[0, 1])
    assert found == pytest.approx(expected, abs=4 / math.sqrt(n) + 0.01)


def test_nothing_stays_at_the_end_and_all_at_the_beginning() -> None:
    x0 = draws(5, 1)
    fresh = vary(one(), x0, float(T), GRID, sampler=Heun(), dtype=F64)
    other = vary(one(), x0 + 3, float(T), GRID, sampler=Heun(), dtype=F64)
    assert float((fresh - other).abs().max()) < 0.01
    torch.testing.assert_close(vary(one(), x0, 0.01, GRID, dtype=F64), x0, rtol=0, atol=0.02)


def test_a_variation_is_the_same_alone() -> None:
    x0 = draws(5, 1)
    many = vary(one(), x0, 20.0, GRID, sampler=Ancestral(), seed=3, dtype=F64)
    alone = vary(one(), x0[3:4], 20.0, GRID, sampler=Ancestral(), seed=3, indices=[3], dtype=F64)
    torch.testing.assert_close(many[3:4], alone)
    assert not torch.equal(noised(one(), x0, 20.0, 3), noised(one(), x0, 20.0, 4))


def test_bits_vary_too() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 1, 1]], dtype=F64)
    process = Binomial(InverseTime(30))
    denoiser, grid = FiniteDenoiser(process, points), Grid.trailing(process.schedule, 30)
    x0 = torch.zeros(600, 3, dtype=F64)
    little, much = (vary(denoiser, x0, t, grid, dtype=F64) for t in (3.0, 30.0))
    assert float(little.mean()) < 0.05
    assert float(much.mean()) == pytest.approx(0.5, abs=0.08)


def test_a_walk_that_goes_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        below(GRID, 0.0)
    with pytest.raises(ValueError, match="nowhere"):
        below(Grid.custom([9.0, 4.0]), 4.0)
    with pytest.raises(ValueError, match="outside"):
        vary(one(), draws(1, 1), 99.0, GRID)
    assert below(GRID, 2.5).times.tolist() == [2.5, 2, 1, 0]


# --- interpolate ------------------------------------------------------------------------------------------------------


def test_slerp_is_an_arc() -> None:
    """Even angles along the great circle, of constant length between ends of one length."""
    a, b = torch.tensor([[3.0, 0.0]], dtype=F64), torch.tensor([[0.0, 3.0]], dtype=F64)
    for w in (0.0, 0.25, 0.5, 1.0):
        angle = w * math.pi / 2
        expected = torch.tensor([[3 * math.cos(angle), 3 * math.sin(angle)]], dtype=F64)
        torch.testing.assert_close(slerp(a, b, w), expected)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(a, torch.zeros_like(a), 0.5), a / 2)
    x, y = draws(2, 3, 40, 40), draws(2, 3, 40, 40, seed=1)
    w = torch.tensor([0.5, 0.3], dtype=F64)
    middle = slerp(x, y, w)
    assert torch.allclose(middle.flatten(1).std(1), torch.ones(2, dtype=F64), atol=0.05)


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=["ddim", "heun"])
def test_latent_ends_are_the_round_trips(sampler: samplers.Sampler) -> None:
    a, b = draws(3, 1), draws(3, 1, seed=1)
    for w, end in ((0.0, a), (1.0, b)):
        found = interpolate(one(), a, b, w, COARSE, sampler=sampler, dtype=F64)
        start = invert(one(), end, COARSE, sampler=sampler)
        back = samplers.sample(one(), sampler, COARSE, (3, 1), start=start, dtype=F64)
        torch.testing.assert_close(found, back)
        torch.testing.assert_close(found, end, rtol=0, atol=0.4 if sampler.order == 1 else 0.05)


def test_at_a_chosen_time_it_is_the_mixed_picture_varied() -> None:
    """[HO20 §4.3] with one noise: x_t of the mixture, so the result is what varying the mixture gives."""
    a, b, w = draws(3, 1), draws(3, 1, seed=1), torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    found = interpolate(one(), a, b, w, GRID, t=25.0, seed=2, dtype=F64)
    mixed = (1 - w[:, None]) * a + w[:, None] * b
    torch.testing.assert_close(found, vary(one(), mixed, 25.0, GRID, seed=2, dtype=F64))


def test_bits_have_nothing_between_them() -> None:
    points = torch.tensor([[0.0, 0], [1, 1]], dtype=F64)
    denoiser = FiniteDenoiser(Binomial(InverseTime(5)), points)
    with pytest.raises(ValueError, match="between"):
        interpolate(denoiser, points, points, 0.5, Grid.trailing(InverseTime(5), 5))


# --- mix --------------------------------------------------------------------------------------------------------------


class TwoClasses(DenoiserBase):
    """N(-1, V) and N(2, V), and N(0, V) without a class."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Gaussian(Cosine(T))
        self.parts = [gaussian_denoiser(self.process, m, V) for m in (-1.0, 2.0, 0.0)]

    def predict(self, x_t: Tensor, t: object, condition: Condition | None = None) -> Prediction:
        t = torch.as_tensor(t, dtype=F64).expand(len(x_t))
        labels = torch.full((len(x_t),), 2) if condition is None or condition.label is None else condition.label
        if condition is not None and condition.null is not None:
            labels = torch.where(condition.null, 2, labels)
        said = torch.stack([part.predict(x_t, t).x0 for part in self.parts])
        x0 = said[labels, torch.arange(len(x_t))]
        return Prediction(self.process, x_t, t, rule("small", self.process, x_t), given_x0=x0)


def labels(*values: int) -> Condition:
    return Condition(torch.tensor(values))


def test_a_mixture_of_two_gaussians_lies_between_them() -> None:
    """Of one variance, exactly N of the mixed mean: the flow from the same noise is that data's own."""
    w = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=F64)
    x = draws(1, 1).expand(4, 1)
    mixed = Mixed(TwoClasses(), labels(1, 1, 1, 1), w)
    found = samplers.sample(mixed, Heun(), COARSE, (4, 1), start=x, condition=labels(0, 0, 0, 0), dtype=F64)
    for row in range(4):
        own = gaussian_denoiser(Gaussian(Cosine(T)), -1 + 3 * float(w[row]), V)
        expected = samplers.sample(own, Heun(), COARSE, (1, 1), start=x[:1], dtype=F64)
        torch.testing.assert_close(found[row : row + 1], expected)


def test_the_ends_of_a_mixture_are_the_classes_to_the_bit() -> None:
    x, t, w = draws(3, 1).float(), 17.0, torch.tensor([0.0, 1.0, 0.3])
    counting = Counting(TwoClasses())
    said = Mixed(counting, labels(1, 1, 1), w).predict(x, t, labels(0, 0, 0))
    assert counting.rows == 5, "a row with w = 0 asks one branch"
    assert torch.equal(said.x0[0], TwoClasses().predict(x, t, labels(0, 0, 0)).x0[0])
    assert torch.equal(said.x0[1], TwoClasses().predict(x, t, labels(1, 1, 1)).x0[1])


def test_guidance_goes_around_a_mixture() -> None:
    """``u + g (m - u)`` with m the mixture: the null branch is not mixed."""
    x, t = draws(2, 1), 17.0
    mixed = Mixed(TwoClasses(), labels(1, 1), 0.5)
    found = Guided(mixed, 2.0).predict(x, t, labels(0, 0)).x0
    m, u = mixed.predict(x, t, labels(0, 0)).x0, TwoClasses().predict(x, t).x0
    torch.testing.assert_close(found, u + 2 * (m - u))


# --- noise level ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("scene", ["flat", "ramp", "shapes"])
@pytest.mark.parametrize("channels", [1, 3])
def test_known_noise_is_found(sigma: float, scene: str, channels: int) -> None:
    """Within a tenth, on what pictures are made of: flat colour, soft change, and shapes with sharp edges."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48, dtype=F64), torch.linspace(-1, 1, 48, dtype=F64), indexing="ij")
    clean = {"flat": 0 * x, "ramp": 0.7 * x + 0.2 * y, "shapes": torch.where(x**2 + y**2 < 0.4, 0.6, -0.6)}[scene]
    noisy = clean + sigma * draws(4, channels, 48, 48)
    found = noise_level(noisy)
    assert found.shape == (4,)
    assert torch.allclose(found, torch.full((4,), sigma, dtype=F64), rtol=0.12)


def test_a_picture_without_noise_has_none() -> None:
    x = torch.zeros(1, 1, 9, 9)
    x[..., 3:, 2:] = 1
    assert float(noise_level(x)) == 0


def test_noise_that_is_cut_off_does_not_count_where_enough_is_whole() -> None:
    """Half of the picture at white, where half of the noise is lost: the other half tells."""
    clean = torch.full((1, 1, 64, 64), -0.2, dtype=F64)
    clean[..., 32:] = 1
    noisy = (clean + 0.1 * draws(1, 1, 64, 64)).clamp(-1, 1)
    assert float(noise_level(noisy)) == pytest.approx(0.1, rel=0.1)


def test_a_picture_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="2×2"):
        noise_level(torch.zeros(1, 1, 1, 9))
