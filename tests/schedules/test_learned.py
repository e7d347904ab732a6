"""Schedules that learn are schedules with a graph: the laws of tests/test_schedules.py hold for them; these are their own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstir.processes import Gaussian
from unstir.schedules import Cosine, InverseTime, Learned, LinearBeta, MonotoneLogSNR, Schedule, from_description

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=40)
number = st.floats(-6, 6)


def _bent() -> MonotoneLogSNR:
    return MonotoneLogSNR(7, (-5.0, 4.0), interior=[[1.0, -1.0], [2.0, 9.0], [0.3, 0.8]])


LEARNING = {"learned": lambda: Learned(7, 0.01), "monotone": _bent}
both = pytest.mark.parametrize("make", LEARNING.values(), ids=LEARNING.keys())


def numeric(value: Callable[[], Tensor], parameter: Tensor, step: float = 1e-5) -> Tensor:
    """The gradient by central differences, one parameter after the other."""
    flat, slopes = parameter.detach().view(-1), []
    for i in range(len(flat)):
        kept = float(flat[i])
        ends = []
        for place in (kept + step, kept - step):
            flat[i] = place
            with torch.no_grad():
                ends.append(float(value()))
        flat[i] = kept
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return torch.tensor(slopes, dtype=F64).reshape(parameter.shape)


def _kernels(schedule: Schedule) -> Tensor:
    """A number in which step, marginal and posterior all have a part, at whole and at real times."""
    process = Gaussian(schedule)
    x0, x = torch.tensor([[0.3], [-1.0], [2.0]], dtype=F64), torch.tensor([[0.7], [0.2], [-0.4]], dtype=F64)
    s, t = torch.tensor([1.0, 2.5, 0.4], dtype=F64), torch.tensor([2.0, 5.3, 7.0], dtype=F64)
    kernels = process.step(x, s, t), process.marginal(x0, t), process.posterior(x, x0, s, t)
    return sum((k.mean.square() + k.variance.log()).sum() for k in kernels) + schedule.log_snr(t).sum()  # pyright: ignore[reportReturnType]


@both
def test_processes_give_gradients_through_their_kernels(make: Callable[[], Learned]) -> None:
    schedule = make()
    found = torch.autograd.grad(_kernels(schedule), schedule.parameters())
    for gradient, parameter in zip(found, schedule.parameters()):
        assert float(gradient.abs().min()) > 0
        expected = numeric(lambda: _kernels(schedule), parameter)
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-7)


@both
def test_gradients_stay_finite_at_the_clean_end(make: Callable[[], Learned]) -> None:
    """sigma(0) = 0 whatever is learned: its slope is 0 there, not 0 times infinity."""
    schedule = make()
    t = torch.tensor([0.0, 1.0, 3.0], dtype=F64)
    for gradient in torch.autograd.grad((schedule.sigma(t) + schedule.alpha(t)).sum(), schedule.parameters()):
        assert bool(torch.isfinite(gradient).all())


@both
def test_moving_a_parameter_moves_the_table(make: Callable[[], Learned]) -> None:
    """Nothing is kept from before an update."""
    schedule = make()
    before, t = schedule.alpha_bar.detach().clone(), torch.arange(8)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter += 0.3
    assert float((schedule.alpha_bar.detach() - before)[2:].abs().min()) > 1e-6
    torch.testing.assert_close(schedule.alpha(t).detach() ** 2, schedule.alpha_bar.detach(), rtol=1e-13, atol=0)
    back = schedule.time(schedule.log_snr(t).detach())
    torch.testing.assert_close(back, t.double(), rtol=1e-9, atol=1e-9)


@both
def test_frozen_it_is_the_same_chain_without_a_graph(make: Callable[[], Learned]) -> None:
    schedule = make()
    frozen = schedule.freeze()
    assert not frozen.alpha_bar.requires_grad
    t = torch.arange(8)
    torch.testing.assert_close(frozen.log_snr(t), schedule.log_snr(t).detach(), rtol=1e-11, atol=0)
    kept = frozen.alpha_bar.clone()
    with torch.no_grad():
        schedule.parameters()[0].zero_()
    assert torch.equal(frozen.alpha_bar, kept)


@both
def test_descriptions_and_copies_hold_what_was_learned_and_share_nothing(make: Callable[[], Learned]) -> None:
    schedule = make()
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter.mul_(1.1)
    again, other = from_description(schedule.describe()), copy.deepcopy(schedule)
    for made in (again, other):
        assert isinstance(made, type(schedule))
        assert all(torch.equal(a, b) for a, b in zip(made.parameters(), schedule.parameters()))
        assert all(p.requires_grad for p in made.parameters())
    with torch.no_grad():
        schedule.parameters()[-1].zero_()
    assert not torch.equal(again.alpha_bar, schedule.alpha_bar)
    assert not torch.equal(other.alpha_bar, schedule.alpha_bar)


@LAW
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_betas_stay_inside_whatever_the_parameters(logits: list[float]) -> None:
    schedule = Learned(len(logits) + 1, 0.02, logits)
    betas = schedule.betas.detach()
    assert bool(((betas > 0) & (betas < 1)).all())
    assert float(betas[0]) == 0.02
    table = schedule.log_alpha_bar(torch.arange(schedule.T + 1)).detach()
    assert bool(torch.isfinite(table).all())
    assert bool((table.diff() < 0).all())


@pytest.mark.parametrize("T", [1, 2, 40])
def test_it_starts_by_erasing_equal_parts_and_leaves_one(T: int) -> None:
    """alpha_bar_t = (1 - beta_1) (T - t + 1)/T."""
    schedule = Learned(T, 0.01)
    t = torch.arange(1, T + 1, dtype=F64)
    torch.testing.assert_close(schedule.alpha_bar[1:].detach(), 0.99 * (T - t + 1) / T, rtol=1e-12, atol=0)


def test_it_can_start_from_another_chain() -> None:
    for start in (LinearBeta.rescaled(40), Cosine(25)):
        torch.testing.assert_close(Learned.from_schedule(start).betas.detach(), start.betas, rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match=r"betas lie in \(0, 1\)"):
        Learned.from_schedule(InverseTime(5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Learned(5, 0.0),
        lambda: Learned(5, 1.0),
        lambda: Learned(5, 0.1, [0.0, 0.0]),
        lambda: MonotoneLogSNR(5, interior=[[1.0, 2.0]]),
    ],
)
def test_impossible_starts_are_refused(make: Callable[[], Schedule]) -> None:
    with pytest.raises(ValueError, match=r"first_beta|learned betas|three rows"):
        make()


@LAW
@given(number, st.floats(0.1, 30), st.lists(st.tuples(number, number, number), min_size=1, max_size=5))
def test_gamma_rises_between_its_ends_whatever_the_parameters(first: float, rise: float, interior: list) -> None:
    schedule = MonotoneLogSNR(50, (first, first + rise), interior=torch.tensor(interior, dtype=F64).T)
    u = torch.linspace(0, 1, 201, dtype=F64)
    gamma = schedule.gamma(u).detach()
    assert (float(gamma[0]), float(gamma[-1])) == pytest.approx((first, first + rise), abs=1e-12)
    assert bool((gamma.diff() > 0).all())
    assert bool((schedule.slope(u) > 0).all())
    t = 1 + 49 * u
    torch.testing.assert_close(schedule.log_snr(t).detach(), -gamma, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.alpha(t).detach() ** 2, torch.sigmoid(-gamma), rtol=1e-10, atol=0)
    torch.testing.assert_close(schedule.sigma(t).detach() ** 2, torch.sigmoid(gamma), rtol=1e-10, atol=0)


def test_slope_is_the_derivative_of_gamma() -> None:
    u = torch.linspace(0, 1, 31, dtype=F64).requires_grad_()
    for schedule in (_bent(), MonotoneLogSNR()):
        (derivative,) = torch.autograd.grad(schedule.gamma(u).sum(), u)
        torch.testing.assert_close(schedule.slope(u).detach(), derivative, rtol=1e-12, atol=1e-12)


def test_it_starts_almost_straight() -> None:
    schedule = MonotoneLogSNR()
    u = torch.linspace(0, 1, 101, dtype=F64)
    straight = -13.3 + 23.3 * u
    assert float((schedule.gamma(u).detach() - straight).abs().max()) < 0.02 * 23.3
    assert schedule.prior_report() is None


def test_before_its_first_end_log_alpha_bar_is_linear() -> None:
    schedule = _bent()
    t = torch.linspace(0, 1, 11, dtype=F64)
    expected = -t * math.log1p(math.exp(-5.0))
    torch.testing.assert_close(schedule.log_alpha_bar(t).detach(), expected, rtol=1e-12, atol=0)
