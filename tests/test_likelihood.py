from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize, stats
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from unstir import likelihood
from unstir.bound import variational_bound
from unstir.denoisers import Clipped, Condition, Denoiser, DenoiserBase, GaussianMixtureDenoiser, Guided, Prediction
from unstir.denoisers.variance import rule
from unstir.distributions import Normal
from unstir.likelihood import OdeLikelihood, dequantised, ode_log_likelihood
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Gaussian
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta, Schedule, Time

LAW = settings(deadline=None, derandomize=True, max_examples=5)
F64 = torch.float64


# --- schedules --------------------------------------------------------------------------


class Straight(Schedule):
    """``alpha = 1 - t, sigma = t`` for t in 0 … 1."""

    def __init__(self) -> None:
        self.T = 1

    def alpha(self, t: Time) -> Tensor:
        return 1 - torch.as_tensor(t, dtype=F64)

    def sigma(self, t: Time) -> Tensor:
        return torch.as_tensor(t, dtype=F64) * 1.0

    def log_snr(self, t: Time) -> Tensor:
        return 2 * (self.alpha(t) / self.sigma(t)).log()

    def time(self, log_snr: Tensor | float) -> Tensor:
        return torch.sigmoid(-torch.as_tensor(log_snr, dtype=F64) / 2)

    def describe(self) -> dict[str, Any]:
        return {}


ALL: dict[str, Schedule] = {
    "linear": LinearBeta(),
    "cosine": Cosine(1000),
    "inverse-time": InverseTime(1000),
    "short": SCHEDULES["from-betas"],
    "straight": Straight(),
    "exploding": EDMSigma(),
}


def _noise_of(schedule: Schedule, ratio: float) -> float:
    """The time at which sigma / alpha has a value."""
    return float(schedule.time(-2 * math.log(ratio)))


# --- exact denoisers --------------------------------------------------------------------------------------------------


def _mixture(process: Gaussian, dims: int, narrow: float = 0.02) -> GaussianMixtureDenoiser:
    """Three components in general position, the first of them narrow."""
    source = torch.Generator().manual_seed(dims)
    means = torch.randn(3, dims, dtype=F64, generator=source)
    root = 0.3 * torch.randn(3, dims, dims, dtype=F64, generator=source)
    covariances = root @ root.mT + 0.02 * torch.eye(dims, dtype=F64)
    covariances[0] = narrow**2 * torch.eye(dims, dtype=F64)
    return GaussianMixtureDenoiser(process, torch.tensor([0.2, 0.5, 0.3], dtype=F64), means, covariances)


class _Answer:
    """A density that is asked once for a whole sample, where a distribution answers element by element."""

    def __init__(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        self._log_prob = log_prob

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_prob(x)[:, None]


class Fitting(Gaussian):
    """A process whose prior is the data's own marginal at T: its model is the data, whatever is left of the signal."""

    exact: GaussianMixtureDenoiser

    def prior(self, shape: Any, dtype: torch.dtype = F64, device: Any = "cpu") -> Any:
        return _Answer(lambda x: self.exact.log_prob(x, self.T))


def _fitting(schedule: Schedule, dims: int, narrow: float = 0.02) -> GaussianMixtureDenoiser:
    process = Fitting(schedule)
    process.exact = _mixture(process, dims, narrow)
    return process.exact


def _points(exact: GaussianMixtureDenoiser, each: int = 1) -> Tensor:
    """Places within and between the components."""
    source = torch.Generator().manual_seed(7)
    shape = (each, *exact.means.shape)
    away = torch.randn(shape, dtype=F64, generator=source) * exact.spectrum.sqrt()
    inside = exact.means + torch.einsum("nkd,ked->nke", away, exact.axes)
    between = 0.5 * (exact.means + exact.means.roll(1, 0))
    return torch.cat([inside.flatten(0, 1), between])


def _close(value: Tensor, truth: Tensor, within: float = 1e-4) -> None:
    torch.testing.assert_close(value, truth, rtol=0, atol=within)


# --- against known densities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dims"),
    [*product(["linear", "cosine", "inverse-time"], [1, 2, 5]), ("short", 2), ("straight", 2), ("exploding", 2)],
)
def test_a_mixtures_density_on_every_schedule(name: str, dims: int) -> None:
    """With the right prior the change of variables gives the data's own density, narrow components and all."""
    exact = _fitting(ALL[name], dims)
    x0 = _points(exact)
    found = ode_log_likelihood(exact, x0, start=_noise_of(ALL[name], 1e-4))
    _close(found.total, -_plain_log_prob(exact, x0))


