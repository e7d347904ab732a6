"""The bound as an estimator: unbiased, and its intervals hold the truth as often as they say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm
from scipy.stats import t as student
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import Counting, gaussian_denoiser
from unstir.bound import Bound, bound_terms, entropy_bounds, rate_distortion, variational_bound
from unstir.bound.interval import mean_interval
from unstir.bound.interval import student as quantile
from unstir.denoisers import GaussianMixtureDenoiser
from unstir.denoisers.analytic import analytic_variance
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Gaussian
from unstir.schedules import Cosine, InverseTime, LinearBeta

F64 = torch.float64
M, V, T = 0.4, 0.0625, 20
PROCESS = Gaussian(LinearBeta.rescaled(T))
EXACT = gaussian.expected_bound(range(1, T + 1), Curve(PROCESS.schedule), M, V, "large")


def _data(n: int, seed: int = 99) -> Tensor:
    return M + math.sqrt(V) * NoiseSource(seed, range(n)).normal((1,), "data", dtype=F64)


def _rows(bound: Bound, rows: slice) -> Bound:
    error = bound.standard_error
    return replace(
        bound, prior=bound.prior[rows], steps=bound.steps[rows], decoder=bound.decoder[rows],
        standard_error=None if error is None else error[rows],
    )  # fmt: skip


def _expected_of(x0: Tensor) -> Tensor:
    """The bound of each x0, averaged over the noise exactly: terms are quadratic in it."""
    denoiser = gaussian_denoiser(PROCESS, M, V, "large")
    both = [
        variational_bound(denoiser, x0, decoder="normal", noise=TwoPoint(torch.full((len(x0),), sign, dtype=F64))).total
        for sign in (1.0, -1.0)
    ]
    return (both[0] + both[1]) / 2


def _said_rate(hits: int, trials: int) -> None:
    """95 % within the binomial's own chance, one in a thousand."""
    assert binomtest(hits, trials, 0.95).pvalue > 1e-3, f"{hits} of {trials} intervals hold the truth"


@pytest.mark.parametrize(("size", "draws", "terms"), [(30, 2, None), (30, 2, 5), (8, 4, 5), (100, 3, 5)])
def test_the_interval_over_draws_holds_the_expectation_at_its_rate(size: int, draws: int, terms: int | None) -> None:
    """The same samples measured 500 times with other draws: also where draws are few, and the normal's 1.96 holds 91 %."""
    trials = 500
    one = _data(size)
    truth = float(_expected_of(one).mean())
    x0 = one.repeat(trials, 1)
    denoiser = gaussian_denoiser(PROCESS, M, V, "large")
    noise = NoiseSource(7, range(len(x0)))
    bound = variational_bound(denoiser, x0, draws=draws, terms=terms, decoder="normal", noise=noise)
    hits = 0
    for i in range(trials):
        mean, half = _rows(bound, slice(i * size, (i + 1) * size)).draws_interval()
        hits += abs(mean - truth) <= half
    _said_rate(hits, trials)


@pytest.mark.parametrize("terms", [None, 4])
def test_the_interval_over_samples_holds_the_populations_value_at_its_rate(terms: int | None) -> None:
    """500 times 80 new samples, each term drawn once: the spread of the totals holds the estimate's error too."""
    trials, size = 500, 80
    x0 = _data(trials * size, seed=5)
    denoiser = gaussian_denoiser(PROCESS, M, V, "large")
    noise = NoiseSource(3, range(len(x0)))
    bound = variational_bound(denoiser, x0, terms=terms, decoder="normal", noise=noise)
    hits = 0
    for i in range(trials):
        mean, half = _rows(bound, slice(i * size, (i + 1) * size)).interval()
        hits += abs(mean - EXACT) <= half
    _said_rate(hits, trials)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_an_interval_of_few_values_holds_their_mean_at_its_rate(n: int) -> None:
    """Of normal values exactly; the normal's own 1.96 would hold 69 % of the time for two."""
    values = 3 + torch.randn(2000, n, dtype=F64, generator=torch.Generator().manual_seed(n))
    found = [mean_interval(row) for row in values]
    _said_rate(sum(abs(mean - 3) <= half for mean, half in found), len(found))


def test_no_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        mean_interval(torch.zeros(0))


