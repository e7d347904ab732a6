from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from unstir.bound import Bound, decoder_nats, step_nats, variational_bound
from unstir.bound.variational import strata
from unstir.denoisers import Condition, Denoiser, EmpiricalDenoiser, Prediction
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Gaussian
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=60)
F64 = torch.float64
M, V = 0.4, 0.0625
FAMILIES: dict[str, Callable[[int], Schedule]] = {
    "linear": LinearBeta.rescaled,
    "cosine": Cosine,
    "inverse-time": InverseTime,
}


def _corners(m: float, v: float) -> tuple[Tensor, NoiseSource]:
    """x0 at m ± sqrt(v) and eps at ±1 in all pairs: over these, the mean of any quadratic is its expectation."""
    x0 = m + math.sqrt(v) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    return x0, TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))


def _exact_variance(process: Gaussian, v: float) -> Callable[[Tensor, Tensor], Tensor]:
    curve = Curve(process.schedule)
    return lambda s, t: torch.tensor(
        [gaussian.exact_variance(curve(float(b)), curve(float(a)), v) for a, b in zip(s, t)], dtype=F64
    )


def _left_over(v: float) -> Callable[[Prediction], Tensor]:
    """The decoder's exact variance, Var[x0 | x_1]."""

    def variance(prediction: Prediction) -> Tensor:
        ab = float(prediction.process.schedule.alpha(prediction.t[0]) ** 2)
        return torch.tensor(gaussian.left_over(ab, v), dtype=F64)

    return variance


def _expected(
    process: Gaussian, variance: str, decoder_variance: str, m: float = M, v: float = V, times: list | None = None
) -> Bound:
    """The bound of the exact denoiser, averaged exactly over the data and the noise."""
    rule = _exact_variance(process, v) if variance == "exact" else variance
    x0, noise = _corners(m, v)
    bound = variational_bound(
        gaussian_denoiser(process, m, v, rule),
        x0,
        times=times,
        decoder="normal",
        decoder_variance=_left_over(v) if decoder_variance == "exact" else decoder_variance,
        noise=noise,
    )
    return Bound(bound.prior.mean(0, True), bound.steps.mean(0, True), bound.decoder.mean(0, True), 1, density=True)


# --- against the closed form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder_variance", ["beta_1", "ho20", "exact"])
@pytest.mark.parametrize("variance", ["small", "large", "exact"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_expected_bound_is_the_closed_form(name: str, variance: str, decoder_variance: str) -> None:
    schedule = SCHEDULES[name]
    times = None if schedule.T <= 100 else [1, 2, 3, 10, 50, 51, 200, 700, 1000]
    chain = times or list(range(1, schedule.T + 1))
    bound = _expected(Gaussian(schedule), variance, decoder_variance, times=times)
    assert bound.steps.shape == (1, len(chain) - 1)
    expected = gaussian.expected_bound(chain, Curve(schedule), M, V, variance, decoder_variance)
    assert float(bound.total) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_whole_chain_of_1000_terms_is_the_closed_form() -> None:
    schedule = LinearBeta()
    bound = _expected(Gaussian(schedule), "large", "beta_1")
    expected = gaussian.expected_bound(range(1, 1001), Curve(schedule), M, V, "large")
    assert float(bound.total) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "times", [[50], [1, 50], [7, 13, 50], [0.5, 3.25, 50], list(range(1, 51)), list(range(2, 51, 4))], ids=len
)
def test_the_bound_of_a_subchain_is_that_chains(times: list[float]) -> None:
    """Also with real times, and with the decoder at a later time than 1."""
    schedule = LinearBeta.rescaled(50)
    for variance in ("small", "large"):
        bound = _expected(Gaussian(schedule), variance, "beta_1", times=times)
        expected = gaussian.expected_bound(times, Curve(schedule), M, V, variance)
        assert float(bound.total) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@LAW
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(2, 24),
    st.floats(-1, 1),
    st.floats(0.001, 9),
    st.sampled_from(["small", "large", "exact"]),
    st.sampled_from(["beta_1", "ho20", "exact"]),
)
def test_the_expected_bound_is_never_below_the_truth(
    family: str, T: int, m: float, v: float, variance: str, decoder_variance: str
) -> None:
    schedule = FAMILIES[family](T)
    # below minus log p even by the part of the prior that no reverse chain can make up for
    least = gaussian.entropy(v) + gaussian.prior_gap(Curve(schedule)(T), m, v)
    assert float(_expected(Gaussian(schedule), variance, decoder_variance, m, v).total) >= least - 1e-10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("v", [0.01, 0.27, 1.0, 9.0])
