from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstir.bound import bits_per_dim
from unstir.distributions import DiscretizedNormal, Normal
from unstir.noise import NoiseSource

LAW = settings(deadline=None, derandomize=True, max_examples=80)
F64 = torch.float64


def _t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


# --- Normal ---------------------------------------------------------------------------------------------------------


def _normals() -> tuple[Normal, Normal, torch.distributions.Normal, torch.distributions.Normal]:
    mean, other = _t(-1.0, 0.5, 2.0), _t(0.3, 0.5, -4.0)
    variance, wide = _t(0.04, 1.0, 9.0), _t(0.5, 1.0, 0.25)
    return (
        Normal(mean, variance),
        Normal(other, wide),
        torch.distributions.Normal(mean, variance.sqrt()),
        torch.distributions.Normal(other, wide.sqrt()),
    )


def test_density_divergence_and_entropy_are_the_textbooks() -> None:
    p, q, p_ref, q_ref = _normals()
    x = _t(0.1, -3.0, 2.5)
    torch.testing.assert_close(p.log_prob(x), p_ref.log_prob(x), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(p.kl(q), torch.distributions.kl_divergence(p_ref, q_ref), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(p.entropy(), p_ref.entropy(), rtol=1e-13, atol=1e-13)
    assert p.kl(p).tolist() == [0, 0, 0]


def test_divergence_is_the_mean_log_ratio() -> None:
    """KL = E_p[log p - log q], by Gauss-Hermite quadrature, exact for the quadratic that it is."""
    p, q, *_ = _normals()
    nodes, weights = torch.tensor([-math.sqrt(3), 0, math.sqrt(3)], dtype=F64), _t(1 / 6, 2 / 3, 1 / 6)
    mean = sum(
        w * (p.log_prob(p.sample(z)) - q.log_prob(p.sample(z))) for z, w in zip(nodes[:, None].expand(3, 3), weights)
    )
    assert isinstance(mean, Tensor)
    torch.testing.assert_close(mean, p.kl(q), rtol=1e-12, atol=1e-12)


def test_product_of_densities_is_the_renormalised_product() -> None:
    p, q, *_ = _normals()
    product = p.times(q)
    x = torch.linspace(-3, 3, 7, dtype=F64)[:, None].expand(7, 3)
    log_ratio = p.log_prob(x) + q.log_prob(x) - product.log_prob(x)
    torch.testing.assert_close(log_ratio, log_ratio[:1].expand(7, -1), rtol=1e-11, atol=1e-11)


def test_a_point_multiplied_stays_where_it_is() -> None:
    point, wide = Normal(_t(0.7), _t(0.0)), Normal(_t(-2.0), _t(3.0))
    for product in (point.times(wide), wide.times(point)):
        assert product.mean.tolist() == [0.7]
        assert product.variance.tolist() == [0]


def test_coefficients_of_a_batch_meet_its_elements() -> None:
    mean = torch.zeros(2, 3, 4, 4)
    p = Normal(mean, torch.tensor([1.0, 4.0], dtype=F64).reshape(2, 1, 1, 1))
    x = torch.ones(2, 3, 4, 4)
    assert p.log_prob(x).shape == x.shape
    assert p.log_prob(x).dtype == torch.float32
    assert p.entropy().shape == mean.shape
    assert float(p.sample(x)[1, 0, 0, 0]) == 2
    assert torch.equal(p.draw(NoiseSource(0, [4, 5]), "p")[0], NoiseSource(0, [4]).normal((3, 4, 4), "p")[0])


def test_a_point_is_sampled_at_its_mean() -> None:
    assert Normal(_t(0.3), _t(0.0)).sample(_t(5.0)).tolist() == [0.3]


# --- the discretised decoder ------------------------------------------------------------------------------------------

LEVELS = torch.arange(256, dtype=F64) * 2 / 255 - 1


def _masses(mean: float, scale: float, dtype: torch.dtype = F64) -> Tensor:
    return DiscretizedNormal(torch.tensor([mean], dtype=dtype), _t(scale**2)).log_masses()[0]


@LAW
@given(st.floats(-3, 3), st.floats(-4, 2))
def test_the_256_masses_sum_to_one(mean: float, log10_scale: float) -> None:
    masses = _masses(mean, 10**log10_scale)
    assert not bool(torch.isnan(masses).any())
    assert float(masses.logsumexp(0)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("mean", [-1e4, -30.0, -1.0, 0.0, 0.9999, 1.0, 1.0 + 1 / 255, 50.0, 1e6])
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 0.3, 1e3, 1e5])
def test_the_256_masses_sum_to_one_far_out_too(mean: float, scale: float) -> None:
    masses = _masses(mean, scale)
    assert not bool(torch.isnan(masses).any())
    # Two bins write their common edge with a rounding of their own, which a narrow scale makes a slit.
    assert float(masses.logsumexp(0)) == pytest.approx(0, abs=max(1e-12, 1e-16 / scale))


@pytest.mark.parametrize("mean", [-5.0, -1.0, -0.2, 0.7, 1.2])
@pytest.mark.parametrize("scale", [2e-3, 0.01, 0.1, 1.0, 10.0])
def test_float32_masses_sum_to_one_to_float32(mean: float, scale: float) -> None:
    """Trap 22's tolerance, at the scales a decoder has (beta_1 = 1e-4 is a scale of .01) and far above."""
    assert float(_masses(mean, scale, torch.float32).logsumexp(0)) == pytest.approx(0, abs=1e-5)


def _true_log_mass(level: int, mean: float, scale: float) -> float:
    """The bin's log mass with 60 digits and more where the tail needs them."""
    with mpmath.workdps(60):
        centre = mpmath.mpf(2 * level) / 255 - 1
        low = (centre - mpmath.mpf(1) / 255 - mpmath.mpf(mean)) / mpmath.mpf(scale)
        high = (centre + mpmath.mpf(1) / 255 - mpmath.mpf(mean)) / mpmath.mpf(scale)

        def upper(z: mpmath.mpf) -> mpmath.mpf:  # P(Z > z), full relative precision in the upper tail
            return mpmath.erfc(z / mpmath.sqrt(2)) / 2

        if level == 0:
            return float(mpmath.log(upper(-high)))
        if level == 255:
            return float(mpmath.log(upper(low)))
        if low + high > 0:
            return float(mpmath.log(upper(low) - upper(high)))
        return float(mpmath.log(upper(-high) - upper(-low)))


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("mean", [-1.0, -0.3, 0.0, 0.5019, 1.0, 3.0])
def test_masses_agree_with_sixty_digits_in_both_tails(mean: float, scale: float) -> None:
    masses = _masses(mean, scale)
    for level in (0, 1, 2, 60, 127, 128, 191, 253, 254, 255):
        assert float(masses[level]) == pytest.approx(_true_log_mass(level, mean, scale), rel=1e-9), level


def test_masses_of_mirrored_data_are_mirrored() -> None:
    torch.testing.assert_close(_masses(0.37, 0.05), _masses(-0.37, 0.05).flip(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("scale", [1e-3, 0.01, 1.0, 100.0])
def test_gradients_are_finite_in_every_bin(scale: float, dtype: torch.dtype) -> None:
    mean = torch.linspace(-2, 2, 9, dtype=dtype)[:, None].expand(9, 256).clone().requires_grad_()
    variance = torch.full((9, 256), scale**2, dtype=F64, requires_grad=True)
    total = DiscretizedNormal(mean, variance).log_prob(LEVELS.to(dtype).expand(9, 256))
    assert bool(torch.isfinite(total).all())
    total.sum().backward()
    assert mean.grad is not None
    assert variance.grad is not None
    assert bool(torch.isfinite(mean.grad).all())
    assert bool(torch.isfinite(variance.grad).all())


def test_gradient_is_that_of_the_mass() -> None:
    x = LEVELS[[0, 3, 128, 255]]
    mean = _t(-0.9, -0.97, 0.01, 0.98).requires_grad_()
    log_variance = _t(-6.0, -7.0, -8.0, -5.0).requires_grad_()
    torch.autograd.gradcheck(lambda m, lv: DiscretizedNormal(m, lv.exp()).log_prob(x), (mean, log_variance))


def test_a_wide_density_and_a_bin_agree() -> None:
    """Where the density is flat over a bin, mass = density * 2/255."""
    mean, variance = torch.zeros(254, dtype=F64), _t(4.0)
    x = LEVELS[1:255]
    mass = DiscretizedNormal(mean, variance).log_prob(x)
    torch.testing.assert_close(mass, Normal(mean, variance).log_prob(x) + math.log(2 / 255), rtol=0, atol=1e-5)


@pytest.mark.parametrize("x", [0.0, 0.5, -1.0 - 2 / 255, 1.0 + 2 / 255, 3.0, math.nan, math.inf])
def test_data_off_the_levels_is_refused(x: float) -> None:
    with pytest.raises(ValueError, match="256 levels"):
        DiscretizedNormal(_t(0.0), _t(1.0)).log_prob(_t(x))


def test_levels_written_in_float32_are_accepted() -> None:
    for x in (
        torch.arange(256).float() * 2 / 255 - 1,
        torch.arange(256).float() / 127.5 - 1,
        torch.arange(256).float() / 255 * 2 - 1,
        (torch.arange(256).float() / 255 - 0.5) / 0.5,
    ):
        assert bool(torch.isfinite(DiscretizedNormal(torch.zeros(256), _t(1.0)).log_prob(x)).all())


def test_float32_and_float64_agree() -> None:
    mean, variance = torch.linspace(-1.1, 1.1, 256, dtype=F64), _t(1e-4)
    wide = DiscretizedNormal(mean, variance).log_prob(LEVELS)
    narrow = DiscretizedNormal(mean.float(), variance).log_prob(LEVELS.float())
    # A level and a mean carry float32's 6e-8, which a scale of .01 makes 6e-6 in z, and z reaches 10.
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-5, atol=2e-4)


# --- bits per dimension -------------------------------------------------------------------------------------------------


def test_the_uniform_density_scores_eight_bits() -> None:
    """Trap 21: log density -log(512/255) on ±256/255; a bare [-1, 1] would give log2 255 = 7.994."""
    dims = 12
    nats = torch.full((3,), dims * math.log(512 / 255), dtype=F64)
    torch.testing.assert_close(
        bits_per_dim(nats, dims, density=True), torch.full((3,), 8.0, dtype=F64), rtol=1e-14, atol=0
    )
    bare = torch.full((3,), dims * math.log(2), dtype=F64)
    assert float(bits_per_dim(bare, dims, density=True)[0]) == pytest.approx(math.log2(255))


def test_level_centred_dequantisation_fills_that_interval() -> None:
    """(2k + 2u - 1)/255 - 1 with u in (0, 1) spreads level k over its own bin: together ±256/255, without a gap."""
    low, high = (2 * torch.arange(256, dtype=F64) + 2 * u - 1 for u in (0, 1))
    assert torch.equal(high[:-1], low[1:])
    assert float(low[0] / 255 - 1) == pytest.approx(-256 / 255)
    assert float(high[-1] / 255 - 1) == pytest.approx(256 / 255)


def test_a_uniform_mass_scores_eight_bits() -> None:
    """256 equal masses, here those of a density that is flat over the levels' spread: nats / (D ln 2)."""
    assert float(bits_per_dim(torch.tensor([5 * math.log(256)], dtype=F64), 5)[0]) == pytest.approx(8, abs=1e-12)


def test_a_density_and_its_masses_score_alike() -> None:
    """The mass of a bin is about its density times 2/255, which is what the density's offset of log2(255/2) says."""
    mean, variance = torch.zeros(254, dtype=F64), _t(1.0)
    x = LEVELS[1:255]
    as_mass = bits_per_dim(-DiscretizedNormal(mean, variance).log_prob(x).sum()[None], 254)
    as_density = bits_per_dim(-Normal(mean, variance).log_prob(x).sum()[None], 254, density=True)
    torch.testing.assert_close(as_mass, as_density, rtol=0, atol=1e-5)


def test_a_point_differs_infinitely_from_all_but_itself() -> None:
    """As for bits and symbols; and what is no point keeps its gradient beside one."""
    mean = torch.tensor([0.0, 0.0, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    a = Normal(mean, torch.tensor([0.0, 0.0, 3.0, 1.0], dtype=torch.float64))
    b = Normal(
        torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    )
    assert a.kl(b).tolist() == [0.0, math.inf, math.inf, 2.0]
    a.kl(b)[3].backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [0.0, 0.0, 0.0, 2.0]
    assert Normal(b.mean, b.variance).kl(Normal(b.mean, torch.ones(4, dtype=torch.float64)))[0] == math.inf
