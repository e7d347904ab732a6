from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unstir.denoisers import Autoguided, Condition, Denoiser, DenoiserBase, Guided
from unstir.processes import Binomial, Gaussian
from unstir.schedules import InverseTime, LinearBeta

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


@KINDS
def test_guidance_inside_guidance_gives_each_row_what_it_has_alone(kind: str) -> None:
    """Also where the outer one asks about some rows only, and the inner one has a scale and an interval for each of them."""
    _, denoiser, x, t, condition = _toy(kind=kind)
    x, weak = x.double(), _toy(kind=kind)[1]
    inner, outer = torch.tensor([2.0, 1.0, 0.5, 3.0]), torch.tensor([1.0, 4.0, 3.0, 0.0])
    low, high = torch.tensor([0.0, 0.0, 3.0, 0.0]), torch.tensor([100.0, 100.0, 3.1, 100.0])

    def nested(rows: slice) -> DenoiserBase:
        autoguided = Autoguided(denoiser, weak, inner[rows], interval=(low[rows], high[rows]))
        return Guided(autoguided, outer[rows])

    together = nested(slice(0, 4)).predict(x, t, condition)
    for i in range(4):
        row = slice(i, i + 1)
        alone = nested(row).predict(x[row], t[row], condition.select(torch.tensor([i])))
        for form in ("x0", "eps", "v"):
            torch.testing.assert_close(getattr(together, form)[row], getattr(alone, form), rtol=1e-10, atol=1e-10)
    whole = nested(slice(0, 4))
    whole.predict(x, t, condition)
    assert len(whole.denoiser.scale) == 4  # selecting rows took none away


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


# --- interval and rescale ---------------------------------------------------------------------------------------------


def _levels(t: Tensor) -> Tensor:
    schedule = LinearBeta()
    return schedule.sigma(t) / schedule.alpha(t)


@KINDS
def test_outside_the_interval_only_the_conditional_branch_is_asked(kind: str) -> None:
    """In sigma / alpha, each sample by its own t, and each by an interval of its own where there are several."""
    network, denoiser, x, t, condition = _toy(kind=kind)
    cond, everywhere = denoiser.predict(x, t, condition), Guided(denoiser, 3.0).predict(x, t, condition)
    levels = _levels(t)  # of t = 900, 30, 500, 77
    low, high = float(levels[3]), float(levels[2])
    network.calls = network.rows = 0
    guided = Guided(denoiser, 3.0, interval=(low, high)).predict(x, t, condition)
    assert (network.calls, network.rows) == (2, 5)  # above low and up to high: t = 500 alone
    for form in ("x0", "eps", "v"):
        expected = getattr(cond, form).clone()
        expected[2] = getattr(everywhere, form)[2]
        torch.testing.assert_close(getattr(guided, form), expected)
        assert torch.equal(getattr(guided, form)[[0, 1, 3]], getattr(cond, form)[[0, 1, 3]])
    own = (torch.tensor([0.0, 1e9, 0.0, 0.0]), torch.tensor([1e9, 2e9, 1e-9, 1e9]))
    guided = Guided(denoiser, 3.0, interval=own).predict(x, t, condition)
    moved = (guided.x0 != cond.x0).flatten(1).any(1)
    assert moved.tolist() == [True, False, False, True]
    network.calls = 0
    Guided(denoiser, 3.0, interval=(1e8, 1e9)).predict(x, t, condition)
    assert network.calls == 1


@KINDS
def test_rescaling_gives_the_conditional_spread_back(kind: str) -> None:
    """phi = 1: std(x0) is the conditional one's; phi between: the stated mixture; rows of phi = 0 and w = 1 are untouched."""
    _, denoiser, x, t, condition = _toy(kind=kind)
    x = x.double()
    cond, guided = denoiser.predict(x, t, condition), Guided(denoiser, 6.0).predict(x, t, condition)
    whole = Guided(denoiser, 6.0, rescale=1.0).predict(x, t, condition)
    spread = [p.x0.flatten(1).std(1) for p in (cond, guided, whole)]
    torch.testing.assert_close(spread[2], spread[0])
    assert ((spread[1] / spread[0] - 1).abs() > 0.05).all()
    phi = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    some = Guided(denoiser, 6.0, rescale=phi).predict(x, t, condition)
    share = phi.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(some.x0, share * whole.x0 + (1 - share) * guided.x0)
    alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (LinearBeta().alpha, LinearBeta().sigma))
    torch.testing.assert_close(alpha * some.x0 + sigma * some.eps, x, rtol=1e-9, atol=1e-9)
    w = torch.tensor([1.0, 6.0, 1.0, 1.0])
    mixed = Guided(denoiser, w, rescale=0.7).predict(x, t, condition)
    assert torch.equal(mixed.x0[[0, 2, 3]], cond.x0[[0, 2, 3]])


