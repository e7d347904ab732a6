"""The variance found from data: its closed forms, and that no other constant is better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from unstir.bound import decoder_nats, step_nats, variational_bound
from unstir.denoisers import (
    AnalyticVariance,
    Clipped,
    Condition,
    Denoiser,
    DenoiserBase,
    EmpiricalDenoiser,
    FiniteDenoiser,
    GaussianMixtureDenoiser,
    analytic_variance,
    fit_variance,
    score_error,
)
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Binomial, Gaussian
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta

F64 = torch.float64
M, V = 0.4, 0.0625


def _corners(m: float = M, v: float = V) -> tuple[Tensor, TwoPoint]:
    """x0 at m ± sqrt(v) and eps at ±1 in all pairs: over these, the mean of any quadratic is its expectation."""
    x0 = m + math.sqrt(v) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    return x0, TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))


class Net(nn.Module):
    def __init__(self, halves: int = 1) -> None:
        super().__init__()
        self.halves = halves

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        out = torch.tanh(0.5 * x)
        if condition is not None and condition.label is not None:
            out = out + condition.label.reshape(-1, *(1,) * (x.ndim - 1))
        return torch.cat([out] * self.halves, 1)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("v", [0.01, 1.0, 4.0])
def test_of_the_exact_denoiser_it_is_the_data_s_own(name: str, v: float) -> None:
    """small + from_0² Var[x0 | x_t] = Var[x_s | x_t] of N(m, v), for neighbours and strides, and Var[x0 | x_t] at s = 0."""
    process, (x0, noise) = Gaussian(SCHEDULES[name]), _corners(v=v)
    curve = Curve(process.schedule)
    times = [t for t in (1, 2, 3, process.T - 1, process.T) if t <= process.T]
    times = sorted(set(times))
    rule = analytic_variance(gaussian_denoiser(process, M, v), x0, times=times, noise=noise)
    for t in times:
        for s in {t - 1, t / 3, 0}:
            said = rule(torch.tensor([float(s)], dtype=F64), torch.tensor([float(t)], dtype=F64))
            assert float(said) == pytest.approx(gaussian.exact_variance(curve(t), curve(s), v), rel=1e-7)
        assert float(rule.error_at(torch.tensor([t]))) == pytest.approx(gaussian.left_over(curve(t), v), rel=1e-9)


@pytest.mark.parametrize("schedule", [LinearBeta.rescaled(30), InverseTime(30)], ids=["linear", "inverse"])
def test_it_makes_the_bound_of_gaussian_data_exact(schedule: LinearBeta) -> None:
    process, (x0, noise) = Gaussian(schedule), _corners()
    denoiser = gaussian_denoiser(process, M, V, "analytic")
    fit_variance(denoiser, x0, noise=noise)
    truth = gaussian.entropy(V) + gaussian.prior_gap(Curve(schedule)(30), M, V)
    for decoder, scale in (("reverse", "beta_1"), ("normal", "reverse")):
        bound = variational_bound(denoiser, x0, decoder=decoder, decoder_variance=scale, noise=noise)
        assert bound.density
        assert float(bound.total.mean()) == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_it_is_the_score_form_of_the_paper(name: str) -> None:
    """sigma²/alpha² (1 - sigma² E|score|²/D) is E|x0 - x0_hat|²/D where the score is exact (Bao et al. 2022, theorem 1)."""
    process, (x0, noise) = Gaussian(SCHEDULES[name]), _corners()
    denoiser, curve = gaussian_denoiser(process, M, V), Curve(process.schedule)
    for t in (1.0, process.T / 2, process.T - 0.5):
        x_t = process.marginal(x0, t).draw(noise, "x_t")
        said = float(score_error(denoiser.predict(x_t, t)))
        assert said == pytest.approx(gaussian.left_over(curve(t), V), rel=1e-6)


def test_the_score_form_of_a_mixture_in_several_dimensions() -> None:
    """Averaged over D numbers, by draws: the two ways to the same number agree within their error."""
    process, n = Gaussian(Cosine(50)), 20_000
    means = torch.tensor([[1.0, -0.5], [-0.7, 0.4]], dtype=F64)
    spread = torch.tensor([[[0.1, 0.02], [0.02, 0.05]], [[0.02, 0.0], [0.0, 0.3]]], dtype=F64)
    denoiser = GaussianMixtureDenoiser(process, torch.tensor([0.4, 0.6], dtype=F64), means, spread)
    source = NoiseSource(0, range(n))
    second = (source.uniform((), "component") < 0.6).long()
    roots = torch.linalg.cholesky(spread)
    x0 = means[second] + torch.einsum("bde,be->bd", roots[second], source.normal((2,), "data", dtype=F64))
    for t in (5.0, 15.0, 30.0):
        prediction = denoiser.predict(process.marginal(x0, t).draw(source, "x_t", int(t)), t)
        error = prediction.distortion(x0).mean(1)
        # The score form magnifies what the draws leave open by (sigma²/alpha)², so it is judged by its own error too.
        sigma, alpha = (float(f(t)) for f in (process.schedule.sigma, process.schedule.alpha))
        of_score = (sigma**2 / alpha) ** 2 * prediction.score.square().mean(1)
        standard = math.hypot(float(error.std()), float(of_score.std())) / math.sqrt(n)
        assert abs(float(score_error(prediction)) - float(error.mean())) < 4.5 * standard
        assert standard < 0.05 * float(error.mean())


@pytest.mark.parametrize("off", [0.0, 0.3, -1.0])
def test_no_other_constant_has_a_lower_expected_kl(off: float) -> None:
    """Also for a denoiser that is wrong, for steps, strides, and the last step's -log p."""
    process, (x0, noise) = Gaussian(LinearBeta.rescaled(20)), _corners()
    wrong = Constant(process, torch.tensor([off], dtype=F64))
    rule = analytic_variance(wrong, x0, times=range(1, 21), noise=noise)
    assert float(rule.error_at(torch.tensor(7.0))) == pytest.approx((off - M) ** 2 + V, rel=1e-9)
    for t, s in ((2, 1), (9, 8), (20, 4), (20, 19), (5, 0), (1, 0)):
        x_t = process.marginal(x0, t).draw(noise, "x_t")
        costs = []
        for factor in (0.9, 0.99, 1.0, 1.01, 1.1):
            wrong.variance = lambda a, b, factor=factor: factor * rule(a, b)  # pyright: ignore[reportAttributeAccessIssue]
            prediction = wrong.predict(x_t, t)
            time = torch.full((4,), float(s), dtype=F64)
            nats = decoder_nats(prediction, x0, "reverse") if s == 0 else step_nats(prediction, x0, time)
            costs.append(float(nats.mean()))
        assert costs[0] > costs[1] > costs[2] < costs[3] < costs[4]


