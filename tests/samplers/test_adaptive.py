"""Steps chosen by a tolerance: the error follows it, and every row is on its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser, through
from tests.samplers import orders
from unstir.denoisers import Condition, DenoiserBase, GaussianMixtureDenoiser, Prediction
from unstir.processes import Gaussian
from unstir.samplers import Adaptive, Grid, State, sample
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta, Schedule, Time

F64 = torch.float64
CASES = {
    "linear": orders.Case(LinearBeta(), orders.evenly_in_t),
    "edm": orders.Case(EDMSigma(), orders.evenly_in_t),
    "from alpha = 0": orders.Case(InverseTime(100), orders.evenly_in_angle, first=math.pi / 2),
}


def _solved(case: orders.Case, tolerance: float) -> tuple[float, int]:
    """The largest root mean square error of a row, in x / r, and the calls it took."""
    counting, grid = Counting(orders.mixture(case.schedule)), case.grid(1)
    state = Adaptive(tolerance, tolerance).start(case.size(grid.times[0]) * orders.start(), grid.times)
    while not bool(state.done.all()):
        state = Adaptive(tolerance, tolerance).advance(state, counting.predict(*_query(state)))
    off = state.x / case.size(grid.times[-1]) - orders.truth(case.first, case.last)
    return float(off.square().mean(1).sqrt().max()), counting.calls


def _query(state: State) -> tuple[Tensor, Tensor]:
    return Adaptive().query(state)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_error_follows_the_tolerance(case: orders.Case) -> None:
    """On a mixture's exact flow, in every decade; and the calls grow as the tolerance's cube root, as they do at third order."""
    found = [_solved(case, tolerance) for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
    for (error, _), tolerance in zip(found, (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)):
        assert error <= 4 * tolerance
    assert found[0][0] > 100 * found[-1][0]
    assert found[-1][1] / found[-2][1] == pytest.approx(10 ** (1 / 3), rel=0.25)


@pytest.mark.parametrize("says", ["eps", "x0", "v"])
def test_every_prediction_serves(says: str) -> None:
    """To the same point, up to rounding: the solver reads x0 and eps, whatever was said."""
    schedule = LinearBeta()
    exact, grid = gaussian_denoiser(Gaussian(schedule), 0.4, 0.25), Grid.uniform(schedule, 2)
    found, expected = (sample(d, Adaptive(), grid, (6, 1), dtype=F64) for d in (through(exact, says), exact))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def _mixture(schedule: Schedule) -> GaussianMixtureDenoiser:
    """One component ten times narrower than the other: rows that end there need more steps."""
    means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=F64)
    covariances = torch.stack([torch.eye(2, dtype=F64) * 0.001, torch.eye(2, dtype=F64) * 0.3])
    return GaussianMixtureDenoiser(Gaussian(schedule), torch.tensor([0.5, 0.5], dtype=F64), means, covariances)


def test_rows_do_not_wait_for_each_other_nor_change_each_other() -> None:
    """Alone each row takes calls of its own number, and comes to where it comes in a batch."""
    denoiser, grid, taken = _mixture(LinearBeta()), Grid.log_snr(LinearBeta(), 3), []
    batch = Counting(denoiser)
    together = sample(batch, Adaptive(1e-3, 1e-3), grid, (6, 2), dtype=F64)
    for row in range(6):
        counting = Counting(denoiser)
        alone = sample(counting, Adaptive(1e-3, 1e-3), grid, (1, 2), dtype=F64, indices=[row])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-9, atol=1e-9)
        taken.append(counting.calls)
    assert len(set(taken)) > 1
    assert batch.calls == max(taken)


def test_a_row_that_has_arrived_stays() -> None:
    denoiser, sampler = _mixture(LinearBeta()), Adaptive(1e-3, 1e-3)
    state = sampler.start(
        torch.randn(6, 2, dtype=F64, generator=torch.Generator().manual_seed(0)), torch.tensor([1000.0, 0])
    )
    arrived: dict[int, Tensor] = {}
    while not bool(state.done.all()):
        x, t = sampler.query(state)
        assert bool((t > 0).all())
        state = sampler.advance(state, denoiser.predict(x, t))
        for row in state.done.nonzero().flatten().tolist():
            assert torch.equal(state.x[row], arrived.setdefault(row, state.x[row]))


@pytest.mark.parametrize("end", [0.0, 37.25])
def test_the_walk_ends_exactly_at_the_last_time(end: float) -> None:
    """At 0 by the step from ``last`` to x0, elsewhere in the flow itself; it never asks beyond either end."""
    schedule = Cosine(500)
    counting, sampler = Counting(_mixture(schedule)), Adaptive(last=2.0)
    state = sampler.start(torch.tensor([[0.3, -1.0]], dtype=F64), torch.tensor([480.0, end]))
    prediction = None
    while not bool(state.done.all()):
        prediction = counting.predict(*sampler.query(state))
        state = sampler.advance(state, prediction)
    assert isinstance(prediction, Prediction)
    asked = torch.cat(counting.times)
    assert float(asked[0]) == 480
    assert float(asked[-1]) == float(asked.min()) == (end or 2.0)
    torch.testing.assert_close(state.x, prediction.x_t if end else prediction.x0)
    assert state.position.tolist() == [1]


def test_inner_times_of_the_grid_count_for_nothing() -> None:
    schedule = LinearBeta()
    denoiser = _mixture(schedule)
    ends = [sample(denoiser, Adaptive(), grid, (3, 2)) for grid in (Grid.uniform(schedule, 2), Grid.rho(schedule, 17))]
    assert torch.equal(*ends)


def test_what_is_exact_for_a_step_costs_few_calls() -> None:
    """A point as data: every DDIM step is exact, so steps grow five-fold; and a chain of one step is one call."""
    schedule, x0 = LinearBeta(), torch.tensor([[0.5, -0.2]])
    counting = Counting(Constant(Gaussian(schedule), x0))
    torch.testing.assert_close(sample(counting, Adaptive(), Grid.uniform(schedule, 5), (1, 2)), x0)
    assert counting.calls <= 1 + 3 * 3
    schedule = LinearBeta.rescaled(1)
    counting = Counting(Constant(Gaussian(schedule), x0))
    torch.testing.assert_close(sample(counting, Adaptive(), Grid.uniform(schedule, 1), (1, 2)), x0)
    assert counting.calls == 1
    assert Adaptive().calls(5) is None


def test_hopeless_cases_are_refused_in_one_line() -> None:
    schedule = LinearBeta()
    process, grid = Gaussian(schedule), Grid.uniform(schedule, 2)

    class Broken(DenoiserBase):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.process, self.factor = process, factor

        def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
            exact = gaussian_denoiser(process, 0.4, 0.25).predict(x_t, t)
            return exact.with_x0(exact.x0 * self.factor)

    for denoiser, sampler in (
        (Broken(math.nan), Adaptive()),
        (Broken(math.inf), Adaptive()),
        (gaussian_denoiser(process, 0.4, 0.25), Adaptive(0, 1e-15)),  # float32 does not know so much
    ):
        counting = Counting(denoiser)
        with pytest.raises(ValueError, match="too rough for its tolerance"):
            sample(counting, sampler, grid, (2, 1))
        assert counting.calls < 200
    for options in ({"rtol": -1}, {"atol": 0}, {"last": 0}, {"rtol": math.nan}, {"atol": math.inf}):
        with pytest.raises(ValueError, match="rtol is 0 or above"):
            Adaptive(**options)
