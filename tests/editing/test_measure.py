"""Linear measurements, against Gaussian data, of which every posterior is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.editing.chains import moments
from tests.oracles.denoisers import through
from unstir.denoisers import Denoiser, DenoiserBase, GaussianMixtureDenoiser
from unstir.distributions import Normal
from unstir.editing import (
    Grey,
    Identity,
    Masking,
    Matrix,
    Measure,
    Observe,
    Operator,
    Renoise,
    Separable,
    blur,
    downscale,
    restore,
)
from unstir.processes import Binomial, Gaussian
from unstir.samplers import DDIM, Ancestral, Grid
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
MEAN = torch.tensor([0.5, -0.3, 0.1], dtype=F64)
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.2, -0.2], [0.3, -0.2, 0.7]], dtype=F64)
A = torch.tensor([[1.0, -0.5, 0.0], [0.2, 0.3, 0.9]], dtype=F64)
Y = torch.tensor([1.4, -0.7], dtype=F64)

PICTURES: dict[str, Callable[[], tuple[Operator, tuple[int, ...], tuple[int, ...]]]] = {
    "identity": lambda: (Identity(), (2, 3, 4, 6), (2, 3, 4, 6)),
    "mask": lambda: (Masking(_draw(4, 6) > 0), (2, 3, 4, 6), (2, 3, 4, 6)),
    "downscale": lambda: (downscale(4, 6, 2), (2, 3, 4, 6), (2, 3, 2, 3)),
    "blur": lambda: (blur(4, 6, 1.3), (2, 3, 4, 6), (2, 3, 4, 6)),
    "wide blur": lambda: (blur(4, 6, 5.0), (2, 3, 4, 6), (2, 3, 4, 6)),
    "separable": lambda: (Separable(_draw(5, 4), _draw(2, 6)), (2, 3, 4, 6), (2, 3, 5, 2)),
    "grey": lambda: (Grey(), (2, 3, 4, 6), (2, 1, 4, 6)),
    "matrix": lambda: (Matrix(A), (5, 3), (5, 2)),
}


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def three(T: int, variance: str = "large") -> GaussianMixtureDenoiser:
    ones = torch.ones(1, dtype=F64)
    return GaussianMixtureDenoiser(Gaussian(Cosine(T)), ones, MEAN[None], COVARIANCE[None], variance)


def whole(denoiser: DenoiserBase) -> Grid:
    return Grid.trailing(denoiser.process.schedule, denoiser.process.T)


def posterior(mean: Tensor, covariance: Tensor, a: Tensor, y: Tensor, v: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of N(mean, covariance) after ``y = a x + N(0, v)``."""
    gain = covariance @ a.T @ torch.linalg.inv(a @ covariance @ a.T + v * torch.eye(len(a), dtype=F64))
    return mean + gain @ (y - a @ mean), covariance - gain @ a @ covariance


@pytest.mark.parametrize("name", PICTURES)
def test_an_adjoint_is_one(name: str) -> None:
    """``<A x, y> = <x, Aᵀ y>``, and where there is a ``gram``, ``A Aᵀ A x = gram A x``."""
    operator, shape, measured = PICTURES[name]()
    x, y = _draw(*shape, seed=1), _draw(*measured, seed=2)
    there, back = operator.forward(x), operator.adjoint(y)
    assert (there.shape, back.shape) == (y.shape, x.shape)
    assert float((there * y).sum()) == pytest.approx(float((x * back).sum()), rel=1e-12)
    assert (operator.gram is not None) == (name in ("identity", "mask", "downscale", "grey"))
    if operator.gram is not None:
        torch.testing.assert_close(operator.forward(operator.adjoint(there)), operator.gram * there)


@pytest.mark.parametrize("name", ["downscale", "blur", "wide blur", "grey"])
def test_one_colour_stays_that_colour(name: str) -> None:
    operator, shape, measured = PICTURES[name]()
    torch.testing.assert_close(
        operator.forward(torch.full(shape, 0.7, dtype=F64)), torch.full(measured, 0.7, dtype=F64)
    )


def test_a_blur_spreads_a_point_by_its_radius() -> None:
    point = torch.zeros(1, 1, 41, 41, dtype=F64)
    point[..., 20, 20] = 1
    spread = blur(41, 41, 2.0).forward(point)[0, 0]
    place = torch.arange(41, dtype=F64) - 20
    assert float((spread.sum(0) * place**2).sum()) == pytest.approx(4, rel=0.01)
    torch.testing.assert_close(spread, spread.T)