def _plain_log_prob(exact: GaussianMixtureDenoiser, x0: Tensor) -> Tensor:
    covariances = torch.einsum("kde,ke,kfe->kdf", exact.axes, exact.spectrum, exact.axes).numpy()
    parts = zip(exact.log_weights.exp().tolist(), exact.means.numpy(), covariances)
    return torch.tensor(sum(w * stats.multivariate_normal(m, c).pdf(x0.numpy()) for w, m, c in parts)).log()


def test_the_default_settings_meet_the_promise_on_plain_data() -> None:
    """1e-4 nats without asking for anything, where the data is not finer than the noise at the start."""
    exact = _mixture(Gaussian(InverseTime(1000)), 2, narrow=0.3)
    x0 = _points(exact)
    _close(ode_log_likelihood(exact, x0).total, -_plain_log_prob(exact, x0))


@pytest.mark.parametrize("says", ["eps", "x0", "v"])
@pytest.mark.parametrize("name", ["linear", "inverse-time"])
def test_every_parameterisation(name: str, says: str) -> None:
    """The network is asked at real times and read by each rule; eps cannot be where alpha_T = 0."""
    exact = _fitting(ALL[name], 2, narrow=0.2)
    if name == "inverse-time" and says == "eps":
        with pytest.raises(ValueError, match="alpha_bar_T = 0"):
            through(exact, says)
        return
    x0 = _points(exact)
    found = ode_log_likelihood(through(exact, says), x0, start=_noise_of(ALL[name], 5e-4))
    _close(found.total, -_plain_log_prob(exact, x0))


def _quantile_in(weights: np.ndarray, means: np.ndarray, spreads: np.ndarray, u: float) -> float:
    def excess(x: float) -> float:
        return float((weights * stats.norm.cdf(x, means, spreads)).sum()) - u

    return float(optimize.brentq(excess, -30, 30, xtol=1e-13))


@pytest.mark.parametrize("name", ["linear", "cosine", "short"])
def test_the_prior_is_asked_where_the_flow_ends(name: str) -> None:
    """In one dimension the flow keeps the quantile, so x_T is known; and where the signal is not all gone, the density is the
    model's, which the prior's misfit is part of."""
    schedule = ALL[name]
    exact = _mixture(Gaussian(schedule), 1, narrow=0.1)
    weights, means, spreads = (
        exact.log_weights.exp().numpy(), exact.means[:, 0].numpy(), exact.spectrum[:, 0].sqrt().numpy()
    )  # fmt: skip
    start = _noise_of(schedule, 1e-4)
    alpha_bar = Curve(schedule)(schedule.T)
    then = np.sqrt(alpha_bar * spreads**2 + 1 - alpha_bar)
    x0 = _points(exact)
    found = ode_log_likelihood(exact, x0, start=start, tolerance=1e-7)
    for i, x in enumerate(x0[:, 0].tolist()):
        u = float((weights * stats.norm.cdf(x, means, spreads)).sum())
        x_T = _quantile_in(weights, math.sqrt(alpha_bar) * means, then, u)
        volume = (weights * stats.norm.pdf(x, means, spreads)).sum()
        volume /= (weights * stats.norm.pdf(x_T, math.sqrt(alpha_bar) * means, then)).sum()
        assert float(found.prior[i]) == pytest.approx(-stats.norm.logpdf(x_T), abs=1e-4)
        assert float(found.divergence[i]) == pytest.approx(-math.log(volume), abs=1e-4)


