"""Editing real numbers, against Gaussian data, of which every posterior is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.editing.chains import moments, normal_posterior
from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import gaussian_denoiser, through
from unstir.denoisers import DenoiserBase, GaussianMixtureDenoiser
from unstir.distributions import Normal
from unstir.editing import Guide, Multiply, Observe, Renoise, matched
from unstir.editing.factors import carried as carry
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun
from unstir.schedules import Cosine

F64 = torch.float64
M, C, V, Y = 0.4, 0.5, 0.25, 1.2
POSTERIOR_V = 1 / (1 / C + 1 / V)
POSTERIOR_M = POSTERIOR_V * (M / C + Y / V)
FACTOR = Normal(torch.tensor([[Y]], dtype=F64), torch.tensor(V, dtype=F64))

MEAN = torch.tensor([0.5, -0.3, 0.1], dtype=F64)
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.2, -0.2], [0.3, -0.2, 0.7]], dtype=F64)
SEEN = torch.tensor([1.5, 0.2, -1.0], dtype=F64)
FIRST = torch.tensor([True, False, False])


def one(T: int, variance: object = "large") -> GaussianMixtureDenoiser:
    return gaussian_denoiser(Gaussian(Cosine(T)), M, C, variance)


def three(T: int, variance: str = "large") -> GaussianMixtureDenoiser:
    ones = torch.ones(1, dtype=F64)
    return GaussianMixtureDenoiser(Gaussian(Cosine(T)), ones, MEAN[None], COVARIANCE[None], variance)


def whole(denoiser: DenoiserBase) -> Grid:
    return Grid.trailing(denoiser.process.schedule, denoiser.process.T)


def multiplied_by_hand(T: int, schedule: str, v: float) -> tuple[float, float]:
    """The chain of ``large`` steps times r in plain arithmetic: each step affine, so mean and variance are."""
    curve, mean, var = Curve(Cosine(T)), 0.0, 1.0
    for t, s in [(t, t - 1) for t in range(T, 0, -1)]:
        from_t, from_0, _, large = gaussian.coefficients(curve(t), curve(s))
        k0, k1 = gaussian.exact_x0(curve(t), M, C)
        slope, shift = from_t + from_0 * k1, from_0 * k0
        y, width = {
            "constant": (Y, v),
            "fading": (Y, v * T / (T - s)),
            "carried": (math.sqrt(curve(s)) * Y, curve(s) * v + 1 - curve(s)),
        }[schedule]
        keep = width / (large + width)
        mean = keep * (slope * mean + shift) + (1 - keep) * y
        var = (keep * slope) ** 2 * var + (large * keep if s > 0 else 0)
    return mean, var


def found(denoiser: DenoiserBase, sampler: object = None) -> tuple[float, float]:
    mean, cov = moments(denoiser, sampler or Ancestral(), whole(denoiser), 1)  # pyright: ignore[reportArgumentType]
    return float(mean), float(cov)


@pytest.mark.parametrize("schedule", ["constant", "fading", "carried"])
@pytest.mark.parametrize("v", [0.25, 0.0, 4.0])
def test_multiplied_steps_are_the_products_by_hand(schedule: str, v: float) -> None:
    edit = Multiply(Normal(FACTOR.mean, torch.tensor(v, dtype=F64)), schedule)
    assert found(edit(one(25))) == pytest.approx(multiplied_by_hand(25, schedule, v), abs=1e-10)


def test_multiplied_steps_keep_a_bias_however_many_they_are() -> None:
    """The heuristics of [SD15 §2.5], measured: the posterior here is N(0.933, 0.167), and they come to rest beside it.

    Constant r over-counts (mean off by a quarter of the posterior's deviation, variance by 0.56), fading less; r carried by the
    chain alone takes the data for flat.
    """
    spread = math.sqrt(POSTERIOR_V)
    limits = {}
    for schedule in ("constant", "fading", "carried"):
        (m1, v1), (m2, v2) = (multiplied_by_hand(T, schedule, V) for T in (800, 1600))
        limits[schedule] = (2 * m2 - m1 - POSTERIOR_M) / spread, (2 * v2 - v1) / POSTERIOR_V
    assert limits["constant"] == pytest.approx((0.256, 0.561), abs=0.005)
    assert limits["fading"] == pytest.approx((0.157, 0.657), abs=0.005)
    assert limits["carried"] == pytest.approx((-0.104, 0.682), abs=0.005)


@pytest.mark.parametrize("s", [3.0, 20.0, 36.0])
def test_carried_is_right_where_the_data_says_little(s: float) -> None:
    """``grad log E[r(x0) | x_s]`` of data N(M, c) in closed form: r carried comes to have that slope as 1/c."""
    process, ab, x = Gaussian(Cosine(40)), Curve(Cosine(40))(s), 0.3
    carried = carry(FACTOR, process, torch.tensor([s], dtype=F64))
    slope = float((carried.mean - x) / carried.variance)
    errors = []
    for c in (1e2, 1e3, 1e4):
        k0, k1 = gaussian.exact_x0(ab, M, c)
        errors.append(abs(slope - k1 * (Y - k0 - k1 * x) / (V + gaussian.left_over(ab, c))))
    assert errors[0] > 4 * errors[1] > 4 * 8 * errors[2]


@pytest.mark.parametrize("T", [2, 7, 20])
def test_observing_independent_gaussians_is_exact_at_every_length(T: int) -> None:
    """With the data's own variance as the spread and the exact reverse variance, the chain is the posterior's own:

    all that is left is the beginning at N(0, 1) and the last step, which has no noise.
    """
    process = Gaussian(Cosine(T))
    denoiser = gaussian_denoiser(process, M, C, lambda s, t: _exact_variance(process, C, s, t))
    edited = Observe(FACTOR, C)(denoiser)
    of_posterior = gaussian_denoiser(
        process, POSTERIOR_M, POSTERIOR_V, lambda s, t: _exact_variance(process, POSTERIOR_V, s, t)
    )
    for sampler in (Ancestral(), DDIM(), DDIM(0.5), Heun()):
        assert found(edited, sampler) == pytest.approx(found(of_posterior, sampler), rel=1e-9)
    mean, var = found(edited)
    assert mean == pytest.approx(POSTERIOR_M, abs=1e-3)
    left = gaussian.left_over(Curve(Cosine(T))(1), POSTERIOR_V)
    assert var + left == pytest.approx(POSTERIOR_V, abs=1e-3)


@pytest.mark.parametrize(("spread", "variance"), [(C, "small"), (C, "large"), ("covariance", "large")])
def test_observing_converges_to_the_posterior(spread: float | str, variance: str) -> None:
    """The mean is right at once; the variance errs as 1/T, as the unedited chain's does."""
    for T in (6, 48):
        mean, var = found(Observe(FACTOR, spread)(one(T, variance)))
        assert mean == pytest.approx(POSTERIOR_M, abs=1e-3)
        assert abs(var - POSTERIOR_V) < 1.6 / T


def test_a_wrong_spread_leaves_a_bias() -> None:
    """Unit variance, where the data have one half: the mean stays off by a thirteenth of the posterior's deviation."""
    means = [found(Observe(FACTOR, 1.0)(one(T)))[0] for T in (20, 40)]
    limit = 2 * means[1] - means[0]
    assert (limit - POSTERIOR_M) / math.sqrt(POSTERIOR_V) == pytest.approx(0.076, abs=0.004)


@pytest.mark.parametrize("case", ["one pixel", "noisy and known", "all noisy"])
def test_covariance_tells_the_rest_where_to_go(case: str) -> None:
    """Correlated data: the mean of the exact conditional at any length, its covariance as 1/T, through DDIM too."""
    inf = math.inf
    v = torch.tensor(
        {
            "one pixel": [0, inf, inf], "noisy and known": [0.3, 0, inf], "all noisy": [1.0, 0.5, 0.2]
        }[case],
        dtype=F64,
    )  # fmt: skip
    mean, cov = normal_posterior(MEAN, COVARIANCE, SEEN, v)
    edit = Observe(Normal(SEEN[None], v[None]))
    for sampler, T in ((Ancestral(), 8), (Ancestral(), 32), (DDIM(), 32)):
        edited = edit(three(T))
        m, c = moments(edited, sampler, whole(edited), 3)
        torch.testing.assert_close(m, mean, rtol=0, atol=6e-3)
        torch.testing.assert_close(c, cov, rtol=0, atol=2 / T)


def test_without_the_covariance_the_rest_hears_too_little() -> None:
    """One of three correlated numbers known, the second's mean should move from -0.3 to 0.5: what each way makes of it.

    In 25 steps [SD15]'s constant point 0.35, fresh noise 0.20, the forward path 0.20, r carried 0.08; the full covariance 0.50.
    With ever more steps the first four come to 0.37, 0.22, 0.22 and 0.10.
    """
    point = Normal(SEEN[None], torch.zeros((), dtype=F64))
    edits = {
        "constant": Multiply(point, "constant", FIRST),
        "carried": Multiply(point, "carried", FIRST),
        "renoised": Renoise(SEEN[None], FIRST[None]),
        "path": Observe(point, 1.0, FIRST),
        "covariance": Observe(point, "covariance", FIRST),
    }
    reached = {
        name: float(moments(edit(three(25)), Ancestral(), whole(three(25)), 3)[0][1]) for name, edit in edits.items()
    }
    assert reached == pytest.approx(
        {"constant": 0.354, "carried": 0.080, "renoised": 0.203, "path": 0.203, "covariance": 0.5}, abs=0.002
    )


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("way", ["path", "covariance", "renoised"])
def test_the_known_part_is_noised_to_its_own_time(way: str, variance: str) -> None:
    """Trap 30: at every s it has mean alpha_s x0 and *variance* 1 - alpha_bar_s, and at 0 it is x0 itself."""
    T = 6
    denoiser, curve = three(T, variance), Curve(Cosine(T))
    point = Normal(SEEN[None], torch.zeros((), dtype=F64))
    edit = {
        "path": Observe(point, 1.0, FIRST),
        "covariance": Observe(point, where=FIRST),
        "renoised": Renoise(SEEN[None], FIRST[None]),
    }[way]
    mean, cov = torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64)
    for steps in range(1, T + 1):
        mean, cov = moments(edit(denoiser), Ancestral(), whole(denoiser), 3, until=steps)
        ab = curve(T - steps)
        # The walk begins at N(0, 1) and not at q(x_T | x0), of which the path still remembers alpha_bar_T.
        assert float(mean[0]) == pytest.approx(math.sqrt(ab) * float(SEEN[0]), abs=1e-3)
        assert float(cov[0, 0]) == pytest.approx(1 - ab, abs=1e-3)
    assert float(mean[0]) == float(SEEN[0])
    assert float(cov[0, 0]) == 0