def test_a_picture_of_one_colour_can_be_rescaled() -> None:
    network, denoiser, x, t, condition = _toy(1, "x0")
    network.gain.zero_()
    found = Guided(denoiser, 2.0, rescale=1.0).predict(x, t, condition)
    assert torch.isfinite(found.x0).all()


@pytest.mark.parametrize(
    "wrong",
    [{"interval": (2.0, 1.0)}, {"rescale": 1.5}, {"rescale": torch.tensor([0.5, -0.1])}],
    ids=["falls", "share", "shares"],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"interval|rescaling"):
        Guided(_toy()[1], 2.0, **wrong)


def test_bits_are_guided_by_their_logits_and_have_no_spread() -> None:
    network, t, condition = ByLabel(1), torch.tensor([3.0, 9.0]), Condition(label=torch.tensor([2, 5]))
    denoiser, x = Denoiser(network, Binomial(InverseTime(10))), torch.ones(2, 1, 2, 2)
    with pytest.raises(ValueError, match="no spread"):
        Guided(denoiser, 2.0, rescale=0.5).predict(x, t, condition)
    c, u = (denoiser.predict(x, t, each).given["logits"] for each in (condition, None))
    torch.testing.assert_close(Guided(denoiser, 2.0).predict(x, t, condition).given["logits"], u + 2 * (c - u))


# --- autoguidance -----------------------------------------------------------------------------------------------------


def _pair(strong: str = "eps", weak: str = "eps") -> tuple[ByLabel, DenoiserBase, ByLabel, DenoiserBase]:
    first, second = ByLabel(), ByLabel()
    second.gain, second.shift = second.gain.flip(0), second.shift.flip(0)
    process = Gaussian(LinearBeta())
    return first, Denoiser(first, process, strong), second, Denoiser(second, Gaussian(LinearBeta()), weak)


def test_autoguidance_of_scale_1_is_the_strong_model_and_never_asks_the_weak_one() -> None:
    _, strong, network, weak = _pair()
    *_, x, t, condition = _toy()
    alone = strong.predict(x, t, condition)
    for scale in (1.0, torch.ones(4)):
        found = Autoguided(strong, weak, scale).predict(x, t, condition)
        assert network.calls == 0
        for form in ("x0", "eps", "v"):
            assert torch.equal(getattr(found, form), getattr(alone, form))


@pytest.mark.parametrize("kinds", [("eps", "eps"), ("v", "v"), ("eps", "v"), ("x0", "eps")], ids="-".join)
@pytest.mark.parametrize("conditional", [True, False])
def test_autoguidance_is_weak_plus_w_strong_minus_weak(kinds: tuple[str, str], conditional: bool) -> None:
    """w for each sample, both models under the same condition or none, whatever each of them predicts."""
    _, strong, network, weak = _pair(*kinds)
    *_, x, t, condition = _toy()
    x, seen = x.double(), condition if conditional else None
    w = torch.tensor([0.0, 1.0, 1.7, 4.0], dtype=torch.float64)
    found = Autoguided(strong, weak, w).predict(x, t, seen)
    assert (network.calls, network.rows) == (1, 3)
    a, b = strong.predict(x, t, seen), weak.predict(x, t, seen)
    for form in ("x0", "eps", "v"):
        s, k = getattr(a, form), getattr(b, form)
        torch.testing.assert_close(getattr(found, form), k + w.reshape(-1, 1, 1, 1) * (s - k), rtol=1e-9, atol=1e-9)


def test_a_weaker_model_of_another_chain_is_refused() -> None:
    strong = _pair()[1]
    with pytest.raises(ValueError, match="another chain"):
        Autoguided(strong, Denoiser(ByLabel(), Gaussian(LinearBeta(T=500))), 2.0)


# --- conditions -------------------------------------------------------------------------------------------------------


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


def test_each_kind_of_condition_can_be_absent_alone() -> None:
    whole = Condition(torch.tensor([4, 5]), torch.zeros(2, 3), torch.zeros(2, 1, 4, 4))
    assert whole.absent("vector") is None
    labelled = whole.without("vector", "image")
    assert labelled.absent("label").tolist() == [False, False]
    assert labelled.absent("image").tolist() == [True, True]
    hidden = Condition(label=whole.label, null=torch.tensor([True, False])).without("image")
    assert hidden.null.tolist() == [[True, True, True], [False, False, True]]
    one = labelled.select(torch.tensor([1]))
    assert [one.label.shape, one.vector.shape, one.image.shape, one.null.shape] == [(1,), (1, 3), (1, 1, 4, 4), (1, 3)]
    for kind in ("vector", "image"):
        gone = Condition(**{kind: getattr(whole, kind)}).without()
        assert gone.null.tolist() == [True, True]
    assert Condition().without() == Condition()
    assert Condition().empty
    assert not whole.empty


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