@LAW
@given(
    name=st.sampled_from(["linear", "cosine", "inverse-time", "short"]), m=st.floats(-2, 2), spread=st.floats(0.05, 3)
)
def test_gaussian_data_in_closed_form(name: str, m: float, spread: float) -> None:
    """The density of the model that starts at N(0, 1), by the flow of a Gaussian: it keeps x's distance in spreads."""
    schedule, v = ALL[name], spread**2
    start, curve = _noise_of(schedule, 1e-3 * spread), Curve(schedule)
    x0 = [m + z * spread for z in (-4.0, -0.5, 2.0)]
    found = ode_log_likelihood(
        gaussian_denoiser(Gaussian(schedule), m, v), torch.tensor(x0, dtype=F64)[:, None], start=start
    )
    for x, total in zip(x0, found.total.tolist()):
        x_T = gaussian.flow(x, 1.0, curve(schedule.T), m, v)
        stretch = gaussian.flow(x + 1, 1.0, curve(schedule.T), m, v) - x_T
        assert total == pytest.approx(-stats.norm.logpdf(x_T) - math.log(stretch), abs=1e-4)


def test_the_bound_lies_above_it() -> None:
    """On the data's average, -log p of the ODE is the entropy, and the expected bound no less (its gap known to be real)."""
    schedule = LinearBeta.rescaled(20)
    exact = gaussian_denoiser(Gaussian(schedule), 0.4, 0.25, "large")
    x0 = torch.tensor(stats.norm(0.4, 0.5).ppf((np.arange(100) + 0.5) / 100))[:, None]
    ode = ode_log_likelihood(exact, x0, start=_noise_of(schedule, 1e-3), steps=20).total
    bound = variational_bound(exact, x0, decoder="normal", draws=4).total
    assert float(bound.mean()) > float(ode.mean()) == pytest.approx(gaussian.entropy(0.25), abs=0.01)


# --- for any network at all -------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A smooth network of random weights, that looks at x, the time and the label."""

    def __init__(self, dims: int, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(dims + 2, 16), nn.Tanh(), nn.Linear(16, dims))

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        label = torch.zeros(len(x)) if condition is None or condition.label is None else condition.label
        extra = torch.stack([time.to(x.dtype) / 500 - 1, label.to(x.dtype)], 1)
        return self.layers(torch.cat([x.flatten(1), extra], 1)).reshape(x.shape)


def _network(dims: int, schedule: Schedule | None = None, says: str = "v", dtype: torch.dtype = F64) -> Denoiser:
    return Denoiser(Small(dims).to(dtype), Gaussian(schedule or LinearBeta()), prediction=says).eval()


@pytest.mark.parametrize(
    ("name", "says", "start"),
    [("linear", "v", 1.0), ("linear", "x0", 50.0), ("short", "eps", 0.3), ("straight", "v", 0.01)],
)
def test_the_density_of_any_model_integrates_to_one(name: str, says: str, start: float) -> None:
    """At any start: what is measured is the density of a model, no matter what the network says."""
    grid = torch.linspace(-40, 40, 2001, dtype=F64)[:, None]
    found = ode_log_likelihood(_network(1, ALL[name], says), grid, start=start)
    assert float(torch.trapezoid((-found.total).exp(), grid[:, 0])) == pytest.approx(1, abs=1e-5)


