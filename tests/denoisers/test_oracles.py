from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles.curves import SCHEDULES
from tests.oracles.denoisers import gaussian_denoiser
from tests.oracles.gaussian import exact_x0
from unstir.denoisers import EmpiricalDenoiser, GaussianMixtureDenoiser
from unstir.processes import Gaussian
from unstir.schedules import InverseTime, LinearBeta

F64 = torch.float64


def _mixture(process: Gaussian, dims: int = 3) -> GaussianMixtureDenoiser:
    g = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(4, dims, dtype=F64, generator=g)
    roots = torch.randn(4, dims, dims, dtype=F64, generator=g) / 2
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    return GaussianMixtureDenoiser(process, weights, means, roots @ roots.mT + 0.01 * torch.eye(dims, dtype=F64))


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_component_is_the_gaussians_closed_form(name: str) -> None:
    process = Gaussian(SCHEDULES[name])
    denoiser = gaussian_denoiser(process, 0.4, 0.0625)
    for t in (0.3, 1.0, process.T / 2, float(process.T)):
        k0, k1 = exact_x0(float(process.schedule.alpha(t) ** 2), 0.4, 0.0625)
        x = torch.tensor([[-2.0], [0.1], [3.0]], dtype=F64)
        torch.testing.assert_close(denoiser.predict(x, t).x0, k0 + k1 * x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("t", [0.2, 1.0, 77.5, 400.0, 1000.0])
def test_a_mixtures_score_is_the_gradient_of_its_log_density(t: float) -> None:
    denoiser = _mixture(Gaussian(LinearBeta()))
    x = (2 * torch.randn(20, 3, dtype=F64, generator=torch.Generator().manual_seed(1))).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_prob(x, t).sum(), x)
    torch.testing.assert_close(denoiser.predict(x.detach(), t).score, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [0, 1, 300, 1000])
def test_a_mixtures_density_is_torchs(t: int) -> None:
    process = Gaussian(LinearBeta())
    denoiser = _mixture(process)
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    covariances = torch.einsum("kde,ke,kfe->kdf", denoiser.axes, denoiser.spectrum, denoiser.axes)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)),
        torch.distributions.MultivariateNormal(
            alpha * denoiser.means, alpha**2 * covariances + sigma**2 * torch.eye(3, dtype=F64)
        ),
    )
    x = torch.randn(10, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(denoiser.log_prob(x, t), reference.log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [1.0, 40.0, 300.0, 999.0])
def test_a_mixtures_x0_is_the_integral_over_x0(t: float) -> None:
    """E[x0 | x_t] by quadrature of the prior times the likelihood on a fine grid."""
    process = Gaussian(LinearBeta())
    weights, means, spreads = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.2, 0.5])
    denoiser = GaussianMixtureDenoiser(
        process,
        torch.tensor(weights),
        torch.tensor(means)[:, None],
        torch.tensor(spreads**2)[:, None, None],
    )
    alpha, sigma = float(process.schedule.alpha(t)), float(process.schedule.sigma(t))
    grid = np.linspace(-5, 5, 400_001)
    prior = (weights / spreads * np.exp(-0.5 * ((grid[:, None] - means) / spreads) ** 2)).sum(1)
    for x_t in (-1.2, 0.0, 0.9):
        posterior = prior * np.exp(-0.5 * ((x_t - alpha * grid) / sigma) ** 2)
        expected = float((grid * posterior).sum() / posterior.sum())
        said = float(denoiser.predict(torch.tensor([[x_t]], dtype=F64), t).x0)
        assert said == pytest.approx(expected, rel=1e-7)


def test_a_degenerate_covariance_is_a_mixture_of_points() -> None:
    """Components of no width are an empirical data set."""
    process = Gaussian(LinearBeta())
    points = torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(3))
    as_mixture = GaussianMixtureDenoiser(
        process, torch.full((6,), 1 / 6, dtype=F64), points, torch.zeros(6, 2, 2, dtype=F64)
    )
    x = torch.randn(9, 2, dtype=F64, generator=torch.Generator().manual_seed(4))
    for t in (1, 100, 1000):
        torch.testing.assert_close(
            EmpiricalDenoiser(process, points).predict(x, t).x0, as_mixture.predict(x, t).x0, rtol=1e-9, atol=1e-9
        )


def _brute_force(data: Tensor, x: Tensor, alpha: float, sigma: float) -> Tensor:
    rows = []
    for row in x.double():
        logits = torch.stack([-((row - alpha * point) ** 2).sum() / (2 * sigma**2) for point in data.double()])
        rows.append(sum(w * point for w, point in zip(logits.softmax(0), data.double())))
    return torch.stack(rows)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("t", [1e-3, 1.0, 150.0, 1000.0])
@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)], ids=str)
def test_the_empirical_denoiser_is_the_weighted_average(t: float, shape: tuple[int, ...]) -> None:
    process = Gaussian(LinearBeta())
    data = torch.randn(12, *shape, generator=torch.Generator().manual_seed(5))
    denoiser = EmpiricalDenoiser(process, data)
    x0 = data[[0, 5, 11]].double()
    x = process.marginal(x0, t).sample(torch.randn(x0.shape, dtype=F64, generator=torch.Generator().manual_seed(6)))
    expected = _brute_force(data, x, float(process.schedule.alpha(t)), float(process.schedule.sigma(t)))
    torch.testing.assert_close(denoiser.predict(x, t).x0, expected, rtol=1e-8, atol=1e-8)


def test_the_empirical_denoiser_returns_its_points_near_t_0() -> None:
    process = Gaussian(LinearBeta())
    data = torch.randn(7, 5, dtype=F64, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(EmpiricalDenoiser(process, data).predict(data, 1e-3).x0, data)


@pytest.mark.parametrize(
    "make", [_mixture, lambda p: EmpiricalDenoiser(p, torch.randn(5, 3))], ids=["mixture", "points"]
)
def test_exact_denoisers_take_a_time_for_each_row_and_any_schedule(make) -> None:
    process = Gaussian(InverseTime(50))
    denoiser = make(process)
    t = torch.tensor([0.5, 20.0, 50.0], dtype=F64)
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(8))
    together = denoiser.predict(x, t)
    assert together.x0.dtype == torch.float32
    assert bool(torch.isfinite(together.x0).all())
    for i in range(3):
        torch.testing.assert_close(denoiser.predict(x[i : i + 1], float(t[i])).x0, together.x0[i : i + 1])
    # where nothing is left of the signal, the answer is the data's mean
    mean = denoiser.predict(torch.zeros(1, 3), 50).x0
    torch.testing.assert_close(together.x0[2:], mean)


def test_no_call_edits_its_inputs() -> None:
    process = Gaussian(LinearBeta())
    data, x, t = torch.randn(5, 3, dtype=F64), torch.randn(2, 3, dtype=F64), torch.tensor([3.0, 700.0], dtype=F64)
    kept = [tensor.clone() for tensor in (data, x, t)]
    EmpiricalDenoiser(process, data).predict(x, t)
    mixture = _mixture(process)
    mixture.predict(x, t)
    mixture.log_prob(x, t)
    for before, after in zip(kept, (data, x, t)):
        assert torch.equal(before, after)
