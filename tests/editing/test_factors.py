from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from unstir.distributions import Bernoulli, Categorical, Normal
from unstir.editing import factors, likelihood
from unstir.processes import Binomial, Gaussian
from unstir.processes import Categorical as CategoricalChain
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
LAWS = settings(deadline=None, derandomize=True, max_examples=40)


def _t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


@given(st.floats(-3, 3), st.floats(0.01, 5), st.floats(-3, 3), st.floats(0.01, 5), st.floats(0.05, 1))
@LAWS
def test_a_power_of_a_normal_is_its_density_to_that_power(m: float, v: float, x: float, z: float, w: float) -> None:
    """Up to a constant: the ratio of two densities is raised to the power."""
    whole, raised = Normal(_t(m), _t(v)), factors.power(Normal(_t(m), _t(v)), _t(w))
    for p, q in ((x, z), (m, x)):
        assert float(raised.log_prob(_t(p)) - raised.log_prob(_t(q))) == pytest.approx(
            w * float(whole.log_prob(_t(p)) - whole.log_prob(_t(q))), abs=1e-9
        )


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.floats(0.05, 1))
@LAWS
def test_a_power_of_masses_is_each_to_that_power(logits: list[float], w: float) -> None:
    p = np.exp(logits) / np.exp(logits).sum()
    found = factors.power(Categorical(torch.tensor([logits], dtype=F64)), _t(w)).probs[0].numpy()
    np.testing.assert_allclose(found, p**w / (p**w).sum(), rtol=1e-12)
    c = float(Bernoulli(_t(logits[0])).mean)
    found = float(factors.power(Bernoulli(_t(logits[0])), _t(w)).mean)
    assert found == pytest.approx(c**w / (c**w + (1 - c) ** w), rel=1e-12)


@pytest.mark.parametrize("s", [0.0, 3.0, 14.5, 20.0])
def test_a_carried_normal_is_the_integral_over_every_x0(s: float) -> None:
    """``r_s(x_s) ∝ ∫ r(x0) q(x_s | x0) dx0``, by quadrature."""
    process = Gaussian(Cosine(20))
    y, v = 0.7, 0.3
    carried = factors.carried(Normal(_t(y)[None], _t(v)), process, _t(s))
    alpha, sigma = (float(f(s)) for f in (process.schedule.alpha, process.schedule.sigma))
    for x in (-1.0, 0.2, 1.3):
        if sigma == 0:
            expected = norm.pdf(x, y, math.sqrt(v))
        else:
            expected = quad(
                lambda x0, x=x: norm.pdf(x0, y, math.sqrt(v)) * norm.pdf(x, alpha * x0, sigma), y - 9, y + 9, limit=200,
                points=[y, min(max(x / alpha, y - 8), y + 8)],
            )[0]  # fmt: skip
        assert float(carried.log_prob(_t(x)[None]).exp()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("s", [0.0, 2.0, 7.0])
def test_carried_masses_are_the_sum_over_every_x0(s: float) -> None:
    """``r_s(x_s) = sum r(x0) q(x_s|x0) / sum q(x_s|x0)``, up to a constant, with the chain's kernels written out."""
    schedule = InverseTime(8)
    kept = 1 - s / 8
    d = np.array([0.1, 0.9])
    kernel = kept * np.eye(2) + (1 - kept) * np.array([0.7, 0.3])
    expected = (d @ kernel) / kernel.sum(0)
    found = factors.carried(Bernoulli(torch.logit(_t(0.9))[None]), Binomial(schedule, prior=0.3), _t(s))
    assert float(found.mean) == pytest.approx(expected[1] / expected.sum(), rel=1e-12)

    r = np.array([0.2, 0.5, 0.3])
    for kind, states, pi in (("uniform", 3, np.ones(3) / 3), ("absorbing", 4, np.array([0, 0, 0, 1.0]))):
        kernel = kept * np.eye(3, states) + (1 - kept) * pi
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num((r @ kernel) / kernel.sum(0), nan=1 / 3)
        found = factors.carried(
            Categorical(torch.tensor(r).log()[None, None]), CategoricalChain(schedule, 3, kind), _t(s)
        )
        np.testing.assert_allclose(found.probs[0, 0].numpy(), expected / expected.sum(), rtol=1e-12)


def test_products_know_points_and_flat_factors() -> None:
    step = Normal(_t(0.3, 0.3, 0.3, 0.3), _t(0.5, 0.5, 0.0, 0.0))
    factor = Normal(_t(2.0, 2.0, 2.0, 0.3), _t(0.0, math.inf, 0.4, 0.0))
    found = factors.product(step, factor)
    assert found.mean.tolist() == [2.0, 0.3, 0.3, 0.3]
    assert found.variance.tolist() == [0.0, 0.5, 0.0, 0.0]
    assert factors.product(factor, step).mean.tolist() == found.mean.tolist()


def test_a_product_without_mass_is_refused_in_one_line() -> None:
    point, other = Normal(_t(0.0), _t(0.0)), Normal(_t(1.0), _t(0.0))
    one, zero = Bernoulli(_t(math.inf)), Bernoulli(_t(-math.inf))
    a, b = (Categorical(torch.tensor([row], dtype=F64).log()) for row in ([1.0, 0, 0], [0, 0.5, 0.5]))
    for p, r in ((point, other), (one, zero), (a, b)):
        with pytest.raises(ValueError, match="no mass") as error:
            factors.product(p, r)
        assert "\n" not in str(error.value)
        assert factors.product(p, p) is not None
        # outside the mask nothing is multiplied
        assert factors.product(p, r, torch.tensor([False])).entropy().isnan().sum() == 0


def test_a_factor_of_another_kind_is_refused() -> None:
    kinds = [Normal(_t(0.0), _t(1.0)), Bernoulli(_t(0.0)), Categorical(_t(0.0, 0.0)[None])]
    for p in kinds:
        for r in kinds:
            if type(p) is not type(r):
                with pytest.raises(ValueError, match=type(p).__name__):
                    factors.product(p, r)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5, 1.0])
def test_likelihoods_are_the_channels_own(noise: float) -> None:
    """r(x0) = p(y | x0), up to a constant in x0."""
    bits = likelihood(Binomial(InverseTime(5)), _t(0, 1), noise)
    assert bits.mean.tolist() == pytest.approx([noise, 1 - noise])  # pyright: ignore[reportAttributeAccessIssue]
    symbols = likelihood(CategoricalChain(InverseTime(5), 4), torch.tensor([2]), noise)
    expected = [noise / 3, noise / 3, 1 - noise, noise / 3]
    assert symbols.probs[0].tolist() == pytest.approx(expected)  # pyright: ignore[reportAttributeAccessIssue]
    number = likelihood(Gaussian(Cosine(5)), _t(0.4), noise)
    assert float(number.variance) == noise  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("noise", [-0.1, 1.1, math.nan])
def test_noise_that_is_none_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        likelihood(Binomial(InverseTime(5)), _t(0, 1), noise)
    with pytest.raises(ValueError, match="probability"):
        likelihood(CategoricalChain(InverseTime(5), 4), torch.tensor([2]), noise)
    if noise != 1.1:
        with pytest.raises(ValueError, match="variance"):
            likelihood(Gaussian(Cosine(5)), _t(0.4), noise)
