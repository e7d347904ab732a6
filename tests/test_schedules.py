from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.curves import CHAINS, EVERY, EXPLODING, PRESERVING, Curve
from unstir.processes import Gaussian
from unstir.schedules import (
    NAMES,
    Chain,
    Constant,
    Cosine,
    EDMSigma,
    FromBetas,
    InverseTime,
    LinearBeta,
    MonotoneLogSNR,
    Quadratic,
    Rescaled,
    Schedule,
    SigmoidAlphaBar,
    SigmoidBeta,
    from_description,
    schedule_curves,
)

LAW = settings(deadline=None, derandomize=True, max_examples=60)
betas = st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=40)
every = pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY.keys())
preserving = pytest.mark.parametrize("schedule", PRESERVING.values(), ids=PRESERVING.keys())
chains = pytest.mark.parametrize("schedule", CHAINS.values(), ids=CHAINS.keys())
STATED_FOR_1000 = [LinearBeta, Quadratic, Constant, SigmoidBeta]


@pytest.fixture(scope="module", autouse=True)
def without_graphs() -> Iterator[None]:
    with torch.no_grad():
        yield


def _scan(schedule: Schedule, places: int = 257) -> torch.Tensor:
    return torch.linspace(0, schedule.T, places, dtype=torch.float64)


@preserving
def test_the_table_is_the_product_of_the_chain(schedule: Schedule) -> None:
    """alpha_bar == cumprod(1 - beta), also after clipping (the cosine's), with alpha_bar[0] == 1, strictly falling."""
    assert schedule.alpha_bar.dtype == torch.float64
    assert schedule.alpha_bar.shape == (schedule.T + 1,)
    assert float(schedule.alpha_bar[0]) == 1
    product = np.concatenate([[1.0], np.cumprod(1 - schedule.betas.numpy())])
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), product, rtol=1e-12, atol=0)
    assert bool((schedule.alpha_bar.diff() < 0).all())
    assert bool((schedule.alpha_bar[1:-1] > 0).all())


@LAW
@given(betas)
def test_any_betas_make_a_falling_table(values: list[float]) -> None:
    schedule = FromBetas(torch.tensor(values, dtype=torch.float64))
    np.testing.assert_allclose(schedule.alpha_bar[1:].numpy(), np.cumprod(1 - np.array(values)), rtol=1e-12, atol=0)
    assert bool((schedule.log_alpha_bar(torch.arange(schedule.T + 1)).diff() < 0).all())


@preserving
def test_whole_times_read_the_table_exactly(schedule: Schedule) -> None:
    t = torch.arange(schedule.T + 1)
    torch.testing.assert_close(schedule.alpha(t) ** 2, schedule.alpha_bar, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - schedule.alpha_bar, rtol=1e-14, atol=1e-15)
    assert float(schedule.alpha(0)) == 1
    assert float(schedule.sigma(0)) == 0


@chains
def test_real_times_follow_the_stated_interpolation(schedule: Schedule) -> None:
    curve = Curve(schedule)
    t = _scan(schedule)
    expected = torch.tensor([curve(float(u)) for u in t], dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2, expected, rtol=1e-12, atol=1e-300)
    assert bool((schedule.log_alpha_bar(t).diff() < 0).all())


@preserving
def test_variance_is_preserved(schedule: Schedule) -> None:
    t = _scan(schedule)
    torch.testing.assert_close(
        schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-14, atol=1e-14
    )


@every
def test_log_snr_is_that_of_alpha_and_sigma_and_falls(schedule: Schedule) -> None:
    t = _scan(schedule)[1:-1]
    expected = 2 * (schedule.alpha(t).log() - schedule.sigma(t).log())
    torch.testing.assert_close(schedule.log_snr(t), expected, rtol=1e-12, atol=1e-12)
    assert bool((schedule.log_snr(t).diff() < 0).all())
    assert float(schedule.log_snr(0)) == math.inf
    assert float(schedule.alpha(0)) == 1
    assert float(schedule.sigma(0)) == 0