@pytest.mark.parametrize(
    "schedule",
    [InverseTime(1), InverseTime(2), InverseTime(40), EDMSigma(18)],
    ids=lambda s: f"{type(s).__name__}-{s.T}",
)
def test_it_is_finite_and_positive_everywhere(schedule: InverseTime) -> None:
    """At s = 0, at alpha_bar_T = 0, below the first measured time, and for a chain of a single step."""
    process, (x0, noise) = Gaussian(schedule), _corners()
    rule = analytic_variance(gaussian_denoiser(process, M, V), x0, noise=noise)
    t = torch.tensor([1e-3, 0.3, 1.0, schedule.T / 2, float(schedule.T)], dtype=F64).unique()
    for s in (torch.zeros_like(t), t / 2, t * (1 - 1e-9)):
        value = rule(s, t)
        assert value.shape == t.shape
        assert bool((value > 0).all())
        assert bool(value.isfinite().all())
    assert bool((rule.error_at(t).diff() >= 0).all())


def test_between_and_below_the_times_it_follows_the_data() -> None:
    """100 of 1000 times are enough for half a percent, and towards the data the error falls as the noise's variance."""
    process, (x0, noise) = Gaussian(LinearBeta()), _corners()
    rule = analytic_variance(gaussian_denoiser(process, M, V), x0, noise=noise)
    assert len(rule.times) > 80
    curve = Curve(process.schedule)
    for t in (0.01, 0.3, 1.5, 17.3, 240.0, 777.7, 1000.0):
        expected = gaussian.left_over(curve(t), V)
        assert float(rule.error_at(torch.tensor(t))) == pytest.approx(expected, rel=5e-3)


def test_a_single_time_is_enough_and_bad_ones_are_refused() -> None:
    process, (x0, noise) = Gaussian(Cosine(10)), _corners()
    denoiser = gaussian_denoiser(process, M, V)
    rule = analytic_variance(denoiser, x0, times=[4], noise=noise)
    expected = gaussian.left_over(Curve(process.schedule)(4), V)
    assert float(rule.error_at(torch.tensor([4.0]))) == pytest.approx(expected)
    for times in ([], [3, 2], [0, 4], [4, 11]):
        with pytest.raises(ValueError, match=r"rise within|outside"):
            analytic_variance(denoiser, x0, times=times)


# --- as a denoiser's rule ---------------------------------------------------------------------------------------------


