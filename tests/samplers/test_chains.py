"""First-order samplers against the scalar recursions of Gaussian data, for the *intended* time pairs.

Distance to the target would reward the usual bugs: at ten steps a wrong pairing can land nearer to the data's spread.
"""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from tests.oracles.noises import OneStepOnly
from tests.samplers.solvers import EVERY
from unstir.denoisers import DenoiserBase
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun, Sampler, sample
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
M, V = 0.4, 0.0625
each = pytest.mark.parametrize("sampler", EVERY.values(), ids=EVERY)
SPACINGS = ["uniform", "leading", "trailing", "log-snr"]


def mean_and_variance(denoiser: DenoiserBase, sampler: Sampler, grid: Grid) -> tuple[float, float]:
    """Of the end of an affine chain begun at N(0, 1), exactly: from what it makes of zero and of each unit of noise."""
    n = grid.steps
    start = torch.zeros(n + 2, 1, dtype=F64)
    start[1] = 1
    noise = OneStepOnly(torch.arange(-2, n))  # row 0: nothing; row 1: x_T = 1; row 2 + i: a unit of noise at step i
    state = sampler.start(start, grid.times)
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        state = sampler.advance(state, denoiser.predict(x, t), noise)
    shift = float(state.x[0])
    return shift, float(((state.x[1:] - shift) ** 2).sum())


