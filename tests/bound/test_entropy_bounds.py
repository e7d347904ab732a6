"""The 2015 paper's bounds on H_q(x_{t-1} | x_t), held against enumerated chains and Gaussian closed forms."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles import bits, discrete, gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.discrete import Matrix
from unstir.bound import entropy_bounds, upper_bound_holds
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.schedules import Cosine, FromBetas, InverseTime, LinearBeta

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=30)


# --- real numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_they_are_the_entropies_of_beta_tilde_and_beta(name: str, dtype: torch.dtype) -> None:
    """D/2 log(2 pi e v) with v = beta-tilde_t below and beta_t above, whatever the data; a point at t = 1."""
    schedule = SCHEDULES[name]
    curve = Curve(schedule).table
    beta = 1 - curve[1:] / curve[:-1]
    beta_tilde = beta * (1 - curve[:-1]) / (1 - curve[1:])
    x0 = 3 * torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    lower, upper = entropy_bounds(Gaussian(schedule), x0)
    assert lower.dtype == upper.dtype == F64
    assert lower.shape == upper.shape == (schedule.T,)
    assert float(lower[0]) == -math.inf
    assert np.allclose(upper.numpy(), 3 * np.log(2 * np.pi * np.e * beta), rtol=1e-9, atol=1e-9)
    assert np.allclose(lower[1:].numpy(), 3 * np.log(2 * np.pi * np.e * beta_tilde[1:]), rtol=1e-9, atol=1e-9)


@LAW
@given(discrete.pairs(), st.floats(0.01, 4), st.floats(-1, 1))
def test_gaussian_data_lie_between_them_where_the_condition_holds(pair: tuple, v: float, m: float) -> None:
    """H(x_{t-1} | x_t) = ½ log(2 pi e Var), and the upper bound fails for every v above 1, mean or no mean."""
    schedule = pair[0]
    curve = Curve(schedule)
    x0 = m + math.sqrt(v) * torch.tensor([[1.0], [-1.0]], dtype=F64)  # mean and variance of N(m, v)
    process = Gaussian(schedule)
    lower, upper = entropy_bounds(process, x0)
    truth = np.array(
        [gaussian.entropy(gaussian.exact_variance(curve(t), curve(t - 1), v)) for t in range(1, process.T + 1)]
    )
    assert (lower.numpy() <= truth + 1e-9).all()
    assert upper_bound_holds(process, x0) == (m**2 + v <= 1 + 1e-9)
    if upper_bound_holds(process, x0):
        assert (truth <= upper.numpy() + 1e-9).all()
    if v > 1.001:
        assert (truth > upper.numpy()).all()


def test_unit_data_meet_the_upper_bound() -> None:
    """N(0, 1) stays what it is, so the reverse step is as uncertain as the step."""
    process = Gaussian(LinearBeta())
    curve = Curve(process.schedule)
    x0 = torch.tensor([[1.0], [-1.0]], dtype=F64)
    assert upper_bound_holds(process, x0)
    truth = [gaussian.entropy(gaussian.exact_variance(curve(t), curve(t - 1), 1.0)) for t in range(1, 1001)]
    assert np.allclose(entropy_bounds(process, x0)[1].numpy(), truth, atol=1e-12)
    assert not upper_bound_holds(process, 1.01 * x0)


# --- bits and symbols -------------------------------------------------------------------------------------------------


def _conditional_entropy(data: Matrix, before: Matrix, between: Matrix) -> float:
    """``H(x_s | x_t)`` of a chain over joint states, nats."""
    joint = (data @ before)[:, None] * between
    given_t = joint / joint.sum(0)
    return -float(np.where(joint > 0, joint * np.log(np.where(joint > 0, given_t, 1)), 0).sum())


def _all_together(one: Matrix, dims: int) -> Matrix:
    return functools.reduce(np.kron, [one] * dims)


@LAW
@given(discrete.pairs(), st.integers(1, 3), st.sampled_from([0.5, 0.2, 0.75, None]), st.integers(0, 10_000))
def test_bits_lie_between_them(pair: tuple, dims: int, pi: float | None, seed: int) -> None:
    schedule = pair[0]
    copies = np.random.default_rng(seed).integers(0, 4, 2**dims)
    copies[seed % 2**dims] += 1
    everything = bits.states(dims)
    x0 = torch.tensor(np.repeat(everything, copies, axis=0))
    if pi is None:  # the data's mean activity
        pi = float(x0.mean().clamp(0.05, 0.95))
    process = Binomial(schedule, prior=pi)
    lower, upper = entropy_bounds(process, x0)
    assert float(lower[0]) == pytest.approx(0, abs=1e-12)
    holds, chance = upper_bound_holds(process, x0), np.array([1 - pi, pi])
    mean = float(x0.mean())
    assert holds == (pi == 0.5 or abs(mean - pi) < 1e-9 or (mean - pi) * (0.5 - pi) <= 0)
    for t in range(1, process.T + 1):
        before = _all_together(discrete.walk(schedule, chance, 0, t - 1), dims)
        between = _all_together(discrete.walk(schedule, chance, t - 1, t), dims)
        truth = _conditional_entropy(copies / copies.sum(), before, between)
        assert lower[t - 1] <= truth + 1e-9
        if holds:
            assert truth <= upper[t - 1] + 1e-9


@LAW
@given(discrete.pairs(), st.integers(2, 4), st.integers(1, 2), st.integers(0, 10_000))
def test_symbols_lie_between_them(pair: tuple, classes: int, dims: int, seed: int) -> None:
    schedule, rng = pair[0], np.random.default_rng(seed)
    x0 = torch.tensor(rng.integers(0, classes, (6, dims)))
    process = Categorical(schedule, classes)
    lower, upper = entropy_bounds(process, x0)
    assert upper_bound_holds(process, x0)
    place = x0.numpy() @ classes ** np.arange(dims)[::-1]
    data = np.bincount(place, minlength=classes**dims) / len(x0)
    chance = np.full(classes, 1 / classes)
    for t in range(1, process.T + 1):
        before = _all_together(discrete.walk(schedule, chance, 0, t - 1), dims)
        between = _all_together(discrete.walk(schedule, chance, t - 1, t), dims)
        truth = _conditional_entropy(data, before, between)
        assert lower[t - 1] - 1e-9 <= truth <= upper[t - 1] + 1e-9


def test_where_entropy_falls_the_upper_bound_fails() -> None:
    """A fair coin on its way to pi = 0.1 becomes more certain: its past is then less certain than its future."""
    process, x0 = Binomial(Cosine(10), prior=0.1), torch.tensor([[0.0], [1.0]], dtype=F64)
    assert not upper_bound_holds(process, x0)
    assert upper_bound_holds(process, torch.zeros(1, 1, dtype=F64))
    _, upper = entropy_bounds(process, x0)
    chance = np.array([0.9, 0.1])
    before, between = discrete.walk(process.schedule, chance, 0, 4), discrete.walk(process.schedule, chance, 4, 5)
    assert _conditional_entropy(np.array([0.5, 0.5]), before, between) > float(upper[4]) + 0.01


def test_a_chain_that_ends_masked_never_meets_the_condition() -> None:
    process, x0 = Categorical(InverseTime(6), 3, "absorbing"), torch.tensor([[0], [1], [2]])
    assert not upper_bound_holds(process, x0)
    lower, upper = entropy_bounds(process, x0)
    chance = np.array([0.0, 0.0, 0.0, 1.0])
    data = np.array([1 / 3, 1 / 3, 1 / 3, 0])
    truth = []
    for t in range(1, 7):
        before, between = (
            discrete.walk(process.schedule, chance, 0, t - 1),
            discrete.walk(process.schedule, chance, t - 1, t),
        )
        with np.errstate(invalid="ignore"):
            truth.append(_conditional_entropy(data, before, between))
    # What is unmasked stayed as it was, and a mask hides any of the three.
    assert (lower.numpy() <= np.array(truth) + 1e-12).all()
    assert truth[-1] > float(upper[-1]) + 0.1


def test_real_betas_in_any_dtype_and_shape_and_no_call_edits_its_inputs() -> None:
    process = Binomial(FromBetas(torch.tensor([0.1, 0.4, 0.9])), prior=0.3)
    x0 = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    kept = x0.clone()
    (a, b), (c, d) = entropy_bounds(process, x0), entropy_bounds(process, x0.double())
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    assert torch.equal(x0, kept)