def test_asked_before_it_is_fitted_it_says_what_to_do() -> None:
    process = Gaussian(Cosine(20))
    x, t = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 7.0, 20.0], dtype=F64)
    for denoiser in (
        Denoiser(Net(), process, "x0", "analytic"),
        EmpiricalDenoiser(process, x, "analytic"),
        GaussianMixtureDenoiser(process, torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None], "analytic"),
    ):
        prediction = denoiser.predict(x, t)  # what x0 was can be said before
        with pytest.raises(ValueError, match="fit_variance") as refusal:
            prediction.reverse(t - 1)
        assert "\n" not in str(refusal.value)
        rule = fit_variance(denoiser, x)
        assert isinstance(rule, AnalyticVariance)
        said = denoiser.predict(x, t).reverse(t / 2).variance
        torch.testing.assert_close(said, rule(t / 2, t)[:, None])


def test_any_named_rule_can_give_way_to_it_and_no_weight_appears() -> None:
    denoiser = through(gaussian_denoiser(Gaussian(Cosine(20)), M, V), "x0")
    before = list(denoiser.state_dict())
    x0, noise = _corners()
    fit_variance(denoiser, x0, noise=noise)
    assert list(denoiser.state_dict()) == before
    t = torch.tensor([5.0], dtype=F64)
    said = float(denoiser.predict(x0[:1], t).reverse(t - 1).variance)
    curve = Curve(denoiser.process.schedule)
    assert said == pytest.approx(gaussian.exact_variance(curve(5), curve(4), V), rel=1e-2)


def test_of_a_wrapper_its_own_error_is_measured() -> None:
    process = Gaussian(Cosine(12))
    inner = Denoiser(Net(), process, "eps")
    x0 = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    wrapped = Clipped(inner)
    rule = fit_variance(wrapped, x0)
    assert inner.variance is rule
    plain = analytic_variance(inner, x0)
    assert bool((rule.error <= plain.error).all())
    assert float(rule.error[-1]) < 0.5 * float(plain.error[-1])
    t = torch.full((6,), 12.0, dtype=F64)
    torch.testing.assert_close(wrapped.predict(x0, t).reverse(t - 1).variance.flatten(), rule(t - 1, t))


def test_batches_and_conditions_reach_the_network() -> None:
    process = Gaussian(Cosine(12))
    denoiser = Denoiser(Net(), process, "x0")
    x0 = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    whole = analytic_variance(denoiser, x0)
    counting, told = Counting(denoiser), []
    parts = analytic_variance(counting, x0, batch=3, times=whole.times, progress=lambda *at: told.append(at))
    torch.testing.assert_close(parts.error, whole.error, rtol=1e-12, atol=0)
    assert counting.calls == 3 * len(whole.times) == told[-1][0] == told[-1][1]
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    given = analytic_variance(denoiser, x0, batch=3, condition=Condition(label=labels))
    alone = [analytic_variance(denoiser, x0[i : i + 1], condition=Condition(label=labels[i : i + 1]),
                               noise=NoiseSource(0, [i])).error for i in range(7)]  # fmt: skip
    torch.testing.assert_close(given.error, torch.stack(alone).mean(0))


def test_where_there_is_nothing_to_fit_that_is_said() -> None:
    x0 = torch.zeros(2, 2)
    for variance in ("learned", "free"):
        with pytest.raises(ValueError, match="itself"):
            fit_variance(Denoiser(Net(2), Gaussian(Cosine(5)), "x0", variance), x0)
    bits: DenoiserBase = FiniteDenoiser(Binomial(Cosine(5)), torch.eye(2))
    with pytest.raises(ValueError, match="bits and symbols"):
        fit_variance(bits, x0)


def test_it_lowers_the_bound_on_data_it_was_not_fitted_to() -> None:
    """On a mixture, in few steps: below small and large, fitted on other draws than it is measured with."""
    process, n = Gaussian(Cosine(8)), 3000
    weights, spread = torch.full((2,), 0.5, dtype=F64), 0.01 * torch.eye(2, dtype=F64).expand(2, 2, 2)
    means = torch.tensor([[0.8, 0.3], [-0.8, -0.3]], dtype=F64)
    source = NoiseSource(3, range(2 * n))
    x0 = means[(source.uniform((), "side") < 0.5).long()] + 0.1 * source.normal((2,), "data", dtype=F64)
    totals = {}
    for variance in ("small", "large", "analytic"):
        denoiser = GaussianMixtureDenoiser(process, weights, means, spread, variance)
        if variance == "analytic":
            fit_variance(denoiser, x0[:n])
        totals[variance] = variational_bound(denoiser, x0[n:], decoder="normal").total
    for other in ("small", "large"):
        gain = (totals[other] - totals["analytic"]).numpy()
        assert gain.mean() > 5 * np.std(gain) / math.sqrt(n)