def test_a_linear_field_has_the_volume_of_its_trace() -> None:
    """``dy/dphi = A y``: the flow is a matrix exponential, and the logarithm of its volume a trace."""
    schedule, a = InverseTime(100), torch.tensor([[0.3, -0.5, 0.1], [0.2, -0.1, 0.4], [0.0, 0.6, 0.5]], dtype=F64)
    x0 = torch.randn(4, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    found = ode_log_likelihood(_linear(schedule, a), x0, start=20.0, tolerance=1e-8)
    alpha, angle = math.sqrt(0.8), math.pi / 2 - math.atan2(math.sqrt(0.2), math.sqrt(0.8))
    x_T = alpha * x0 @ torch.tensor(linalg.expm(angle * a.numpy())).T
    _close(found.prior, -Normal(torch.zeros(()), torch.ones(())).log_prob(x_T).sum(1), 1e-7)
    _close(found.divergence, torch.full((4,), -angle * float(a.trace()) - 3 * math.log(alpha), dtype=F64), 1e-7)


class Linear(nn.Module):
    def __init__(self, a: Tensor) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return (x.flatten(1) @ self.a.to(x.dtype).T).reshape(x.shape)


def _linear(schedule: Schedule, a: Tensor) -> Denoiser:
    return Denoiser(Linear(a), Gaussian(schedule), prediction="v")


def test_a_constant_prediction_needs_no_graph() -> None:
    """x0 said to be 0 everywhere: all of x is noise, and turns into a volume in closed form; v said to be constant has none."""
    schedule = InverseTime(100)
    x0 = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    process = Gaussian(schedule)
    found = ode_log_likelihood(Constant(process, torch.zeros(2)), x0, start=1.0, tolerance=1e-8)
    # sigma grows from 0.1 to 1 and x with it; before that, x_t = alpha x0
    scale = math.sqrt(0.99) / 0.1
    _close(found.divergence, torch.full((3,), -2 * math.log(scale), dtype=F64), 1e-6)
    still = _linear(schedule, torch.zeros(2, 2, dtype=F64))
    still.network.forward = lambda x, time, condition=None: torch.zeros_like(x)  # pyright: ignore
    found = ode_log_likelihood(still, x0, start=1.0)
    _close(found.divergence, torch.full((3,), -2 * math.log(math.sqrt(0.99)), dtype=F64), 1e-12)


# --- the solver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "straight"])
def test_the_order_of_the_solver(name: str) -> None:
    """Fifth: halving the steps divides the error by 32, in the point and in its volume, through all kinks of the schedule."""
    exact = _mixture(Gaussian(ALL[name]), 2, narrow=0.3)
    x0, start, counts = _points(exact), _noise_of(ALL[name], 1e-2), (10, 20, 40)
    truth, *found = (ode_log_likelihood(exact, x0, start=start, steps=n) for n in (100, *counts))
    for part in ("prior", "divergence"):
        errors = [float((getattr(f, part) - getattr(truth, part)).abs().mean()) for f in found]
        slope = float(np.polyfit(-np.log(counts), np.log(errors), 1)[0])
        assert 4.8 <= slope <= 7, part  # the volume, a plain integral, is still better than its order here


def test_the_tableau_integrates_polynomials() -> None:
    """The result up to x^4 exactly, and the companion that tells the error up to x^3, so that no more than h^5 is reported."""
    assert [sum(stage) for stage in likelihood._STAGES] == pytest.approx(likelihood._NODES, abs=1e-14)
    nodes = np.array([0.0, *likelihood._NODES])
    weights, error = np.array([*likelihood._STAGES[-1], 0.0]), np.array(likelihood._ERROR)
    for power in range(5):
        assert (weights * nodes**power).sum() == pytest.approx(1 / (power + 1), abs=1e-14)
        assert ((error * nodes**power).sum() == pytest.approx(0, abs=1e-14)) == (power < 4)


def test_the_tolerance_is_kept() -> None:
    """It is that of one step; over the whole way the error stays in proportion, and calls rise."""
    exact = _fitting(LinearBeta(), 2, narrow=0.1)
    x0, start = _points(exact), _noise_of(exact.process.schedule, 1e-3)
    truth = ode_log_likelihood(exact, x0, start=start, tolerance=1e-8).total
    calls = 0.0
    for tolerance in (1e-4, 1e-5, 1e-6):
        found = ode_log_likelihood(exact, x0, start=start, tolerance=tolerance)
        assert float((found.total - truth).abs().max()) < 100 * tolerance
        assert float(found.calls.double().mean()) > calls
        calls = float(found.calls.double().mean())


def test_the_calls_are_those_that_were_made() -> None:
    exact = _mixture(Gaussian(LinearBeta()), 2)
    x0 = _points(exact)
    counting = Counting(exact)
    found = ode_log_likelihood(counting, x0)
    assert counting.rows == int(found.calls.sum())
    assert counting.calls == int(found.calls.max())
    counting = Counting(exact)
    found = ode_log_likelihood(counting, x0, steps=7)
    assert found.calls.tolist() == [43] * len(x0)
    assert counting.calls == 43


def test_the_denoiser_is_asked_at_real_times_within_the_chain() -> None:
    for name in ("linear", "inverse-time", "straight"):
        counting = Counting(_mixture(Gaussian(ALL[name]), 1))
        start = _noise_of(ALL[name], 1e-2)
        ode_log_likelihood(counting, torch.zeros(1, 1, dtype=F64), start=start)
        times = torch.cat(counting.times)
        assert float(times.min()) == start
        assert float(times.max()) == ALL[name].T


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_a_sample_is_the_same_in_any_company(divergence: str) -> None:
    exact = _mixture(Gaussian(LinearBeta()), 2, narrow=0.1)
    x0 = _points(exact)

    def measured(rows: list[int]) -> OdeLikelihood:
        source = NoiseSource(3, rows)
        return ode_log_likelihood(
            through(exact, "eps"), x0[rows], divergence=divergence, probes=2, noise=source, tolerance=1e-4
        )

    together = measured([0, 1, 2, 3, 4, 5])
    for row in (0, 4):
        alone = measured([row])
        _close(alone.total, together.total[[row]], 1e-9)
        _close(alone.standard_error, together.standard_error[[row]], 1e-9)
        assert alone.calls.tolist() == together.calls[[row]].tolist()


def test_conditions_stay_with_their_rows() -> None:
    """Rows finish at different steps, and those left must keep their own labels."""
    denoiser = _network(2)
    x0 = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1], [3], [9], [1], [2]]
    )
    labels = torch.tensor([0, 3, 1, 2, 4])
    together = ode_log_likelihood(denoiser, x0, condition=Condition(label=labels), start=1.0)
    assert len(set(together.calls.tolist())) > 1
    for i in range(5):
        alone = ode_log_likelihood(denoiser, x0[i : i + 1], condition=Condition(label=labels[i : i + 1]), start=1.0)
        _close(alone.total, together.total[i : i + 1], 1e-9)