@every
def test_time_inverts_log_snr(schedule: Schedule) -> None:
    t = torch.cat([_scan(schedule), torch.arange(schedule.T + 1, dtype=torch.float64)])
    back = schedule.time(schedule.log_snr(t))
    # Near alpha_bar = 0 a log-SNR names alpha_bar to a relative rounding, and 1 - t/T is as small: absolute is right.
    torch.testing.assert_close(back, t, rtol=1e-10, atol=1e-10)


@every
def test_time_of_values_beyond_the_ends_are_the_ends(schedule: Schedule) -> None:
    beyond = schedule.time(torch.tensor([math.inf, 800.0, -800.0, -math.inf], dtype=torch.float64))
    assert beyond[0] == 0
    assert beyond[1] == pytest.approx(0, abs=1e-12)
    assert beyond[2] == beyond[3] == schedule.T


@LAW
@given(betas, st.floats(0, 1))
def test_time_inverts_log_snr_for_any_betas(values: list[float], place: float) -> None:
    schedule = FromBetas(torch.tensor(values, dtype=torch.float64))
    t = torch.tensor(place * schedule.T, dtype=torch.float64)
    log_snr = schedule.log_snr(t)
    # the law in log-SNR, where it is well conditioned however flat the schedule
    torch.testing.assert_close(schedule.log_snr(schedule.time(log_snr)), log_snr, rtol=1e-9, atol=1e-9)


def test_inverse_time_erases_an_equal_part_each_step() -> None:
    """alpha_bar_t = 1 - t/T exactly, also between the steps of the last interval, and 0 at T without any NaN."""
    schedule = InverseTime(40)
    t = torch.arange(41, dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha_bar, 1 - t / 40, rtol=1e-13, atol=0)
    assert float(schedule.alpha(40)) == 0
    assert float(schedule.sigma(40)) == 1
    assert float(schedule.log_snr(40)) == -math.inf
    assert float(schedule.alpha(39.75) ** 2) == pytest.approx(0.25 / 40, rel=1e-12)
    scan = _scan(schedule, 1001)
    for read in (schedule.alpha, schedule.sigma):
        assert bool(torch.isfinite(read(scan)).all())
    assert not bool(torch.isnan(schedule.log_snr(scan)).any())


def test_inverse_time_of_one_step_is_pure_noise() -> None:
    assert InverseTime(1).alpha_bar.tolist() == [1, 0]


@pytest.mark.parametrize("T", [1, 2, 7, 20, 100, 999, 1000, 4000])
@pytest.mark.parametrize("kind", STATED_FOR_1000, ids=lambda kind: kind.name)
def test_a_rescaled_chain_forgets_as_much_whatever_its_length(kind: type[LinearBeta], T: int) -> None:
    """Traps 9 and 10: unscaled betas leave linear alpha_bar_100 = .364, and betas times 1000/T pass 1 at T = 20."""
    schedule, full = kind.rescaled(T), kind()
    assert schedule.T == T
    assert bool(((schedule.betas > 0) & (schedule.betas < 1)).all())
    t = torch.arange(T + 1, dtype=torch.float64)
    curve = Curve(full)
    expected = torch.tensor([curve(min(u * 1000 / T, 1000.0)) for u in t.tolist()], dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha_bar, expected, rtol=1e-10, atol=0)
    assert schedule.prior_report() is None


def test_a_rescaled_chain_takes_the_arguments_of_the_long_one() -> None:
    """Latent diffusion's betas at 50 steps: the same end as at 1000."""
    long, short = Quadratic(1000, 0.00085, 0.012), Quadratic.rescaled(50, beta_start=0.00085, beta_end=0.012)
    assert float(short.alpha_bar[-1]) == pytest.approx(float(long.alpha_bar[-1]), rel=1e-11)


