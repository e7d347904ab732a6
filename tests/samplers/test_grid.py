from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstir.samplers import Grid
from unstir.samplers.grid import SPACINGS
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=150)
spacings = pytest.mark.parametrize("spacing", SPACINGS)


def _schedules(T: int) -> list[Schedule]:
    return [LinearBeta.rescaled(T), Cosine(T), InverseTime(T)]


@spacings
@pytest.mark.parametrize("T", [1, 2, 3, 4, 13, 20])
def test_every_number_of_steps_up_to_T_makes_a_grid(spacing: str, T: int) -> None:
    """Traps 2, 4, 7: strictly falling, no gaps, exactly n steps, from at most T to exactly 0."""
    for schedule in _schedules(T):
        for n in range(1, T + 1):
            grid = Grid.named(spacing, schedule, n)
            times = grid.times.tolist()
            assert grid.steps == n
            assert all(a > b for a, b in pairwise(times))
            assert times[-1] == 0
            assert 0 < times[0] <= T
            assert grid.pairs() == list(pairwise(times))
            assert all(s == t for (_, s), (t, _) in pairwise(grid.pairs()))
            assert grid.times.dtype == torch.float64


@LAW
@given(st.sampled_from(SPACINGS), st.integers(1, 1200), st.data())
def test_grids_of_any_length_hold_the_same_laws(spacing: str, T: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, T))
    times = Grid.named(spacing, LinearBeta.rescaled(T), n).times
    assert len(times) == n + 1
    assert bool((times.diff() < 0).all())
    assert float(times[-1]) == 0
    assert float(times[0]) <= T
    if spacing in ("leading", "trailing"):
        assert torch.equal(times, times.round())


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "quadratic", "log-snr", "rho"])
@pytest.mark.parametrize("n", [1, 2, 7, 10, 13, 999, 1000])
def test_advised_spacings_start_at_T(spacing: str, n: int) -> None:
    for schedule in _schedules(1000):
        assert float(Grid.named(spacing, schedule, n).times[0]) == 1000


@pytest.mark.parametrize("spacing", ["leading", "trailing", "uniform"])
def test_all_T_steps_are_the_whole_chain(spacing: str) -> None:
    """Trap 7: no offset pushes the first time past T, and t = 1 is visited."""
    assert Grid.named(spacing, LinearBeta(), 1000).times.tolist() == list(range(1000, -1, -1))


def test_leading_is_the_grid_of_the_ddim_codes() -> None:
    """0-based multiples of T // n: ours are those plus 1, then 0."""
    assert Grid.leading(LinearBeta(), 10).times.tolist() == [*(1 + 100 * i for i in range(9, -1, -1)), 0]
    assert Grid.leading(LinearBeta(), 7).times.tolist() == [*(1 + 142 * i for i in range(6, -1, -1)), 0]


def test_trailing_is_the_rounded_uniform_grid() -> None:
    assert Grid.trailing(LinearBeta(), 4).times.tolist() == [1000, 750, 500, 250, 0]
    uniform = Grid.uniform(LinearBeta(), 13).times
    assert float((Grid.trailing(LinearBeta(), 13).times - uniform).abs().max()) <= 0.5


def test_uniform_steps_are_equal() -> None:
    steps = Grid.uniform(LinearBeta(), 7).times.diff()
    torch.testing.assert_close(steps, torch.full_like(steps, -1000 / 7))


