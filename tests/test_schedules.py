from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.curves import ENDING_ABOVE_ZERO, SCHEDULES, Curve
from unstir.schedules import Cosine, FromBetas, InverseTime, LinearBeta, Schedule, from_description

LAW = settings(deadline=None, derandomize=True, max_examples=60)
betas = st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=40)
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def _scan(schedule: Schedule, places: int = 257) -> torch.Tensor:
    return torch.linspace(0, schedule.T, places, dtype=torch.float64)


@every
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
    assert bool((schedule._log_alpha_bar.diff() < 0).all())


@every
def test_whole_times_read_the_table_exactly(schedule: Schedule) -> None:
    t = torch.arange(schedule.T + 1)
    torch.testing.assert_close(schedule.alpha(t) ** 2, schedule.alpha_bar, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.sigma(t) ** 2, 1 - schedule.alpha_bar, rtol=1e-14, atol=1e-15)
    assert float(schedule.alpha(0)) == 1
    assert float(schedule.sigma(0)) == 0


@every
def test_real_times_follow_the_stated_interpolation(schedule: Schedule) -> None:
    curve = Curve(schedule)
    t = _scan(schedule)
    expected = torch.tensor([curve(float(u)) for u in t], dtype=torch.float64)
    torch.testing.assert_close(schedule.alpha(t) ** 2, expected, rtol=1e-12, atol=1e-300)
    assert bool((schedule.log_alpha_bar(t).diff() < 0).all())


@every
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


@pytest.mark.parametrize("T", [1, 7, 20, 100, 999, 1000, 4000])
def test_a_rescaled_chain_forgets_as_much_whatever_its_length(T: int) -> None:
    """Trap 9 and 10: unscaled betas leave alpha_bar_100 = .364, and betas times 1000/T pass 1 at T = 20."""
    schedule, full = LinearBeta.rescaled(T), LinearBeta()
    assert bool(((schedule.betas > 0) & (schedule.betas < 1)).all())
    assert float(schedule.alpha_bar[-1]) == pytest.approx(float(full.alpha_bar[-1]), rel=1e-10)
    assert float(LinearBeta(100).alpha_bar[-1]) == pytest.approx(0.364, abs=1e-3)


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


@every
def test_a_schedule_is_rebuilt_from_its_description(schedule: Schedule) -> None:
    again = from_description(json.loads(json.dumps(schedule.describe())))
    assert torch.equal(again._log_alpha_bar, schedule._log_alpha_bar)


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
    for kind in (LinearBeta, Cosine, InverseTime):
        with pytest.raises(ValueError, match="whole number of steps"):
            kind(T)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("t", [-1e-9, 5.1, math.nan])
def test_a_number_outside_the_chain_is_refused(t: float) -> None:
    schedule = SCHEDULES["from-betas"]
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr):
        with pytest.raises(ValueError, match="outside"):
            read(t)


def test_an_unknown_description_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'quadratic'"):
        from_description({"name": "quadratic"})


@every
def test_no_call_edits_its_inputs(schedule: Schedule) -> None:
    t = _scan(schedule)[1:]
    kept, table = t.clone(), schedule._log_alpha_bar.clone()
    for read in (schedule.alpha, schedule.sigma, schedule.log_snr, schedule.log_alpha_bar):
        read(t)
    log_snr = schedule.log_snr(t)
    kept_log_snr = log_snr.clone()
    schedule.time(log_snr)
    assert torch.equal(t, kept)
    assert torch.equal(log_snr, kept_log_snr)
    assert torch.equal(table, schedule._log_alpha_bar)


def test_a_schedule_keeps_its_own_betas() -> None:
    """Editing the tensor it was made from, or a description, changes nothing."""
    given_betas = torch.tensor([0.1, 0.2], dtype=torch.float64)
    schedule = FromBetas(given_betas)
    given_betas.fill_(0.5)
    assert schedule.betas.tolist() == [0.1, 0.2]
    schedule.describe()["betas"].clear()
    assert schedule.describe()["betas"] == [0.1, 0.2]


@pytest.mark.parametrize("name", ENDING_ABOVE_ZERO)
def test_scalar_and_tensor_times_agree_to_the_bit(name: str) -> None:
    schedule = SCHEDULES[name]
    t = schedule.T * 0.37
    assert float(schedule.alpha(t)) == float(schedule.alpha(torch.tensor([t], dtype=torch.float64)))
    assert torch.equal(schedule.alpha(schedule.T), schedule.alpha(torch.tensor(schedule.T)))