def test_the_point_of_the_paper_is_clean_at_every_time() -> None:
    """[SD15]'s r, constant in t: the known part of x_s is x0 with no noise at all, unlike trap 30's."""
    point = Normal(SEEN[None], torch.zeros((), dtype=F64))
    denoiser = three(12)
    for schedule in ("constant", "fading"):
        mean, cov = moments(Multiply(point, schedule, FIRST)(denoiser), Ancestral(), whole(denoiser), 3, until=4)
        assert float(mean[0]) == float(SEEN[0])
        assert float(cov[0, 0]) == 0


def test_guiding_moves_the_mean_by_the_variance_times_the_slope() -> None:
    """``N(mu + Sigma grad log r(mu), Sigma)``, here for ``log r = sin x1 + x1 x2``, whose gradient is written out."""

    def log_r(x: Tensor, s: Tensor) -> Tensor:
        return (x[:, 0].sin() + x[:, 0] * x[:, 1]) * s

    x, s = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(1)), torch.arange(1.0, 6, dtype=F64)
    plain = three(12).predict(x, 9.0).reverse(s)
    guided = Guide(log_r)(three(12)).predict(x, 9.0).reverse(s)
    mu = plain.mean
    slope = torch.stack([mu[:, 0].cos() + mu[:, 1], mu[:, 0], torch.zeros(5, dtype=F64)], 1) * s[:, None]
    torch.testing.assert_close(guided.mean, mu + plain.variance * slope, rtol=1e-12, atol=1e-12)
    assert torch.equal(guided.variance, plain.variance)