# --- the start --------------------------------------------------------------------------------------------------------


@LAW
@given(m=st.floats(-1, 1), spread=st.floats(0.1, 2), ratio=st.floats(1e-3, 0.05))
def test_the_start_measures_data_with_its_noise(m: float, spread: float, ratio: float) -> None:
    """Begun at a time, the density is that of x0 + (sigma/alpha) eps; its shift is known to first order in the variance."""
    schedule, z = Cosine(1000), torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0], dtype=F64)
    process = Fitting(schedule)
    process.exact = gaussian_denoiser(process, m, spread**2)
    found = ode_log_likelihood(process.exact, (m + z * spread)[:, None], start=_noise_of(schedule, ratio * spread))
    noised = -stats.norm.logpdf(z, 0, math.sqrt(1 + ratio**2)) + math.log(spread)
    clean = -stats.norm.logpdf(z) + math.log(spread)
    _close(found.total, torch.as_tensor(noised), 3e-5)
    # With q = ratio², -log of the noised density is ½ log(1 + q) + ½ z²/(1 + q): to first order in q, less than q² (1 + z²) off.
    off = (found.total - found.start_shift - torch.as_tensor(clean)).abs()
    assert bool((off <= 3e-5 + ratio**4 * (1 + z**2)).all())


def test_the_shift_is_the_same_on_schedules_that_do_not_preserve_variance() -> None:
    shifts = []
    for name in ("cosine", "straight", "exploding"):
        exact = _mixture(Gaussian(ALL[name]), 2)
        shifts.append(ode_log_likelihood(exact, _points(exact), start=_noise_of(ALL[name], 3e-3), steps=1).start_shift)
    _close(shifts[1], shifts[0], 1e-7)
    _close(shifts[2], shifts[0], 1e-7)
    assert float(shifts[0].abs().max()) > 1e-3