@pytest.mark.parametrize("n", [3, 7, 50])
def test_log_snr_steps_are_equal_until_the_last(n: int) -> None:
    for schedule in (LinearBeta(), Cosine(200)):
        times = Grid.log_snr(schedule, n).times
        steps = schedule.log_snr(times[:-1]).diff()
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-9, atol=1e-9)
        assert float(times[-2]) == pytest.approx(1, abs=1e-9)
    schedule = InverseTime(200)
    times = Grid.log_snr(schedule, n).times
    assert times[:2].tolist() == [200, 199]
    if n > 3:
        steps = schedule.log_snr(times[1:-1]).diff()
        torch.testing.assert_close(steps, steps[:1].expand_as(steps), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_rho_is_the_published_curve_in_sigma_over_alpha(n: int, rho: float) -> None:
    """Karras et al. 2022, eq. 5 in plain arithmetic; from T to t = 1, and then to 0."""
    for schedule, first in ((LinearBeta(), 1000), (Cosine(200), 200), (InverseTime(200), 199), (EDMSigma(40), 40)):
        times = Grid.rho(schedule, n, rho=rho).times.tolist()
        assert times[0] == schedule.T
        inner = n - (first < schedule.T)  # no curve leads to sigma / alpha = inf
        if inner < 2:
            continue
        found = [float(schedule.sigma(t) / schedule.alpha(t)) for t in times[:-1]][-inner:]
        high, low = (float(schedule.sigma(t) / schedule.alpha(t)) for t in (first, 1))
        ends = high ** (1 / rho), low ** (1 / rho)
        assert found == pytest.approx([(ends[0] + i / (inner - 1) * (ends[1] - ends[0])) ** rho for i in range(inner)])


@pytest.mark.parametrize("n", [1, 4, 13])
def test_quadratic_times_are_squares(n: int) -> None:
    times = Grid.quadratic(LinearBeta(), n).times.tolist()
    assert times == pytest.approx([1000 * ((n - i) / n) ** 2 for i in range(n + 1)])
    assert times[0] == 1000


def test_options_in_words_are_those_of_the_functions() -> None:
    schedule = LinearBeta()
    for words, grid in (
        ("rho:rho=3", Grid.rho(schedule, 9, rho=3)),
        ("rho:rho=3.5,last=2", Grid.rho(schedule, 9, rho=3.5, last=2)),
        ("log-snr:last=0.25", Grid.log_snr(schedule, 9, last=0.25)),
        ("uniform", Grid.uniform(schedule, 9)),
    ):
        assert torch.equal(Grid.named(words, schedule, 9).times, grid.times)
    assert float(Grid.named("rho:last=2", schedule, 9).times[-2]) == pytest.approx(2)
    assert float(Grid.named("log-snr:last=0.25", schedule, 9).times[-2]) == pytest.approx(0.25)
    for words in ("uniform:rho=3", "rho:speed=2", "trailing:last=2", "rho:rho=often"):
        with pytest.raises(ValueError, match="does not take these options"):
            Grid.named(words, schedule, 9)
    for words in ("rho:rho", "rho:", "rho:=2"):
        with pytest.raises(ValueError, match="name:key=value"):
            Grid.named(words, schedule, 9)
    for rho in (0, -1):
        with pytest.raises(ValueError, match="exponent above 0"):
            Grid.rho(schedule, 9, rho=rho)


def test_larger_rho_puts_more_steps_near_the_data() -> None:
    middles = [float(Grid.rho(LinearBeta(), 11, rho=rho).times[5]) for rho in (1.0, 2.0, 7.0, 50.0)]
    assert middles == sorted(middles, reverse=True)
    # in the limit the steps are even in log-SNR
    torch.testing.assert_close(
        Grid.rho(LinearBeta(), 11, rho=1e6).times, Grid.log_snr(LinearBeta(), 11).times, rtol=1e-3, atol=1e-3
    )


def test_describe_reports_the_signal_at_the_first_and_last_time() -> None:
    """Trap 8: .0064 at T against .0164 for leading at 10 steps."""
    schedule = LinearBeta()
    trailing, leading = (Grid.named(name, schedule, 10).describe(schedule) for name in ("trailing", "leading"))
    assert "10 steps" in trailing
    assert "t = 1000 " in trailing
    assert "0.0064" in trailing
    assert "t = 901 " in leading
    assert "0.0164" in leading
    assert trailing.endswith("to 0")
    assert "t = 100 " in trailing
    assert f"{float(schedule.alpha(100)):.4f}" in trailing


@pytest.mark.parametrize(
    "times",
    [[], [5.0], [5.0, 5.0], [3.0, 4.0, 0.0], [3.0, -1.0], [3.0, float("nan"), 0.0], [float("nan"), 0.0]],
    ids=str,
)
def test_times_that_do_not_fall_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="grid"):
        Grid.custom(times)


def test_impossible_numbers_of_steps_are_refused() -> None:
    for spacing in SPACINGS:
        for n in (0, -3):
            with pytest.raises(ValueError, match="at least one step"):
                Grid.named(spacing, LinearBeta(), n)
    for spacing in ("leading", "trailing"):
        with pytest.raises(ValueError, match="11 steps"):
            Grid.named(spacing, LinearBeta.rescaled(10), 11)
    with pytest.raises(ValueError, match="'karras'"):
        Grid.named("karras", LinearBeta(), 10)


def test_real_times_allow_more_steps_than_the_chain_has() -> None:
    assert Grid.uniform(LinearBeta.rescaled(10), 40).steps == 40
    assert Grid.log_snr(LinearBeta.rescaled(10), 40).steps == 40


def test_a_grid_may_end_above_zero_and_a_custom_one_is_kept() -> None:
    assert Grid.custom([9, 4.5, 2]).pairs() == [(9, 4.5), (4.5, 2)]


def test_a_grid_keeps_its_own_times() -> None:
    times = torch.tensor([5.0, 0.0], dtype=torch.float64)
    grid = Grid(times)
    times.fill_(1)
    assert grid.times.tolist() == [5, 0]


@pytest.mark.parametrize("T", [1, 2, 5, 13, 40])
def test_whole_times_are_distinct_near_and_end_at_zero(T: int) -> None:
    for schedule in _schedules(T):
        for spacing in SPACINGS:
            for n in range(1, T + 1):
                grid = Grid.named(spacing, schedule, n)
                whole = grid.whole().times
                assert torch.equal(whole, whole.round())
                assert len(whole) == n + 1
                assert bool((whole.diff() <= -1).all())
                assert (float(whole[0]), float(whole[-1])) == (float(grid.times[0].round()), 0)
                far = (whole - grid.times).abs() > 0.5
                # Only where times were closer together than 1 does one go further than to the nearest.
                crowded = (grid.times.diff() > -1).any() or not bool(far.any())
                assert crowded


def test_more_steps_than_whole_times_are_refused() -> None:
    with pytest.raises(ValueError, match="need as many of them"):
        Grid.custom([2.0, 1.5, 1.0, 0.0]).whole()