@pytest.mark.parametrize("T", [1, 3, 60, 100])
def test_any_chain_can_be_rescaled(T: int) -> None:
    """Also one that ends at 0: 1 - t/T stays 1 - t/T."""
    t = torch.arange(T + 1, dtype=torch.float64)
    shorter = Rescaled(InverseTime(60), T)
    if 60 % T == 0:
        torch.testing.assert_close(shorter.alpha_bar, 1 - t / T, rtol=1e-12, atol=0)
    assert float(shorter.alpha_bar[-1]) == 0
    torch.testing.assert_close(Rescaled(shorter, T).alpha_bar, shorter.alpha_bar, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mean_square", [0.0, 0.25, 1.0, 9.0])
@every
def test_the_prior_kl_is_that_of_the_process(schedule: Schedule, mean_square: float) -> None:
    """The KL of the distributions themselves, averaged over data of that mean square."""
    x0 = math.sqrt(2 * mean_square) * torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    process = Gaussian(schedule)
    kl = process.marginal(x0, schedule.T).kl(process.prior(x0.shape, torch.float64)).mean()
    assert schedule.prior_kl_bits(mean_square) == pytest.approx(float(kl) / math.log(2), rel=1e-9, abs=1e-14)


def test_a_chain_that_forgets_too_little_is_reported_with_the_number() -> None:
    """Trap 9: linear betas stated for 1000 steps, run over 100, with data of mean square 1/4."""
    short = LinearBeta(100)
    assert float(short.alpha_bar[-1]) == pytest.approx(0.364, abs=1e-3)
    assert short.prior_kl_bits(0.25) == pytest.approx(0.129, abs=1e-3)
    report = short.prior_report(0.25)
    assert report is not None
    assert "0.129 bits/dim" in report
    assert "\n" not in report
    assert LinearBeta().prior_report(0.25) is None
    assert InverseTime(5).prior_kl_bits(7.0) == 0
    assert short.prior_kl_bits(0.25, 100) == short.prior_kl_bits(0.25)  # a walk from T, and one from earlier
    assert short.prior_kl_bits(0.25, 60.5) > short.prior_kl_bits(0.25, 99)
    # the end of latent diffusion's chain, well known for what it leaves
    assert "0.00337" in str(Quadratic(1000, 0.00085, 0.012).prior_report())


def test_a_report_comes_above_a_thousandth_of_a_bit() -> None:
    for beta in (0.95, 0.97, 0.9986, 0.9987, 0.999):
        schedule = FromBetas(torch.tensor([beta], dtype=torch.float64))
        assert (schedule.prior_report() is None) == (schedule.prior_kl_bits() <= 1e-3)
    # -log(1 - (1 - beta)) / 2 ln 2 at unit mean square
    assert FromBetas(torch.tensor([0.9], dtype=torch.float64)).prior_kl_bits() == pytest.approx(
        -math.log(0.9) / (2 * math.log(2)), rel=1e-12
    )


def test_linear_is_the_papers() -> None:
    schedule = LinearBeta()
    assert float(schedule.betas[0]) == 1e-4
    assert float(schedule.betas[-1]) == pytest.approx(0.02, rel=1e-15)
    torch.testing.assert_close(
        schedule.betas.diff(), torch.full((999,), 0.0199 / 999, dtype=torch.float64), rtol=1e-9, atol=0
    )
    assert float(schedule.alpha_bar[-1]) == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("T", [10, 100, 1000, 4000])
def test_cosine_follows_its_curve_until_the_clip(T: int) -> None:
    schedule = Cosine(T)
    t = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    free = torch.cat([torch.tensor([True]), schedule.betas < 0.999])
    assert bool(free[:-1].all())
    torch.testing.assert_close(schedule.alpha_bar[free], (f / f[0])[free], rtol=1e-11, atol=0)
    assert float(schedule.betas.max()) <= 0.999
    assert 0 < float(schedule.alpha_bar[-1]) < 1


def test_quadratic_is_linear_in_the_root() -> None:
    schedule = Quadratic(40, 0.0004, 0.09)
    roots = schedule.betas.sqrt()
    assert (float(roots[0]), float(roots[-1])) == pytest.approx((0.02, 0.3), rel=1e-14)
    torch.testing.assert_close(roots.diff(), torch.full((39,), 0.28 / 39, dtype=torch.float64), rtol=1e-11, atol=0)


def test_constant_decays_geometrically_and_stays_constant_when_rescaled() -> None:
    t = torch.arange(301, dtype=torch.float64)
    torch.testing.assert_close(Constant(300, 0.02).alpha_bar, 0.98**t, rtol=1e-12, atol=0)
    for T in (5, 40):
        beta = 1 - (1 - 0.01) ** (1000 / T)
        torch.testing.assert_close(Constant.rescaled(T).betas, Constant(T, beta).betas, rtol=1e-11, atol=0)


def test_sigmoid_in_beta_has_betas_whose_logit_is_linear() -> None:
    low, high, T = 1e-3, 0.05, 41
    betas = SigmoidBeta(T, low, high, span=4.0).betas
    logits = torch.logit((betas - low) / (high - low))
    torch.testing.assert_close(logits, torch.linspace(-4, 4, T, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1.0), (0, 3, 0.7), (-1, 2, 1.3)])