@pytest.mark.parametrize("terms", [1, 2, 6, 12])
def test_an_estimate_has_no_bias(terms: int) -> None:
    n = 40_000
    bound = variational_bound(
        gaussian_denoiser(PROCESS, M, V, "large"),
        _data(n),
        terms=terms,
        decoder="normal",
        noise=NoiseSource(terms, range(n)),
    )
    mean, half = bound.interval(z=4)
    assert abs(mean - EXACT) < half
    assert half < 0.2


@pytest.mark.parametrize(
    ("terms", "draws", "decoder"),
    [(None, 1, "normal"), (None, 3, "forward"), (5, 2, "normal"), (5, 2, "forward")],
)
def test_the_number_of_calls_is_what_is_said(terms: int | None, draws: int, decoder: str) -> None:
    counting, told = Counting(gaussian_denoiser(PROCESS, M, V)), []
    bound = variational_bound(
        counting, _data(3), terms=terms, draws=draws, decoder=decoder, progress=lambda *at: told.append(at)
    )
    assert bound.calls == counting.calls == told[-1][0] == told[-1][1]
    assert counting.rows == 3 * bound.calls
    assert (bound.standard_error is None) == (draws == 1)


def test_a_single_draw_knows_no_error_and_a_single_sample_no_spread() -> None:
    denoiser = gaussian_denoiser(PROCESS, M, V)
    bound = variational_bound(denoiser, _data(1), decoder="normal")
    with pytest.raises(ValueError, match="draws=2"):
        bound.draws_interval()
    assert bound.interval()[1] == math.inf
    half = variational_bound(denoiser, _data(1), decoder="normal", draws=4).draws_interval()[1]
    assert 0 < half < math.inf


@pytest.mark.parametrize("freedom", [1.0, 2.5, 7.0, 80.0, 3000.0, 1e6])
def test_students_quantile_is_scipys(freedom: float) -> None:
    for z in (1.0, 1.96, 3.0):
        assert quantile(z, freedom) == pytest.approx(student.ppf(norm.cdf(z), freedom), rel=2e-3)
    assert quantile(1.96, 0.0) == 1.96  # draws that do not differ at all


def test_the_standard_error_is_that_of_the_total() -> None:
    """Against the spread of single draws of the same sample."""
    denoiser, n = gaussian_denoiser(PROCESS, M, V, "large"), 4000
    same = torch.full((n, 1), 0.9, dtype=F64)
    bound = variational_bound(denoiser, same, decoder="normal", draws=2, terms=6)
    assert bound.standard_error is not None
    spread = float(bound.total.std())
    assert float(bound.standard_error.square().mean().sqrt()) == pytest.approx(spread, rel=0.1)


# --- the expectation on a mixture -------------------------------------------------------------------------------------

WEIGHTS, MEANS, SPREADS = np.array([0.35, 0.65]), np.array([-0.7, 0.5]), np.array([0.5, 0.4])


def _mixture(process: Gaussian, variance: str) -> GaussianMixtureDenoiser:
    return GaussianMixtureDenoiser(
        process, torch.tensor(WEIGHTS), torch.tensor(MEANS)[:, None], torch.tensor(SPREADS**2)[:, None, None], variance
    )


class Nodes(NoiseSource):
    """Row i always draws its node of a quadrature."""

    def __init__(self, at: Tensor) -> None:
        super().__init__(0, range(len(at)))
        self.at = at

    def normal(self, shape, purpose, step=0, dtype=torch.float32) -> Tensor:
        return self.at.to(dtype).reshape(-1, *(1,) * len(shape))


def _quadrature(n: int = 24) -> tuple[Tensor, Nodes, Tensor]:
    """x0 and eps at Gauss & Hermite's nodes of each component, and their weights: expectations of smooth terms to 1e-5."""
    z, w = np.polynomial.hermite_e.hermegauss(n)
    w = w / w.sum()
    x0 = (MEANS[:, None] + SPREADS[:, None] * z).reshape(-1)
    weight = (WEIGHTS[:, None] * w).reshape(-1)
    at = Nodes(torch.tensor(np.tile(z, len(x0))))
    return torch.tensor(np.repeat(x0, n))[:, None], at, torch.tensor(np.outer(weight, w).reshape(-1))


def _entropy() -> float:
    x = np.linspace(-4, 4, 200_001)
    p = (WEIGHTS / SPREADS / math.sqrt(2 * math.pi) * np.exp(-0.5 * ((x[:, None] - MEANS) / SPREADS) ** 2)).sum(1)
    return -float(np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0)) * (x[1] - x[0]))


