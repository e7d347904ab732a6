"""The derivation's steps multiplied by r(x), held to their laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.denoisers import gaussian_denoiser
from unstir import derivation
from unstir.distributions import Normal
from unstir.processes import Gaussian
from unstir.schedules import FromBetas

LAW = settings(deadline=None, derandomize=True, max_examples=30)
F64 = torch.float64

Step = Callable[[Tensor], Normal]


def _t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def _affine(step: Step) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and v of a step N(a x + b, v), found at 0 and at 1."""
    both = step(_t(0, 1)[:, None])
    return both.mean[1:] - both.mean[:1], both.mean[:1], both.variance[:1]


def _end(start: Normal, steps: Sequence[Step]) -> Normal:
    """The law at the end of a walk of affine steps."""
    law = start
    for a, b, v in map(_affine, steps):
        law = Normal(a * law.mean + b, a**2 * law.variance + v)
    return law


def _reverse_chain(betas: Sequence[float]) -> tuple[Normal, list[Step]]:
    """A prior, and the steps back from T: those of a denoiser that believes in data N(0.4, 0.3)."""
    process, T = Gaussian(FromBetas(_t(*betas))), len(betas)
    denoiser = gaussian_denoiser(process, 0.4, 0.3, "large")
    steps: list[Step] = [
        lambda x, t=t: denoiser.predict(x, t).reverse(_t(t - 1).expand(len(x))) for t in range(T, 0, -1)
    ]
    return process.prior((1, 1), F64), steps


def _multiplied(steps: Sequence[Step], rs: Sequence[Normal]) -> list[Step]:
    return [lambda x, step=step, r=r: step(x).times(r) for step, r in zip(steps, rs, strict=True)]


@LAW
@given(st.lists(st.floats(0.05, 0.9), min_size=1, max_size=8), st.floats(-2, 2), st.floats(0.05, 3))
def test_with_r_carried_back_the_chain_samples_the_product_itself(betas: list[float], y: float, width: float) -> None:
    """From p(x_T) r_T, each step times r_s: the end is p(x_0) r_0 / Z, however long or short the chain."""
    prior, steps = _reverse_chain(betas)
    rs = [Normal(_t(y)[:, None], _t(width)[:, None])]
    for step in reversed(steps):
        rs.insert(0, derivation.carried_back(_affine(step), rs[0]))
    found = _end(prior.times(rs[0]), _multiplied(steps, rs[1:]))
    expected = _end(prior, steps).times(rs[-1])
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.variance, expected.variance, rtol=1e-10, atol=0)


def test_with_the_same_r_at_all_times_it_does_not() -> None:
    for T in (1, 5, 40):
        prior, steps = _reverse_chain([0.1] * T)
        r = Normal(_t(1.2)[:, None], _t(0.25)[:, None])
        found, expected = _end(prior.times(r), _multiplied(steps, [r] * T)), _end(prior, steps).times(r)
        assert abs(float(found.mean - expected.mean)) > 0.02
        assert float(found.variance) < 0.9 * float(expected.variance)


@LAW
@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(-3, 3))
def test_an_exponential_of_a_line_only_moves_a_gaussian(mean: float, variance: float, slope: float) -> None:
    """The renormalised product on a grid has the shifted density."""
    step = Normal(_t(mean), _t(variance))
    x = torch.linspace(-1, 1, 8001, dtype=F64) * (14 * math.sqrt(variance) + 4 * variance) + mean
    log_product = step.log_prob(x) + slope * x
    log_density = log_product - log_product.logsumexp(0) - (x[1] - x[0]).log()
    moved = derivation.perturbed(step, _t(slope))
    torch.testing.assert_close(log_density, moved.log_prob(x), rtol=1e-7, atol=1e-7)


def test_a_curved_r_errs_by_the_square_of_the_variance() -> None:
    """Against the exact product with a Gaussian r: the mean's error falls as Sigma², the variance's too."""
    r = Normal(_t(1.5), _t(0.8))
    errors = []
    for variance in (1e-2, 1e-3, 1e-4):
        step = Normal(_t(0.2), _t(variance))
        exact, moved = step.times(r), derivation.perturbed(step, (r.mean - step.mean) / r.variance)
        errors.append([float((a - b).abs()) for a, b in ((exact.mean, moved.mean), (exact.variance, moved.variance))])
    slopes = np.polyfit(np.log([1e-2, 1e-3, 1e-4]), np.log(errors), 1)[0]
    np.testing.assert_allclose(slopes, 2, atol=0.02)