def test_sigmoid_in_alpha_bar_follows_its_curve_to_the_clip(start: float, end: float, tau: float) -> None:
    T = 50
    schedule = SigmoidAlphaBar(T, start, end, tau)
    s = lambda u: 1 / (1 + math.exp(-(start + (end - start) * u) / tau))  # noqa: E731
    curve = [(s(1) - s(t / T)) / (s(1) - s(0)) for t in range(T)]
    np.testing.assert_allclose(schedule.alpha_bar[:-1].numpy(), curve, rtol=1e-11, atol=0)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(1e-9, rel=1e-12)
    # unclipped it ends at 0, like InverseTime
    assert float(SigmoidAlphaBar(T, start, end, tau, clip_min=0).alpha_bar[-1]) == 0


def test_the_two_sigmoids_are_different_things() -> None:
    """One is symmetric in alpha_bar around T/2; the other's betas are, and its alpha_bar is not a sigmoid of t."""
    in_alpha_bar, in_beta = SigmoidAlphaBar(1000), SigmoidBeta(1000)
    torch.testing.assert_close(
        in_alpha_bar.alpha_bar[:-1] + in_alpha_bar.alpha_bar.flip(0)[:-1],
        torch.ones(1000, dtype=torch.float64),
        atol=1e-8,
        rtol=0,
    )
    torch.testing.assert_close(
        in_beta.betas + in_beta.betas.flip(0), torch.full((1000,), 0.0201, dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert float((in_alpha_bar.alpha_bar - in_beta.alpha_bar).abs().max()) > 0.1
    assert float((in_beta.alpha_bar + in_beta.alpha_bar.flip(0) - 1).abs().max()) > 0.1
    assert float((in_alpha_bar.betas + in_alpha_bar.betas.flip(0)).diff().abs().max()) > 0.1


def test_a_sigmoid_that_is_clipped_early_is_refused() -> None:
    with pytest.raises(ValueError, match="larger tau"):
        SigmoidAlphaBar(1000, -3, 3, tau=0.1)


@every
def test_a_schedule_is_rebuilt_from_its_description(schedule: Schedule) -> None:
    again = from_description(json.loads(json.dumps(schedule.describe())))
    assert type(again) is type(schedule)
    assert again.describe() == schedule.describe()
    assert again.prior_variance == schedule.prior_variance
    t = _scan(schedule)
    for read, first in (
        (again.alpha, schedule.alpha),
        (again.sigma, schedule.sigma),
        (again.log_snr, schedule.log_snr),
    ):
        assert torch.equal(read(t), first(t))


def test_every_name_has_a_schedule_among_these() -> None:
    assert {schedule.describe()["name"] for schedule in EVERY.values()} == set(NAMES)


def test_description_of_a_rescaled_chain_keeps_every_bit() -> None:
    schedule = LinearBeta.rescaled(7)
    again = from_description(json.loads(json.dumps(schedule.describe())))
    assert torch.equal(again.alpha_bar, schedule.alpha_bar)


@pytest.mark.parametrize(
    "values", [[], [[0.1]], [0.0], [-0.1], [1.1], [1.0, 0.1], [math.nan], [0.1, math.inf]], ids=str
)
def test_impossible_betas_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match=r"beta"):
        FromBetas(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("T", [0, -1, 2.5, True, "10"])
def test_impossible_lengths_are_refused(T: object) -> None:
    for kind in (*STATED_FOR_1000, Cosine, InverseTime, SigmoidAlphaBar, EDMSigma, MonotoneLogSNR):
        with pytest.raises(ValueError, match="whole number of steps"):
            kind(T)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Quadratic(10, beta_start=-0.1),
        lambda: SigmoidAlphaBar(10, start=3, end=-3),
        lambda: SigmoidAlphaBar(10, tau=0),
        lambda: EDMSigma(10, sigma_min=0),
        lambda: EDMSigma(10, sigma_min=90),
        lambda: EDMSigma(10, rho=0),
        lambda: MonotoneLogSNR(1),
        lambda: MonotoneLogSNR(5, (3.0, 3.0)),
        lambda: Constant(5, 0.0),
    ],
)
def test_impossible_arguments_are_refused(make) -> None:
    with pytest.raises(ValueError, match=r"must|needs|beta"):
        make()