# --- Hutchinson's estimate --------------------------------------------------------------------------------------------


class Given(NoiseSource):
    """Row i gets the i-th pattern of signs, whatever it is for."""

    def __init__(self, patterns: Tensor) -> None:
        super().__init__(0, range(len(patterns)))
        self.patterns = patterns

    def integers(self, shape: Any, purpose: str, step: int | Tensor = 0) -> Tensor:
        return self.patterns.clone()


@pytest.mark.parametrize(
    "make", [lambda: _network(3), lambda: _mixture(Gaussian(LinearBeta()), 3)], ids=["net", "exact"]
)
def test_the_mean_over_all_signs_is_the_exact_divergence(make: Callable[[], DenoiserBase]) -> None:
    """Unbiased, without chance: every pattern of signs once. In equal steps all of them go the same way."""
    x = torch.tensor([[0.3, -0.8, 0.5]], dtype=F64)
    patterns = torch.tensor(list(product([0, 1], repeat=3)))
    exact = ode_log_likelihood(make(), x, divergence="exact", start=1.0, steps=8)
    found = ode_log_likelihood(
        make(), x.expand(8, 3), divergence="hutchinson", start=1.0, steps=8, noise=Given(patterns)
    )
    assert float(found.divergence.std()) > 1e-3
    _close(found.divergence.mean(0, True), exact.divergence, 1e-10)
    _close(found.start_shift.mean(0, True), exact.start_shift, 1e-10)
    _close(found.prior, exact.prior.expand(8), 1e-12)


def test_the_standard_error_is_honest() -> None:
    """Of 600 estimates from 12 probes each, the share whose interval of Student's t holds the exact value is 95 %."""
    schedule, rows, probes = LinearBeta(), 600, 12
    a = 0.4 * torch.randn(6, 6, dtype=F64, generator=torch.Generator().manual_seed(1))
    x = torch.randn(1, 6, dtype=F64, generator=torch.Generator().manual_seed(2))
    exact = ode_log_likelihood(_linear(schedule, a), x, start=1.0, steps=6)
    found = ode_log_likelihood(
        _linear(schedule, a), x.expand(rows, 6), divergence="hutchinson", probes=probes, start=1.0, steps=6,
        noise=NoiseSource(5, range(rows)),
    )  # fmt: skip
    off = (found.total - exact.total) / found.standard_error
    inside = float((off.abs() <= stats.t(probes - 1).ppf(0.975)).double().mean())
    assert inside == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / rows))
    assert abs(float((found.total - exact.total).mean())) < 3 * float(found.total.std()) / math.sqrt(rows)


def test_one_probe_knows_no_error_and_the_exact_divergence_has_none() -> None:
    x = torch.zeros(2, 65, dtype=F64)
    slow = {"start": 1.0, "steps": 1}
    assert ode_log_likelihood(_network(65), x, **slow).standard_error.tolist() == [math.inf, math.inf]
    assert ode_log_likelihood(_network(64), x[:, :64], **slow).standard_error.tolist() == [0, 0]
    assert float(ode_log_likelihood(_network(65), x, probes=2, **slow).standard_error.min()) > 0


# --- 8-bit data -------------------------------------------------------------------------------------------------------