def test_the_exact_reverse_variance_makes_the_bound_exact(family: str, v: float) -> None:
    """Every reverse step is then the data's own: all that is left is the prior's KL of the marginals."""
    schedule = FAMILIES[family](37)
    bound = _expected(Gaussian(schedule), "exact", "exact", 0.3, v)
    truth = gaussian.entropy(v) + gaussian.prior_gap(Curve(schedule)(37), 0.3, v)
    assert float(bound.total) == pytest.approx(truth, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_for_unit_data_large_is_the_exact_variance(family: str) -> None:
    """q(x_s | x_t) of N(0, 1) data is the step itself, reversed: large with beta_1 leaves no gap whatever T."""
    for T in (1, 2, 7, 40):
        bound = _expected(Gaussian(FAMILIES[family](T)), "large", "beta_1", 0.0, 1.0)
        assert float(bound.total) == pytest.approx(gaussian.entropy(1.0), abs=1e-12)


def _gap(schedule: Schedule, v: float, variance: str, decoder_variance: str = "beta_1") -> float:
    curve = Curve(schedule)
    bound = gaussian.expected_bound(range(1, schedule.T + 1), curve, 0.0, v, variance, decoder_variance)
    return bound - gaussian.entropy(v) - gaussian.prior_gap(curve(schedule.T), 0.0, v)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("v", [0.0625, 0.27, 9.0])
def test_large_converges_as_one_over_T(family: str, v: float) -> None:
    lengths = [100, 200, 400, 800, 1600]
    gaps = [_gap(FAMILIES[family](T), v, "large") for T in lengths]
    assert all(gap > 0 for gap in gaps)
    slope = np.polyfit(np.log(lengths), np.log(gaps), 1)[0]
    assert -1.05 <= slope <= -0.95


def test_variational_bound_itself_converges_so() -> None:
    gaps = []
    for T in (25, 50, 100):
        schedule = InverseTime(T)
        gaps.append(float(_expected(Gaussian(schedule), "large", "beta_1", 0.0, 0.27).total) - gaussian.entropy(0.27))
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05)
    assert gaps[1] / gaps[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("v", [0.0625, 0.27, 1.0, 9.0])
def test_small_keeps_a_gap_of_half_eulers_constant(v: float) -> None:
    """sum_{t>=2} ½ (1/(t-1) - log(t/(t-1))) = gamma/2 = .2886 nats a dim, since near t = 1 sigma² grows as t."""
    assert _gap(InverseTime(3200), v, "small") == pytest.approx(gaussian.EULER_GAMMA / 2, abs=0.015)
    assert _gap(LinearBeta(20_000, 1e-4 / 20, 1e-4 / 20), v, "small") == pytest.approx(
        gaussian.EULER_GAMMA / 2, abs=0.01
    )


@pytest.mark.parametrize("v", [0.05, 0.27, 1.0])
def test_small_keeps_its_gap_on_the_papers_chain(v: float) -> None:
    assert 0.29 <= _gap(LinearBeta(), v, "small") <= 0.47
    assert _gap(LinearBeta(), v, "large") < 0.01


def test_the_ho20_decoder_costs_half_of_one_minus_log_two() -> None:
    """beta-tilde_2 tends to half of beta_1: ½ (2 - 1 - log 2) = .1534 nats a dim."""
    assert _gap(InverseTime(3200), 0.27, "large", "ho20") == pytest.approx((1 - math.log(2)) / 2, abs=2e-3)


# --- the parts --------------------------------------------------------------------------------------------------------


def _prior_bits(schedule: Schedule, mean_square: float) -> float:
    x0 = torch.full((1, 3, 8, 8), math.sqrt(mean_square), dtype=F64)
    bound = variational_bound(
        Constant(Gaussian(schedule), torch.zeros(1, dtype=F64)), x0, times=[schedule.T], decoder="normal"
    )
    return float(bound.prior) / (3 * 8 * 8 * math.log(2))


def test_the_papers_chain_has_the_papers_prior_part() -> None:
    """L_T of about 1e-5 bits/dim [HO20 §4]: 7.9e-6 at a mean square of .27, 2.9e-5 at 1."""
    assert _prior_bits(LinearBeta(), 0.27) == pytest.approx(7.9e-6, rel=0.01)
    assert _prior_bits(LinearBeta(), 1.0) == pytest.approx(2.9e-5, rel=0.01)


def test_the_prior_part_tells_an_unscaled_chain() -> None:
    """Trap 9: .129 bits/dim left at T = 100, below 1e-4 when rescaled, nothing at alpha_bar_T = 0."""
    assert _prior_bits(LinearBeta(100), 0.25) == pytest.approx(0.129, abs=0.07)
    for T in (10, 100, 400):
        assert _prior_bits(LinearBeta.rescaled(T), 0.25) < 1e-4
    assert _prior_bits(InverseTime(30), 0.25) == 0


def test_the_weight_of_an_x0_error_is_half_the_difference_of_snr() -> None:
    """Trap 19: with small variance a KL is ½ (SNR_s - SNR_t) |x0 - x0_hat|², for neighbours and strides."""
    for schedule in (LinearBeta(), InverseTime(1000)):
        process = Gaussian(schedule)
        t = torch.tensor([2, 100, 101, 500, 999, 1000], dtype=F64)
        for s in (t - 1, t / 2):
            x0, off = torch.zeros(6, 4, dtype=F64), 0.3
            x_t = torch.randn(6, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
            prediction = Constant(process, torch.tensor([off], dtype=F64)).predict(x_t, t)
            snr_s, snr_t = schedule.log_snr(s).exp(), schedule.log_snr(t).exp()
            torch.testing.assert_close(
                step_nats(prediction, x0, s), (snr_s - snr_t) / 2 * off**2 * 4, rtol=1e-8, atol=1e-12
            )


def test_the_weight_at_t_100_is_the_known_figure() -> None:
    snr = LinearBeta().log_snr(torch.tensor([100.0, 101.0], dtype=F64)).exp()
    assert float(snr[0] - snr[1]) / 2 == pytest.approx(0.087, abs=1e-3)


def test_a_perfect_prediction_costs_nothing_on_the_way_with_small_variance() -> None:
    process = Gaussian(InverseTime(20))
    x0 = torch.randn(3, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    for t in (2.0, 7.0, 20.0):
        x_t = process.marginal(x0, t).sample(torch.randn(3, 2, dtype=F64))
        prediction = Constant(process, x0).predict(x_t, t)
        torch.testing.assert_close(
            step_nats(prediction, x0, torch.full((3,), t - 1, dtype=F64)), torch.zeros(3, dtype=F64)
        )


def test_all_reverse_variances_give_finite_terms() -> None:
    """Trap 15: the learned rule at both its ends too, and down to the smallest pair."""

    class Net(nn.Module):
        def __init__(self, spread: float) -> None:
            super().__init__()
            self.spread = spread

        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return torch.cat([0.1 * x, torch.full_like(x, self.spread)], 1)

    process = Gaussian(InverseTime(12))
    x0 = torch.tensor([0.0, 128.0, 255.0]).reshape(3, 1, 1) * 2 / 255 - 1
    for spread in (-1.0, 0.0, 1.0):
        bound = variational_bound(Denoiser(Net(spread), process, "v", "learned"), x0)
        assert bool(torch.isfinite(bound.total).all())
        fixed = "small" if spread == -1 else "large"
        if spread != 0:
            plain = nn.Module()
            plain.forward = lambda x, time, condition=None: 0.1 * x
            torch.testing.assert_close(bound.total, variational_bound(Denoiser(plain, process, "v", fixed), x0).total)


# --- 8-bit data -------------------------------------------------------------------------------------------------------


def test_on_levels_the_bound_is_a_code_length() -> None:
    """Four equally likely levels cost log 4 nats: not less, and little more.

    Points far apart have no width, so small is their exact variance; at t = 1 the denoiser is sure of the level, so a
    decoder narrower than a bin costs nothing, and that of beta_1 what it spills over the bin's edges.
    """
    levels = torch.tensor([[0.0], [60.0], [190.0], [255.0]]) * 2 / 255 - 1
    process, n = Gaussian(LinearBeta.rescaled(250)), 2000
    denoiser, x0 = EmpiricalDenoiser(process, levels), levels.repeat(n // 4, 1)
    narrow = torch.tensor(1e-7, dtype=F64)
    bound = variational_bound(denoiser, x0, decoder_variance=lambda _: narrow)
    mean, error = float(bound.total.mean()), float(bound.total.std()) / math.sqrt(n)
    assert math.log(4) - 5 * error < mean < math.log(4) + 0.15
    assert error < 0.03
    assert float(bound.bits_per_dim.mean()) == pytest.approx(mean / math.log(2), rel=1e-6)
    assert not bound.density

    z = 1 / 255 / math.sqrt(float(process.schedule.betas[0]))
    inner, edge = math.erf(z / math.sqrt(2)), 0.5 * (1 + math.erf(z / math.sqrt(2)))
    spilled = variational_bound(denoiser, x0).decoder.reshape(-1, 4).mean(0)
    expected = -torch.tensor([edge, inner, inner, edge], dtype=F64).log()
    torch.testing.assert_close(spilled, expected, rtol=1e-4, atol=1e-4)


def test_a_bound_on_masses_and_one_on_dequantised_data_score_alike() -> None:
    """Bits/dim of the mass and of the density are the same convention: on smooth data, well inside, they agree."""
    process, v, n = Gaussian(Cosine(60)), 0.02, 20_000
    k = (math.sqrt(v) * NoiseSource(5, range(n)).normal((1,), "data") + 1).mul(255 / 2).round()
    times = [20, 30, 40, 50, 60]  # a decoder much wider than a level
    denoiser = gaussian_denoiser(process, 0.0, v, "large")
    u = NoiseSource(0, range(n)).uniform((1,), "dequantise")
    mass = variational_bound(denoiser, k * 2 / 255 - 1, times=times)
    density = variational_bound(denoiser, ((2 * k + 2 * u - 1) / 255 - 1).float(), times=times, decoder="normal")
    assert density.density
    assert torch.equal(density.bits_per_dim, replace(density, eight_bit=True).bits_per_dim)
    with pytest.raises(ValueError, match="these data have none"):
        _ = replace(density, eight_bit=False).bits_per_dim
    assert float(mass.bits_per_dim.mean()) == pytest.approx(float(density.bits_per_dim.mean()), abs=1e-3)


# --- as an estimator --------------------------------------------------------------------------------------------------


def _image_case() -> tuple[Denoiser, Tensor]:
    class Net(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return torch.tanh(0.5 * x + 0.001 * time.reshape(-1, 1, 1, 1))

    x0 = torch.randint(0, 256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(3)) * 2 / 255 - 1
    return Denoiser(Net(), Gaussian(LinearBeta.rescaled(12))), x0


def test_total_is_the_sum_of_the_parts_and_bits_are_per_number() -> None:
    denoiser, x0 = _image_case()
    bound = variational_bound(denoiser, x0)
    assert (bound.prior.shape, bound.steps.shape, bound.decoder.shape) == ((5,), (5, 11), (5,))
    torch.testing.assert_close(bound.total, bound.prior + bound.steps.sum(1) + bound.decoder)
    torch.testing.assert_close(bound.bits_per_dim, bound.total / (48 * math.log(2)))
    torch.testing.assert_close(bound.bits, bound.bits_per_dim * 48)
    assert bound.total.dtype == F64
    assert bool((bound.steps >= 0).all())


def test_a_samples_bound_does_not_depend_on_its_batch() -> None:
    denoiser, x0 = _image_case()
    whole = variational_bound(denoiser, x0, noise=NoiseSource(4, [10, 11, 12, 13, 14]))
    for row in (0, 3):
        alone = variational_bound(denoiser, x0[row : row + 1], noise=NoiseSource(4, [10 + row]))
        torch.testing.assert_close(alone.total[0], whole.total[row], rtol=1e-6, atol=1e-6)
    again = variational_bound(denoiser, x0, noise=NoiseSource(4, [10, 11, 12, 13, 14]))
    assert torch.equal(again.total, whole.total)


def test_draws_are_averaged_and_independent() -> None:
    process = Gaussian(LinearBeta.rescaled(6))
    denoiser = gaussian_denoiser(process, M, V, "large")
    x0 = torch.full((3000, 1), M, dtype=F64)
    one, four = (variational_bound(denoiser, x0, decoder="normal", draws=k).total for k in (1, 4))
    assert float(one.std() / four.std()) == pytest.approx(2, rel=0.1)
    assert float(one.mean()) == pytest.approx(float(four.mean()), abs=5 * float(one.std()) / math.sqrt(3000))


def test_its_mean_over_random_draws_is_the_expected_bound() -> None:
    """The same estimate with the keyed noise that users get, at five standard errors."""
    process, n = Gaussian(LinearBeta.rescaled(25)), 20_000
    x0 = _data(n)
    bound = variational_bound(gaussian_denoiser(process, M, V), x0, decoder="normal", noise=NoiseSource(1, range(n)))
    expected = gaussian.expected_bound(range(1, 26), Curve(process.schedule), M, V, "small")
    assert abs(float(bound.total.mean()) - expected) < 5 * float(bound.total.std()) / math.sqrt(n)


def _data(n: int) -> Tensor:
    return M + math.sqrt(V) * NoiseSource(99, range(n)).normal((1,), "data", dtype=F64)


@pytest.mark.parametrize("says", ["eps", "x0", "v"])
def test_the_bound_does_not_depend_on_the_parameterisation(says: str) -> None:
    process = Gaussian(LinearBeta.rescaled(20))
    exact = gaussian_denoiser(process, M, V)
    x0, noise = _corners(M, V)
    direct, seen = (variational_bound(d, x0, decoder="normal", noise=noise) for d in (exact, through(exact, says)))
    torch.testing.assert_close(seen.total, direct.total, rtol=1e-9, atol=1e-9)


def test_the_condition_reaches_the_network_and_progress_is_told() -> None:
    _, x0 = _image_case()
    seen: list[Condition | None] = []

    class Net(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            seen.append(condition)
            return x

    condition, told = Condition(label=torch.arange(5)), []
    denoiser = Denoiser(Net(), Gaussian(LinearBeta.rescaled(4)))
    variational_bound(denoiser, x0, condition=condition, draws=2, progress=lambda done, of: told.append((done, of)))
    assert len(seen) == 8
    assert all(c is condition for c in seen)
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_zero_terminal_signal_gives_finite_bounds() -> None:
    process = Gaussian(InverseTime(9))
    exact = gaussian_denoiser(process, 0.0, 0.3)
    x0 = torch.tensor([[0.0], [100.0], [255.0]]) * 2 / 255 - 1
    for says in ("x0", "v"):
        assert bool(torch.isfinite(variational_bound(through(exact, says), x0).total).all())


def test_what_makes_no_chain_or_no_decoder_is_refused() -> None:
    denoiser, x0 = _image_case()
    for times in ([], [1, 2], [0, 12], [3, 2, 12], [2, 2, 12], [1, 12, 13], [-1, 12], [math.nan, 12]):
        with pytest.raises(ValueError, match="rise"):
            variational_bound(denoiser, x0, times=times)
    with pytest.raises(ValueError, match="at least two steps"):
        variational_bound(denoiser, x0, times=[12], decoder_variance="ho20")
    with pytest.raises(ValueError, match="'laplace'"):
        variational_bound(denoiser, x0, decoder="laplace")
    with pytest.raises(ValueError, match="'beta_2'"):
        variational_bound(denoiser, x0, decoder_variance="beta_2")
    with pytest.raises(ValueError, match="256 levels"):
        variational_bound(denoiser, x0 + 0.003)
    with pytest.raises(ValueError, match="draw"):
        variational_bound(denoiser, x0, draws=0)


def test_the_decoder_may_be_asked_alone() -> None:
    process = Gaussian(LinearBeta())
    x0 = torch.tensor([[0.2]], dtype=F64)
    prediction = Constant(process, x0).predict(x0, 1)
    beta_1 = float(process.schedule.betas[0])
    said = float(decoder_nats(prediction, x0, "normal"))
    assert said == pytest.approx(0.5 * math.log(2 * math.pi * beta_1), rel=1e-9)
    with pytest.raises(ValueError, match="ho20"):
        decoder_nats(prediction, x0, "normal", "ho20")


def test_no_call_edits_its_inputs() -> None:
    denoiser, x0 = _image_case()
    times = torch.tensor([1, 5, 12])
    kept, kept_times = x0.clone(), times.clone()
    variational_bound(denoiser, x0, times=times)
    variational_bound(denoiser, x0, decoder="normal", decoder_variance="ho20", draws=2)
    assert torch.equal(x0, kept)
    assert torch.equal(times, kept_times)


# --- an estimate from some of the terms -------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 999, 3999])
@pytest.mark.parametrize("terms", [1, 2, 5, 30, 998])
def test_strata_part_the_steps_and_grow(steps: int, terms: int) -> None:
    cut = strata(steps, terms)
    assert len(cut) <= min(terms, steps)
    assert [place for first, size in cut for place in range(first, first + size)] == list(range(1, steps + 1))
    assert cut[0][1] <= cut[-1][1]
    assert strata(steps, None) == strata(steps, steps) == [(i, 1) for i in range(1, steps + 1)]


class EveryPlace(TwoPoint):
    """Row i draws the uniform ``at[i]`` in every stratum, so that a fine even grid of them visits each place alike."""

    def __init__(self, signs: Tensor, at: Tensor) -> None:
        super().__init__(signs)
        self.at = at

    def uniform(self, shape: Sequence[int], purpose: str, step: int | Tensor = 0) -> Tensor:
        return self.at


@pytest.mark.parametrize("terms", [1, 2, 3, 4])
def test_the_estimate_from_some_terms_is_unbiased(terms: int) -> None:
    """Averaged over every choice of places, exactly, it is the whole bound: for any number of terms."""
    schedule = LinearBeta.rescaled(13)
    sizes = [size for _, size in strata(12, terms)]
    assert len(sizes) < 12
    n = math.lcm(*sizes)
    x0, noise = _corners(M, V)
    assert isinstance(noise, TwoPoint)
    even = (torch.arange(n, dtype=F64) + 0.5) / n
    every = EveryPlace(noise.signs.repeat(n), even.repeat_interleave(4))
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V, "large")
    bound = variational_bound(denoiser, x0.repeat(n, 1), terms=terms, decoder="normal", noise=every)
    assert bound.steps.shape == (4 * n, len(sizes))
    expected = gaussian.expected_bound(range(1, 14), Curve(schedule), M, V, "large")
    assert float(bound.total.mean()) == pytest.approx(expected, rel=1e-10)


def test_enough_terms_are_all_of_them() -> None:
    denoiser, x0 = _image_case()
    whole = variational_bound(denoiser, x0)
    for terms in (11, 12, 1000):
        assert torch.equal(variational_bound(denoiser, x0, terms=terms).total, whole.total)
    with pytest.raises(ValueError, match="at least one term"):
        variational_bound(denoiser, x0, terms=0)


def test_some_terms_take_that_many_calls_and_a_samples_choice_is_its_own() -> None:
    denoiser, x0 = _image_case()
    counting = Counting(denoiser)
    whole = variational_bound(counting, x0, terms=4, draws=2, noise=NoiseSource(2, [5, 6, 7, 8, 9]))
    assert counting.calls == 2 * 5
    alone = variational_bound(denoiser, x0[3:4], terms=4, draws=2, noise=NoiseSource(2, [8]))
    torch.testing.assert_close(alone.total[0], whole.total[3], rtol=1e-6, atol=1e-6)
    assert all(len(times.unique()) > 1 for times in counting.times[-2:])


def test_strata_and_draws_choose_independently() -> None:
    """Else their errors would add up instead of averaging out."""
    counting = Counting(gaussian_denoiser(Gaussian(LinearBeta()), M, V))
    variational_bound(counting, torch.full((4000, 1), M, dtype=F64), terms=3, draws=2, decoder="normal")
    places = np.corrcoef(torch.stack(counting.times[4:]).numpy())  # two strata of many places, two draws each
    assert np.abs(places - np.eye(4)).max() < 5 / math.sqrt(4000)