def _gap(schedule: Cosine | InverseTime | LinearBeta, variance: str) -> float:
    """The expected bound of the exact denoiser less the entropy, all expectations by quadrature."""
    process = Gaussian(schedule)
    x0, noise, weight = _quadrature()
    denoiser = _mixture(process, variance)
    scale = "beta_1"
    if variance == "analytic":
        # The quadrature's weights cannot be told to fit_variance: the errors are averaged here, and given as a rule.
        errors = []
        for t in range(1, process.T + 1):
            prediction = denoiser.predict(process.marginal(x0, t).draw(noise, "x_t"), t)
            errors.append((weight * prediction.distortion(x0)[:, 0]).sum())
        table = torch.stack([torch.zeros(()), *errors]).double()

        def rule(s: Tensor, t: Tensor) -> Tensor:
            _, from_0, small = process.posterior_coefficients(s, t, t)
            return small + from_0**2 * table[t.long()]

        denoiser.variance, scale = rule, "reverse"
    bound = variational_bound(denoiser, x0, decoder="normal", decoder_variance=scale, noise=noise)
    return float((weight * bound.total).sum()) - _entropy()


def test_on_a_mixture_the_bound_converges_from_above_as_one_over_T() -> None:
    """With the large variance, and with the best one, which no Gaussian step can make exact here but which loses less."""
    lengths = [30, 60, 120]
    gaps = {variance: [_gap(InverseTime(T), variance) for T in lengths] for variance in ("large", "analytic")}
    for found in gaps.values():
        assert all(gap > 0 for gap in found)
        assert np.polyfit(np.log(lengths), np.log(found), 1)[0] == pytest.approx(-1, abs=0.04)
    assert gaps["analytic"][-1] < 0.7 * gaps["large"][-1]


def test_on_a_mixture_small_keeps_its_gap() -> None:
    """It comes to gamma/2, as for any data that have a density: near t = 1 sigma² grows as t."""
    gaps = [_gap(InverseTime(T), "small") for T in (40, 160)]
    assert 0.2 < gaps[0] < gaps[1] < gaussian.EULER_GAMMA / 2
    assert gaps[1] == pytest.approx(gaussian.EULER_GAMMA / 2, abs=0.03)


def test_half_precision_is_walked_in_float32() -> None:
    """Data that come in bfloat16 have the bound of the same numbers in float32: else it would err by whole nats."""
    denoiser = gaussian_denoiser(PROCESS, M, V, "large")
    x0 = _data(6).bfloat16()
    half, full = (variational_bound(denoiser, x, decoder="normal").total for x in (x0, x0.float()))
    assert torch.equal(half, full)
    for measured in (bound_terms, rate_distortion):
        more = ([1.0, PROCESS.T],) if measured is bound_terms else ()
        options = {"decoder": "normal"} if measured is bound_terms else {}
        a, b = (measured(denoiser, x, *more, **options) for x in (x0, x0.float()))
        a, b = (x if isinstance(x, torch.Tensor) else x.rate for x in (a, b))
        assert torch.equal(a, b)


def test_an_average_over_no_data_is_refused() -> None:
    denoiser, none = gaussian_denoiser(PROCESS, M, V), torch.zeros(0, 1)
    for call in (
        lambda: entropy_bounds(PROCESS, none),
        lambda: rate_distortion(denoiser, none),
        lambda: bound_terms(denoiser, none, [1, PROCESS.T]),
        lambda: analytic_variance(denoiser, none),
        lambda: variational_bound(denoiser, none, decoder="normal").interval(),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()


def test_measuring_edits_none_of_its_inputs() -> None:
    denoiser, x0 = gaussian_denoiser(PROCESS, M, V), _data(4)
    times = torch.tensor([1.0, 5.0, PROCESS.T], dtype=F64)
    kept = [tensor.clone() for tensor in (x0, times)]
    variational_bound(denoiser, x0, times=times, draws=2, decoder="normal")
    bound_terms(denoiser, x0, times, decoder="normal")
    rate_distortion(denoiser, x0)
    entropy_bounds(PROCESS, x0)
    analytic_variance(denoiser, x0, times=times)
    assert all(torch.equal(a, b) for a, b in zip(kept, (x0, times)))