@pytest.mark.parametrize("t", [-1e-9, 1.0001, math.nan])
@every
def test_a_number_outside_the_chain_is_refused(schedule: Schedule, t: float) -> None:
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr):
        with pytest.raises(ValueError, match="outside"):
            read(t * schedule.T)


@pytest.mark.parametrize("name", EXPLODING)
def test_a_schedule_that_explodes_has_no_alpha_bar(name: str) -> None:
    schedule = EXPLODING[name]
    for read in (lambda: schedule.alpha_bar, lambda: schedule.betas, lambda: schedule.log_alpha_bar(1)):
        with pytest.raises(ValueError, match="EDMSigma does not preserve variance"):
            read()
    with pytest.raises(ValueError, match="preserve"):
        Rescaled(schedule, 3)


def test_an_unknown_description_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'quartic'"):
        from_description({"name": "quartic"})


@every
def test_no_call_edits_its_inputs(schedule: Schedule) -> None:
    t = _scan(schedule)[1:]
    kept, table = t.clone(), schedule.sigma(t).clone()
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr):
        read(t)
    if isinstance(schedule, Chain):
        schedule.log_alpha_bar(t)
    schedule_curves({"it": schedule})
    schedule.prior_kl_bits()
    log_snr = schedule.log_snr(t)
    kept_log_snr = log_snr.clone()
    schedule.time(log_snr)
    assert torch.equal(t, kept)
    assert torch.equal(log_snr, kept_log_snr)
    assert torch.equal(table, schedule.sigma(t))


def test_a_schedule_keeps_its_own_betas() -> None:
    """Editing the tensor it was made from, or a description, changes nothing."""
    given_betas = torch.tensor([0.1, 0.2], dtype=torch.float64)
    schedule = FromBetas(given_betas)
    given_betas.fill_(0.5)
    assert schedule.betas.tolist() == [0.1, 0.2]
    schedule.describe()["betas"].clear()
    assert schedule.describe()["betas"] == [0.1, 0.2]


@every
def test_scalar_and_tensor_times_agree_to_the_bit(schedule: Schedule) -> None:
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr):
        for t in (schedule.T * 0.37, schedule.T, 0):
            assert torch.equal(read(t), read(torch.tensor([t], dtype=torch.float64))[0])
    assert torch.equal(schedule.alpha(schedule.T), schedule.alpha(torch.tensor(schedule.T)))


def test_curves_are_the_schedules_own() -> None:
    curves = schedule_curves(PRESERVING, places=65)
    assert list(curves) == list(PRESERVING)
    for name, schedule in PRESERVING.items():
        drawn = curves[name]
        t = drawn.place * schedule.T
        assert (float(drawn.place[0]), float(drawn.place[-1])) == (0, 1)
        torch.testing.assert_close(drawn.signal, schedule.alpha(t), rtol=1e-12, atol=1e-300)
        assert torch.equal(drawn.log_snr, schedule.log_snr(t))
        torch.testing.assert_close(drawn.beta, schedule.betas, rtol=1e-9, atol=1e-12)
        assert drawn.step.tolist() == [i / schedule.T for i in range(1, schedule.T + 1)]


def test_curves_show_an_exploding_schedule_by_its_preserving_twin() -> None:
    """x_t / sqrt(1 + sigma²) is a chain that preserves variance with the same SNR."""
    schedule = EDMSigma(30)
    drawn = schedule_curves({"edm": schedule}, places=11)["edm"]
    sigma = schedule.sigma(drawn.place * 30)
    torch.testing.assert_close(drawn.signal, 1 / (1 + sigma**2).sqrt(), rtol=1e-12, atol=0)
    twin = FromBetas(drawn.beta)
    torch.testing.assert_close(twin.log_snr(drawn.step * 30), schedule.log_snr(drawn.step * 30), rtol=1e-9, atol=1e-9)