def test_guiding_is_multiplying_to_first_order_in_the_variance() -> None:
    """For a Gaussian r the product shifts by ``Sigma/(Sigma + v) (y - mu)``, the guide by ``Sigma/v (y - mu)``: apart by Sigma²."""

    def log_r(x: Tensor, s: Tensor) -> Tensor:
        return -((x - Y) ** 2) / (2 * V)

    gaps = []
    for T in (200, 400, 800):
        x, s, t = torch.full((1, 1), 0.3, dtype=F64), torch.tensor([T / 2 - 1], dtype=F64), T / 2
        step = one(T).predict(x, t).reverse(s)
        guided = Guide(log_r)(one(T)).predict(x, t).reverse(s)
        product = Multiply(FACTOR)(one(T)).predict(x, t).reverse(s)
        gap, sigma2 = float(guided.mean - product.mean), float(step.variance)
        assert gap == pytest.approx((Y - float(step.mean)) * sigma2**2 / (V * (V + sigma2)), rel=1e-9)
        gaps.append(gap)
    assert gaps[0] > 3.5 * gaps[1] > 3.5 * 3.5 * gaps[2]


def test_a_last_step_that_is_a_point_moves_by_the_decoders_width() -> None:
    """``small`` says variance 0 at s = 0, and no r would move it: there the step has beta_1, as ``large`` has."""
    x, s = torch.full((1, 1), 0.3, dtype=F64), torch.zeros(1, dtype=F64)
    small, large = (Multiply(FACTOR)(one(10, variance)).predict(x, 1.0).reverse(s) for variance in ("small", "large"))
    assert torch.equal(small.mean, large.mean)
    assert float(small.mean) != float(one(10).predict(x, 1.0).reverse(s).mean)