def intended(spacing: str, schedule: Schedule, n: int) -> list[tuple[float, float]]:
    """The pairs as the spacings are defined, in plain arithmetic."""
    T = schedule.T
    if spacing == "uniform":
        times = [T * (1 - i / n) for i in range(n)]
    elif spacing == "leading":
        times = [float(1 + (T // n) * i) for i in range(n - 1, -1, -1)]
    elif spacing == "trailing":
        times = [float(math.floor(T * (1 - i / n) + 0.5 + 1e-9)) for i in range(n)]
    elif n == 1:
        times = [float(T)]
    else:
        curve = Curve(schedule)
        head = [float(T)] if curve(T) == 0 else []  # no log-SNR at alpha_bar = 0: T itself, and on from T - 1
        first, last = (math.log(ab / (1 - ab)) for ab in (curve(T - len(head)), curve(1)))
        inner = n - len(head)
        levels = [first + (last - first) * i / (inner - 1) for i in range(inner)]
        times = head + [
            brentq(
                lambda t, at=at: math.log(curve(t) / (1 - curve(t))) - at, 0.5, T - 0.5 * len(head) + 1e-12, xtol=1e-12
            )
            for at in levels
        ]
    return list(zip(times, [*times[1:], 0.0]))


CASES = [
    ("linear-1000", 10), ("linear-1000", 7), ("linear-1000", 13), ("linear-1000", 1),
    ("rescaled-50", 50), ("rescaled-50", 13), ("cosine-100", 7), ("cosine-100", 100), ("inverse-time-60", 60),
    ("inverse-time-60", 7), ("from-betas", 5), ("from-betas", 2),
]  # fmt: skip


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("name", "n"), CASES)
def test_chains_match_the_recursion_for_the_intended_pairs(name: str, n: int, spacing: str) -> None:
    """Traps 1, 2, 4, 6, 7, 14."""
    schedule = SCHEDULES[name]
    process, curve = Gaussian(schedule), Curve(schedule)
    grid, pairs = Grid.named(spacing, schedule, n), intended(spacing, schedule, n)
    assert [t for pair in grid.pairs() for t in pair] == pytest.approx([t for pair in pairs for t in pair], abs=1e-7)
    for eta in (0.0, 0.5, 1.0):
        found = mean_and_variance(gaussian_denoiser(process, M, V), DDIM(eta), grid)
        assert found == pytest.approx(gaussian.ddim(pairs, curve, M, V, eta), rel=1e-8, abs=1e-10), eta
    for variance in ("small", "large"):
        found = mean_and_variance(gaussian_denoiser(process, M, V, variance), Ancestral(), grid)
        assert found == pytest.approx(gaussian.ancestral(pairs, curve, M, V, variance), rel=1e-8, abs=1e-10), variance


@pytest.mark.parametrize(("says", "n"), [("eps", 1000), ("x0", 200), ("v", 200)])
def test_the_whole_chain_matches_through_every_parameterisation(says: str, n: int) -> None:
    schedule = LinearBeta()
    denoiser, grid = through(gaussian_denoiser(Gaussian(schedule), M, V), says), Grid.trailing(schedule, n)
    found = mean_and_variance(denoiser, Ancestral(), grid)
    assert found == pytest.approx(gaussian.ancestral(grid.pairs(), Curve(schedule), M, V, "small"), rel=1e-6)
    assert n < 1000 or found == pytest.approx((M, V), rel=0.05)


def test_the_recursion_tells_the_usual_bugs_apart() -> None:
    """Traps 1 and 2 at ten steps: right pairs give mean .400, std .132; stepping to t - 1 leaves .016, .975."""
    schedule = LinearBeta()
    right = intended("leading", schedule, 10)
    mean, var = gaussian.ancestral(right, Curve(schedule), 0.4, 0.0625, "small")
    assert (mean, math.sqrt(var)) == pytest.approx((0.400, 0.132), abs=5e-4)
    mean, var = gaussian.ancestral([(t, t - 1) for t, _ in right], Curve(schedule), 0.4, 0.0625, "small")
    assert (mean, math.sqrt(var)) == pytest.approx((0.016, 0.975), abs=5e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_with_eta_1_is_the_ancestral_chain(name: str, spacing: str) -> None:
    """Trap 6: row by row with the same keyed noise, in float32 as sampled and in float64."""
    schedule = SCHEDULES[name]
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V)
    grid = Grid.named(spacing, schedule, min(11, schedule.T))
    for dtype, tolerance in ((torch.float32, 2e-6), (F64, 1e-12)):
        a, b = (sample(denoiser, s, grid, (50, 1), dtype=dtype, seed=3) for s in (DDIM(1.0), Ancestral()))
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@each
@pytest.mark.parametrize("name", ["linear-1000", "cosine-100", "inverse-time-60"])
def test_a_constant_model_is_returned_exactly(name: str, sampler: Sampler) -> None:
    """Trap 3: the last step goes to alpha_bar = 1, leaving no noise at all (the bug leaves 1.3 grey levels of 255)."""
    schedule = SCHEDULES[name]
    x0 = torch.linspace(-1, 1, 6).reshape(1, 2, 3)
    for spacing, n in (("trailing", 1), ("log-snr", 2), ("uniform", 7)):
        for variance in ("small", "large") if sampler.stochastic else ("small",):
            grid = Grid.named(spacing, schedule, n)
            x = sample(Constant(Gaussian(schedule), x0, variance), sampler, grid, (3, 2, 3))
            torch.testing.assert_close(x, x0.expand(3, 2, 3).contiguous(), rtol=0, atol=1e-6)


def test_data_of_any_spread_comes_back_with_it() -> None:
    """Trap 39: nothing clips to [-1, 1] behind the user's back."""
    schedule = LinearBeta.rescaled(200)
    process = Gaussian(schedule)
    g = gaussian_denoiser(process, 1.0, 9.0)
    for sampler, grid in (
        (Ancestral(), Grid.trailing(schedule, 200)),
        (DDIM(), Grid.trailing(schedule, 100)),
        (Heun(), Grid.log_snr(schedule, 30)),
    ):
        x = sample(g, sampler, grid, (20_000, 1))
        # the standard error of a standard deviation of 20000 draws is 0.5 %
        assert float(x.std()) == pytest.approx(3, rel=0.02)
        assert float(x.mean()) == pytest.approx(1, abs=0.09)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_the_chain_approaches_the_data_as_steps_grow(variance: str) -> None:
    """Law: both variances are right in the limit; the error of the spread falls about as 1/n."""
    errors = []
    for T in (50, 200, 800):
        schedule = LinearBeta.rescaled(T)
        _, var = gaussian.ancestral(Grid.trailing(schedule, T).pairs(), Curve(schedule), M, V, variance)
        errors.append(abs(var / V - 1))
    assert errors[0] > 2.5 * errors[1] > 2.5 * 2.5 * errors[2]


def test_exact_reverse_variance_gives_the_data_exactly() -> None:
    """With Var[x_s | x_t] itself in place of small or large, the chain is the data's own, but for its beginning."""
    schedule = Cosine(40)
    process, curve = Gaussian(schedule), Curve(schedule)

    def exact(s: Tensor, t: Tensor) -> Tensor:
        return torch.tensor(
            [gaussian.exact_variance(curve(float(b)), curve(float(a)), V) for a, b in zip(s, t)], dtype=F64
        )

    grid = Grid.trailing(schedule, 40)
    # At s = 0 the sampler returns the mean, so the spread of x0 given x_1 is what is missing in the end.
    mean, var = mean_and_variance(gaussian_denoiser(process, M, V, exact), Ancestral(), grid)
    assert mean == pytest.approx(M, abs=1e-6)
    assert var + gaussian.left_over(curve(1), V) == pytest.approx(V, abs=1e-8)


@each
def test_declared_calls_are_counted_calls(sampler: Sampler) -> None:
    """Trap 7 too: n = T runs."""
    schedule = LinearBeta.rescaled(13)
    for n in (1, 2, 3, 4, 7, 13):
        counting = Counting(gaussian_denoiser(Gaussian(schedule), M, V))
        sample(counting, sampler, Grid.trailing(schedule, n), (4, 1))
        assert sampler.calls(n) in (counting.calls, None)
        assert counting.rows == 4 * counting.calls


@each
def test_float32_follows_float64_also_where_alpha_is_tiny(sampler: Sampler) -> None:
    """Trap 12: the exact denoiser on the cosine end, in float32, through v."""
    schedule = Cosine(1000)
    denoiser = through(gaussian_denoiser(Gaussian(schedule), M, V), "v")
    # Polynomials in eps hold x_t / alpha_t, and so magnify its rounding by alpha_s / alpha_t where there is hardly any signal.
    tolerance = 2e-2 if getattr(sampler, "form", "x0") == "eps" else 1e-5
    grid = Grid.log_snr(schedule, 11)
    x, reference = (sample(denoiser, sampler, grid, (64, 1), dtype=dtype) for dtype in (torch.float32, F64))
    torch.testing.assert_close(x.double(), reference, rtol=0, atol=tolerance)


@each
def test_zero_terminal_signal_is_sampled(sampler: Sampler) -> None:
    schedule = InverseTime(30)
    for says, spacing, n in (("x0", "trailing", 7), ("v", "log-snr", 10), ("v", "uniform", 3), ("x0", "leading", 2)):
        denoiser = through(gaussian_denoiser(Gaussian(schedule), M, V), says)
        x = sample(denoiser, sampler, Grid.named(spacing, schedule, n), (16, 1))
        assert bool(torch.isfinite(x).all())
        assert float(x.abs().max()) < 10
