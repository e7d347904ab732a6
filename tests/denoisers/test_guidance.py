from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unstir.denoisers import Condition, Denoiser, DenoiserBase, Guided
from unstir.processes import Gaussian
from unstir.schedules import LinearBeta

NULL = 10


class ByLabel(nn.Module):
    """A linear toy: ``gain[label] · x + shift[label]`` channel by channel; class 10 is the null class."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.gain = torch.randn(NULL + 1, channels, 1, 1, generator=g)
        self.shift = torch.randn(NULL + 1, channels, 1, 1, generator=g)
        self.calls, self.rows = 0, 0

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        self.calls += 1
        self.rows += len(x)
        label = torch.full((len(x),), NULL)
        if condition is not None and condition.label is not None:
            label = condition.label
            if condition.null is not None:
                label = torch.where(condition.null, NULL, label)
        return self.gain[label] * x + self.shift[label]


def _toy(channels: int = 3, kind: str = "eps") -> tuple[ByLabel, DenoiserBase, Tensor, Tensor, Condition]:
    network = ByLabel(channels)
    x = torch.randn(4, channels, 2, 2, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([900.0, 30.0, 500.0, 77.0], dtype=torch.float64)
    return network, Denoiser(network, Gaussian(LinearBeta()), kind), x, t, Condition(label=torch.tensor([0, 3, 9, 3]))


KINDS = pytest.mark.parametrize("kind", ["eps", "x0", "v", "preconditioned"])


@KINDS
def test_scale_1_is_the_conditional_model_bit_for_bit_in_one_call(kind: str) -> None:
    """Trap 26, twice in a row."""
    network, denoiser, x, t, condition = _toy(kind=kind)
    cond = denoiser.predict(x, t, condition)
    for scale in (1.0, torch.ones(4)):
        for _ in range(2):
            network.calls = 0
            guided = Guided(denoiser, scale).predict(x, t, condition)
            assert network.calls == 1
            for form in ("x0", "eps", "v"):
                assert torch.equal(getattr(guided, form), getattr(cond, form))


@KINDS
def test_scale_0_is_the_unconditional_model(kind: str) -> None:
    _, denoiser, x, t, condition = _toy(kind=kind)
    guided, null = Guided(denoiser, 0.0).predict(x, t, condition), denoiser.predict(x, t)
    for form in ("x0", "eps", "v"):
        assert torch.equal(getattr(guided, form), getattr(null, form))


@KINDS
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_every_channel_is_u_plus_w_c_minus_u(channels: int, kind: str) -> None:
    """Trap 27, in every form, w for each sample."""
    _, denoiser, x, t, condition = _toy(channels, kind)
    x = x.double()
    w = torch.tensor([0.0, 0.5, 2.0, 7.5], dtype=torch.float64)
    guided = Guided(denoiser, w).predict(x, t, condition)
    cond, null = denoiser.predict(x, t, condition), denoiser.predict(x, t)
    for form in ("x0", "eps", "v"):
        c, u = getattr(cond, form), getattr(null, form)
        expected = u + w.reshape(-1, 1, 1, 1) * (c - u)
        torch.testing.assert_close(getattr(guided, form), expected, rtol=1e-10, atol=1e-10)


@KINDS
def test_rows_of_scale_1_stay_bitwise_conditional_beside_others(kind: str) -> None:
    """And only the other rows are asked a second time."""
    network, denoiser, x, t, condition = _toy(kind=kind)
    cond = denoiser.predict(x, t, condition)
    network.calls = network.rows = 0
    guided = Guided(denoiser, torch.tensor([1.0, 3.0, 1.0, 0.0])).predict(x, t, condition)
    assert (network.calls, network.rows) == (2, 6)
    for form in ("x0", "eps", "v"):
        rows = [0, 2]
        assert torch.equal(getattr(guided, form)[rows], getattr(cond, form)[rows]), form


def test_the_guided_pair_makes_x_t() -> None:
    _, denoiser, x, t, condition = _toy()
    x = x.double()
    guided = Guided(denoiser, 4.0).predict(x, t, condition)
    schedule = LinearBeta()
    alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
    torch.testing.assert_close(alpha * guided.x0 + sigma * guided.eps, x, rtol=1e-10, atol=1e-10)
    s = t - 1
    mean = Gaussian(schedule).posterior(x, guided.x0, s, t).mean
    torch.testing.assert_close(guided.reverse(s).mean, mean)


def test_rows_without_a_condition_are_not_moved() -> None:
    """A row whose condition is null has nothing to be guided towards: c == u there."""
    _, denoiser, x, t, condition = _toy()
    assert condition.label is not None
    null = torch.tensor([True, False, False, True])
    guided = Guided(denoiser, 5.0).predict(x, t, Condition(label=condition.label, null=null))
    free = denoiser.predict(x, t)
    torch.testing.assert_close(guided.x0[null], free.x0[null])
    network, denoiser, *_ = _toy()
    assert torch.equal(Guided(denoiser, 5.0).predict(x, t).x0, free.x0)
    assert network.calls == 1


def test_conditions_are_selected_and_taken_away_row_by_row() -> None:
    condition = Condition(label=torch.tensor([4, 5, 6]), null=torch.tensor([False, True, False]))
    some = condition.select(torch.tensor([2, 1]))
    assert some.label is not None
    assert some.null is not None
    assert some.label.tolist() == [6, 5]
    assert some.null.tolist() == [False, True]
    without = condition.without()
    assert without.null is not None
    assert without.null.tolist() == [True] * 3
    assert condition.null is not None
    assert condition.null.tolist() == [False, True, False]
    assert Condition().select(torch.tensor([0])) == Condition()


def test_no_call_edits_its_inputs() -> None:
    _, denoiser, x, t, condition = _toy()
    assert condition.label is not None
    w = torch.tensor([1.0, 2.0, 0.0, 1.0])
    kept = [tensor.clone() for tensor in (x, t, w, condition.label)]
    cond = denoiser.predict(x, t, condition)
    before_x0 = cond.x0.clone()
    Guided(denoiser, w).predict(x, t, condition)
    assert torch.equal(cond.x0, before_x0)
    for before, after in zip(kept, (x, t, w, condition.label)):
        assert torch.equal(before, after)