def test_the_order_of_factors_does_not_matter() -> None:
    other = Normal(torch.tensor([[-0.5]], dtype=F64), torch.tensor([[0.7]], dtype=F64))
    for make in (lambda r: Multiply(r, "fading"), lambda r: Observe(r, C), Observe):
        a, b = (
            found(second(first(one(6)))) for first, second in ((make(FACTOR), make(other)), (make(other), make(FACTOR)))
        )
        assert a == pytest.approx(b, rel=1e-12)
        # and two factors are their product
        if not isinstance(make(FACTOR), Multiply):
            assert found(make(FACTOR.times(other))(one(6))) == pytest.approx(a, rel=1e-9)
    mixed = [Multiply(other, "carried"), Observe(FACTOR, C)]
    assert found(mixed[0](mixed[1](one(6)))) == pytest.approx(found(mixed[1](mixed[0](one(6)))), rel=1e-12)


@pytest.mark.parametrize("says", ["x0", "eps", "v"])
def test_the_covariance_is_found_through_a_network(says: str) -> None:
    v = torch.tensor([[0.3, 0.0, math.inf]], dtype=F64)
    edit, exact = Observe(Normal(SEEN[None], v)), three(30, "small")
    x = torch.randn(6, 3, dtype=F64, generator=torch.Generator().manual_seed(2))
    for t in (1.0, 9.5, 29.0):
        a, b = (edit(d).predict(x, t) for d in (exact, through(exact, says)))
        torch.testing.assert_close(a.x0, b.x0, rtol=1e-6, atol=1e-6)
        assert not b.x0.requires_grad
        # the posterior of N(MEAN, COVARIANCE) after x_t and y together, by the closed form
        alpha, sigma = (float(f(t)) for f in (exact.process.schedule.alpha, exact.process.schedule.sigma))
        for row in range(6):
            m, c = normal_posterior(MEAN, COVARIANCE, x[row] / alpha, torch.full((3,), (sigma / alpha) ** 2, dtype=F64))
            expected, _ = normal_posterior(m, c, SEEN, v[0])
            torch.testing.assert_close(a.x0[row], expected, rtol=1e-6, atol=1e-6)


def test_starting_at_the_observations_own_time_is_exact() -> None:
    """``sigma_tau² / alpha_tau² = v``: from there DDIM draws the posterior's mean path; the ancestral chain the posterior."""
    process = Gaussian(Cosine(200))
    y = torch.tensor([[Y]], dtype=F64)
    tau, start = matched(process, y, V)
    alpha, sigma = (float(f(tau)) for f in (process.schedule.alpha, process.schedule.sigma))
    assert (sigma / alpha) ** 2 == pytest.approx(V, rel=1e-6)
    assert float(start) == pytest.approx(alpha * Y, rel=1e-9)
    denoiser = one(200)
    # an affine chain from a point: begin the units at it
    grid = Grid.custom([tau, *range(int(tau), -1, -1)])
    mean, var = float(start), 0.0
    curve = Curve(Cosine(200))
    for t, s in grid.pairs():
        from_t, from_0, _, large = gaussian.coefficients(curve(t), curve(s))
        k0, k1 = gaussian.exact_x0(curve(t), M, C)
        mean, var = (from_t + from_0 * k1) * mean + from_0 * k0, (from_t + from_0 * k1) ** 2 * var + (large if s else 0)
    assert (mean, var) == pytest.approx((POSTERIOR_M, POSTERIOR_V), rel=0.02)
    state = Ancestral().start(start, grid.times)
    assert float(denoiser.predict(*Ancestral().query(state)).x0) == pytest.approx(POSTERIOR_M, rel=1e-6)


def _exact_variance(process: Gaussian, c: float, s: Tensor, t: Tensor) -> Tensor:
    curve = Curve(process.schedule)  # pyright: ignore[reportArgumentType]
    return torch.tensor([gaussian.exact_variance(curve(float(b)), curve(float(a)), c) for a, b in zip(s, t)], dtype=F64)