@pytest.mark.parametrize("says", ["x0", "eps", "v"])
@pytest.mark.parametrize("v", [0.0, 0.3])
def test_the_posterior_mean_is_found_through_a_network(says: str, v: float) -> None:
    """``E[x0 | x_t, y]`` by the closed form: first x_t as a measurement of x0, then y."""
    edit, exact = Measure(Matrix(A), Y.expand(6, 2), v), three(30, "small")
    x = _draw(6, 3, seed=2)
    for t in (1.0, 9.5, 29.0):
        found = edit(through(exact, says)).predict(x, t)
        assert not found.x0.requires_grad
        alpha, sigma = (float(f(t)) for f in (exact.process.schedule.alpha, exact.process.schedule.sigma))
        for row in range(6):
            m, c = posterior(MEAN, COVARIANCE, torch.eye(3, dtype=F64), x[row] / alpha, (sigma / alpha) ** 2)
            expected, _ = posterior(m, c, A, Y, v)
            torch.testing.assert_close(found.x0[row], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("v", [0.0, 0.3])
def test_the_chain_ends_in_the_posterior(v: float) -> None:
    """The mean at any length, the covariance as 1/T (3/T bounds all of these), through DDIM too."""
    mean, cov = posterior(MEAN, COVARIANCE, A, Y, v)
    for sampler, T in ((Ancestral(), 8), (Ancestral(), 32), (DDIM(), 32)):
        edited = Measure(Matrix(A), Y[None], v)(three(T))
        m, c = moments(edited, sampler, whole(edited), 3)
        torch.testing.assert_close(m, mean, rtol=0, atol=6e-3)
        torch.testing.assert_close(c, cov, rtol=0, atol=3 / T)
        if v == 0 and isinstance(sampler, Ancestral):  # whose last step is the predicted x0 itself
            torch.testing.assert_close(A @ m, Y, rtol=1e-9, atol=1e-9)


def test_a_mask_is_what_observe_does() -> None:
    """The same step, element for element, from two roads: picking elements, and an operator that picks them."""
    known = torch.tensor([True, False, True])
    y, x = torch.tensor([[1.5, math.pi, -1.0]], dtype=F64), _draw(4, 3, seed=3)
    for v in (0.0, 0.4):
        noise = torch.where(known, v, math.inf)
        by_elements = Observe(Normal(y, noise))(three(20)).predict(x, 7.0)
        by_operator = Measure(Masking(known), y, v)(three(20)).predict(x, 7.0)
        torch.testing.assert_close(by_operator.x0, by_elements.x0, rtol=1e-6, atol=1e-6)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("spread", ["covariance", 1.0])
@pytest.mark.parametrize("name", ["identity", "mask", "downscale", "grey"])
def test_an_exact_measurement_comes_back(name: str, spread: str | float) -> None:
    """``A x0 = y`` at the end of the walk, in a network that knows nothing of y and whose gradients are no covariance."""
    operator, shape, _ = PICTURES[name]()
    truth = _draw(*shape, seed=4)
    y = operator.forward(truth)

    class Wrong(torch.nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
            return torch.tanh(x.flip(-1)) + 0.1 * x.roll(1, -1)

    denoiser = Denoiser(Wrong(), Gaussian(Cosine(20)), "x0")
    for sampler in (Ancestral(), DDIM()):
        out = restore(
            denoiser, y, operator, 0.0, Grid.uniform(Cosine(20), 5), shape, sampler=sampler, spread=spread, seed=1
        )
        torch.testing.assert_close(operator.forward(out), y, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(out, truth) or name == "identity"


def test_without_a_gradient_independent_data_are_still_exact() -> None:
    """A number as the spread: the mean of N(0.3, c) data, element for element, after x_t and y together."""
    c, v = 0.6, 0.2
    weights, means = torch.ones(1, dtype=F64), torch.full((1, 3), 0.3, dtype=F64)
    exact = GaussianMixtureDenoiser(Gaussian(Cosine(20)), weights, means, c * torch.eye(3, dtype=F64)[None])
    x = _draw(1, 3, seed=5)
    found = Measure(Matrix(A), Y[None], v, spread=c)(exact).predict(x, 8.0)
    alpha, sigma = (float(f(8.0)) for f in (exact.process.schedule.alpha, exact.process.schedule.sigma))
    one = torch.eye(3, dtype=F64)
    m, cov = posterior(means[0], c * one, one, x[0] / alpha, (sigma / alpha) ** 2)
    torch.testing.assert_close(found.x0[0], posterior(m, cov, A, Y, v)[0], rtol=1e-9, atol=1e-9)  # pyright: ignore[reportAttributeAccessIssue]


def test_measures_and_steps_are_edited_in_either_order() -> None:
    measure, step = Measure(Matrix(A), Y[None]), Renoise(MEAN[None], torch.tensor([[True, False, False]]))
    a, b = (
        moments(edited, Ancestral(), whole(edited), 3) for edited in (step(measure(three(6))), measure(step(three(6))))
    )
    torch.testing.assert_close(a, b)


def test_what_makes_no_sense_is_refused() -> None:
    y = torch.zeros(1, 2, dtype=F64)
    for noise in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="variance"):
            Measure(Matrix(A), y, noise)
    for spread in ("wide", 0.0, -1.0):
        with pytest.raises(ValueError, match="spread"):
            Measure(Matrix(A), y, 0.0, spread)
    with pytest.raises(ValueError, match="finite"):
        Measure(Matrix(A), y + math.nan)
    with pytest.raises(ValueError, match="factor"):
        Measure(Identity(), y)(_Bits())
    for height, width, factor in ((6, 6, 4), (6, 4, 3), (4, 4, 0)):
        with pytest.raises(ValueError, match="blocks"):
            downscale(height, width, factor)
    for radius in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="radius"):
            blur(4, 4, radius)
    with pytest.raises(ValueError, match="bool"):
        Masking(torch.ones(3))
    with pytest.raises(ValueError, match="sum to one"):
        Grey(torch.ones(3))
    for call in (downscale(4, 4, 2).forward, downscale(4, 4, 2).adjoint):
        with pytest.raises(ValueError, match="pictures"):
            call(torch.zeros(1, 1, 6, 6))
    with pytest.raises(ValueError, match="channel"):
        Grey().forward(torch.zeros(1, 2, 4, 4))


class _Bits(DenoiserBase):
    process = Binomial(InverseTime(4))