class Uniform(DenoiserBase):
    """The exact denoiser of numbers spread evenly over ±a: x0 given x_t is a normal cut off at ±a."""

    def __init__(self, process: Gaussian, a: float) -> None:
        super().__init__()
        self.process, self.a = process, a

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        t = torch.as_tensor(t, dtype=F64).expand(len(x_t))
        alpha, sigma = (
            f(t).reshape(-1, *(1,) * (x_t.ndim - 1)) for f in (self.process.schedule.alpha, self.process.schedule.sigma)
        )
        # eps = (phi(high) - phi(low)) / (Phi(high) - Phi(low)), of x_t's distances to the two ends in units of the noise
        low, high = (x_t - alpha * self.a) / sigma, (x_t + alpha * self.a) / sigma
        shrink = torch.exp(-0.5 * high**2) - torch.exp(-0.5 * low**2)
        mass = torch.special.ndtr(high) - torch.special.ndtr(low)
        eps = -shrink / math.sqrt(2 * math.pi) / mass
        return Prediction(self.process, x_t, t, rule("small", self.process, x_t), given_eps=eps)


def test_the_uniform_density_scores_eight_bits() -> None:
    """Trap 21. On ±256/255 every level is one in 256; only the outermost give some of theirs to the noise at the start."""
    denoiser = Uniform(Gaussian(Cosine(1000)), 256 / 255)
    levels = torch.arange(256, dtype=F64)[2:-2].reshape(-1, 2, 1, 1)
    found = ode_log_likelihood(denoiser, levels * 2 / 255 - 1, dequantise=True)
    _close(found.bits_per_dim, torch.full((126,), 8.0, dtype=F64), 5e-5)


def test_dequantised_levels_fill_their_bins_and_meet() -> None:
    levels = torch.arange(256, dtype=F64) * 2 / 255 - 1
    low, high = (dequantised(levels, torch.full_like(levels, u)) for u in (0.0, 1.0))
    assert float(low[0]) == pytest.approx(-256 / 255, abs=1e-15)
    assert float(high[-1]) == pytest.approx(256 / 255, abs=1e-15)
    torch.testing.assert_close(high[:-1], low[1:], rtol=0, atol=1e-15)
    torch.testing.assert_close(dequantised(levels.float(), torch.full_like(levels, 0.5)), levels, rtol=0, atol=1e-15)


def test_draws_are_averaged_and_keyed() -> None:
    """The draws of a row are its index's own; the mean over two is the mean of each, and all differ."""
    exact = gaussian_denoiser(Gaussian(Cosine(100)), 0.0, 0.01)
    x0 = torch.tensor([[-1 / 255], [101 / 255]], dtype=F64)
    both = ode_log_likelihood(exact, x0, dequantise=True, draws=2, noise=NoiseSource(1, [4, 9]), steps=6)
    source = NoiseSource(1, [4, 9])
    each = [
        ode_log_likelihood(exact, dequantised(x0, source.uniform((1,), "dequantise", i)), steps=6) for i in range(2)
    ]
    assert not bool(torch.isclose(each[0].total, each[1].total, atol=1e-6).any())
    _close(both.total, (each[0].total + each[1].total) / 2, 1e-12)
    assert both.calls.tolist() == [74, 74]
    reversed_ = ode_log_likelihood(exact, x0.flip(0), dequantise=True, draws=2, noise=NoiseSource(1, [9, 4]), steps=6)
    _close(reversed_.total.flip(0), both.total, 1e-12)


def test_points_have_no_bits_per_dim() -> None:
    found = ode_log_likelihood(_network(2), torch.zeros(1, 2, dtype=F64), start=1.0)
    with pytest.raises(ValueError, match=r"these data have none.*\.bits a sample.*dequantise=True"):
        _ = found.bits_per_dim
    torch.testing.assert_close(found.bits * math.log(2), found.total)


# --- refusals and manners ---------------------------------------------------------------------------------------------


def _refused(match: str, denoiser: DenoiserBase | None = None, x0: Tensor | None = None, **arguments: Any) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        ode_log_likelihood(denoiser or _network(2), torch.zeros(2, 2, dtype=F64) if x0 is None else x0, **arguments)
    assert "\n" not in str(caught.value)


def test_what_has_no_meaning_is_refused() -> None:
    bits = DenoiserBase()
    bits.process = Binomial(Cosine(10))
    _refused("a binomial chain jumps between values and has no ODE: use the variational bound", bits)
    stepwise = _network(2)
    stepwise.consecutive = True
    _refused("the step from t to t - 1 alone", stepwise)
    for clipped in (Clipped(_network(2)), Guided(Clipped(_network(2)), 2.0)):
        _refused("give the denoiser unclipped", clipped)
    _refused("floating-point", x0=torch.zeros(2, 2, dtype=torch.long))
    _refused("floating-point", x0=torch.zeros(2, dtype=F64))
    _refused("no divergence is called 'approximate'", divergence="approximate")
    for name in ("probes", "draws", "steps"):
        _refused("at least 1", **{name: 0})
    _refused("tolerance positive", tolerance=0.0)
    _refused("without it, one says everything", draws=2)
    for start in (0.0, 1000.0, -1.0):
        _refused("above 0, where there is some noise, and below T = 1000", start=start)
    for value in (0.5, 1.1, math.nan):
        _refused("256 levels", x0=torch.full((1, 2), value, dtype=F64), dequantise=True)


def test_a_field_without_an_answer_is_refused() -> None:
    _refused("no finite answer at t = 1,", Constant(Gaussian(LinearBeta()), torch.full((2,), math.nan)), start=1.0)

    class Wild(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return x + torch.where(time[:, None] > 400, 1e20 * (1e9 * x).sin(), 0.0)

    _refused("too rough for its tolerance", Denoiser(Wild(), Gaussian(LinearBeta()), prediction="v"), start=1.0)


def test_a_solver_that_gets_nowhere_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every field that is too rough makes the steps vanish; they are counted too."""
    monkeypatch.setattr("unstir.likelihood._MOST", 20)
    _refused("too rough for its tolerance", _network(2), start=1.0, tolerance=1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_no_gradient_is_left_behind(mode: Callable[[], Any]) -> None:
    """Under callers that switched gradients off as well; weights keep their flags, x0 its values, results carry no graph."""
    denoiser = _network(3, dtype=torch.float32)
    with mode():
        x0 = torch.randn(4, 3)
        kept = x0.clone()
        found = ode_log_likelihood(denoiser, x0, start=1.0)
    assert all(p.grad is None and p.requires_grad for p in denoiser.parameters())
    assert torch.equal(x0, kept)
    for value in (found.total, found.start_shift, found.standard_error):
        assert value.dtype == F64
        assert not value.requires_grad


def test_float32_networks_agree_with_float64_ones() -> None:
    x0 = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    single = ode_log_likelihood(_network(3, dtype=torch.float32), x0, start=1.0, tolerance=1e-6)
    double = ode_log_likelihood(_network(3), x0.double(), start=1.0)
    _close(single.total, double.total)
    _close(ode_log_likelihood(_network(3, dtype=torch.float32), x0.bfloat16(), start=1.0).total, single.total, 0.05)


def test_progress_rises_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    exact = gaussian_denoiser(Gaussian(Cosine(100)), 0.0, 0.1)
    ode_log_likelihood(
        exact, torch.ones(1, 1, dtype=F64), dequantise=True, draws=2, progress=lambda a, b: seen.append((a, b))
    )
    done = [a for a, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (2000, 2000)


def test_the_parts_make_the_total() -> None:
    zero = torch.zeros(1, dtype=F64)
    parts = OdeLikelihood(zero + 3, zero + 2, zero, zero, zero.long(), dims=2, dequantised=True)
    assert float(parts.total) == 5
    assert float(parts.bits_per_dim) == pytest.approx(5 / (2 * math.log(2)) + math.log2(127.5))
