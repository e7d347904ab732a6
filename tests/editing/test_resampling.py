"""RePaint's walks that go back."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tests.editing.chains import Units
from tests.oracles.curves import Curve
from tests.oracles.denoisers import Counting
from unstir.denoisers import FiniteDenoiser, GaussianMixtureDenoiser, PredictionBase
from unstir.editing import Renoise, moves, repaint, rewalk
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Heun, State
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
MEAN = torch.tensor([0.5, -0.3, 0.1], dtype=F64)
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.2, -0.2], [0.3, -0.2, 0.7]], dtype=F64)
SEEN = torch.tensor([1.5, 0.2, -1.0], dtype=F64)
FIRST = torch.tensor([[True, False, False]])


def three(T: int) -> GaussianMixtureDenoiser:
    ones = torch.ones(1, dtype=F64)
    return GaussianMixtureDenoiser(Gaussian(Cosine(T)), ones, MEAN[None], COVARIANCE[None], "large")


def moments(denoiser: GaussianMixtureDenoiser, times: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance at the end of an affine walk begun at N(0, I), known first number."""
    noise = Units(len(times) - 1, 3)
    start = torch.zeros(len(noise.indices), 3, dtype=F64)
    start[1:4] = torch.eye(3, dtype=F64)
    *_, (state, _) = rewalk(Renoise(SEEN[None], FIRST)(denoiser), Ancestral(), times, start, noise)
    x = state.x
    moved = x[1:] - x[0]
    return x[0], moved.T @ moved


@pytest.mark.parametrize(("T", "r"), [(4, 3), (1, 5), (7, 1)])
def test_jumps_of_one_are_the_papers_algorithm(T: int, r: int) -> None:
    """Algorithm 1 written out: at every t, U times down to t - 1, and between them back up, save at t = 1."""
    expected = [T]
    for t in range(T, 0, -1):
        for u in range(1, r + 1):
            if expected[-1] == t - 1:  # t = 1, from where there is no way back
                continue
            expected.append(t - 1)
            if u < r and t > 1:
                expected.append(t)
    assert moves(Grid.trailing(Cosine(T), T), 1, r) == expected


@pytest.mark.parametrize(("n", "j", "r"), [(20, 5, 3), (10, 10, 10), (13, 4, 2), (250, 10, 10)])
def test_jumps_of_many(n: int, j: int, r: int) -> None:
    """Every rise is j places and ends no higher than the start; each fall is one place; so many calls there are."""
    grid = Grid.trailing(Cosine(n), n)
    visited = moves(grid, j, r)
    pairs = list(itertools.pairwise(visited))
    rises = [t - s for s, t in pairs if t > s]
    assert (visited[0], visited[-1]) == (n, 0)
    assert set(rises) <= {j}
    assert all(s - t == 1 for s, t in pairs if t < s)
    assert visited.count(0) == 1, "nothing is walked twice for nothing"
    points = (n - 1) // j
    assert len(rises) == points * (r - 1)
    falls = sum(t < s for s, t in pairs)
    assert falls == n + points * (r - 1) * j
    counting = Counting(three(n)) if n < 50 else None
    if counting:
        list(rewalk(counting, Ancestral(), visited, torch.zeros(1, 3, dtype=F64), NoiseSource(0, [0])))
        assert counting.calls == falls


@pytest.mark.parametrize("times", [[9.0, 6, 3, 6, 3, 6], [9.0, 6, 9, 6, 3]])
def test_the_known_part_is_at_its_own_time(times: list[float]) -> None:
    """Traps 30 and 31: mean alpha_t x0 and variance 1 - alpha_bar_t, below a jump, above one, and after several."""
    curve = Curve(Cosine(12))
    for end in range(2, len(times) + 1):
        walked = times[:end]
        if walked[-1] > walked[-2]:
            continue
        mean, cov = moments(three(12), walked)
        ab = curve(walked[-1])
        assert float(mean[0]) == pytest.approx(math.sqrt(ab) * float(SEEN[0]), abs=1e-12)
        assert float(cov[0, 0]) == pytest.approx(1 - ab, abs=1e-12)


class Still(DDIM):
    """Leaves x where it is."""

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> torch.Tensor:
        return state.x


@pytest.mark.parametrize(("s", "t"), [(3, 6), (1, 11), (5, 6)])
def test_a_rise_adds_variances(s: int, t: int) -> None:
    """Trap 31: q(x_t | x_s) after q(x_s | x0) is q(x_t | x0), whose variance is 1 - alpha_bar_t."""
    curve = Curve(Cosine(12))
    noise = Units(2, 3)
    start = torch.zeros(len(noise.indices), 3, dtype=F64)
    start[1:4] = math.sqrt(1 - curve(s)) * torch.eye(3, dtype=F64)
    # up from s to t, then one step that leaves x where it is
    ((state, _),) = rewalk(three(12), Still(), [s, t, s], start, noise)
    cov = state.x.T @ state.x
    torch.testing.assert_close(cov, (1 - curve(t)) * torch.eye(3, dtype=F64), rtol=1e-12, atol=1e-12)


def test_each_rise_has_a_noise_of_its_own() -> None:
    """Else the way back up would be the same every time."""
    process, x = Gaussian(Cosine(12)), torch.zeros(1, 3, dtype=F64)
    (first, _), (second, _) = rewalk(three(12), Still(), [3.0, 6, 3, 6, 3], x, NoiseSource(0, [0]))
    expected = process.step(first.x, 3, 6).mean + first.x
    assert not torch.allclose(second.x, expected), "x_0 = 0, so the first rise is its noise alone"


def test_resampling_lets_the_rest_hear_of_what_is_known() -> None:
    """The second of three numbers should move from -0.3 to 0.5; one pass moves it to 0.2, and each further one nearer."""
    T, reached = 12, []
    for r in (1, 2, 5, 15):
        mean, _ = moments(three(T), moves(Grid.trailing(Cosine(T), T), 1, r))
        assert float(mean[0]) == float(SEEN[0])
        reached.append(float(mean[1]))
    assert reached == sorted(reached)
    assert reached[0] < 0.25
    assert reached[-1] == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("kind", ["numbers", "bits", "symbols", "masked symbols"])
def test_known_values_come_back_exactly(kind: str) -> None:
    """And a sample is the same alone and in a batch."""
    known = torch.tensor([[True, False, True]])
    if kind == "numbers":
        denoiser, x0 = three(12), _draws(4).double()
    else:
        process = {
            "bits": Binomial(InverseTime(12)),
            "symbols": Categorical(InverseTime(12), 4),
            "masked symbols": Categorical(InverseTime(12), 4, "absorbing"),
        }[kind]
        points = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 0]])
        points = points.double() if kind == "bits" else points
        denoiser, x0 = FiniteDenoiser(process, points), points[[0, 1, 2, 0]]
    grid = Grid.trailing(denoiser.process.schedule, 12)
    out = repaint(denoiser, x0, known, grid, jump=3, resamplings=2, seed=5)
    assert torch.equal(out[:, [0, 2]], x0[:, [0, 2]])
    alone = repaint(denoiser, x0[2:3], known, grid, jump=3, resamplings=2, seed=5, indices=[2])
    torch.testing.assert_close(out[2:3], alone)


def _draws(n: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


def test_a_time_that_is_visited_twice_draws_twice() -> None:
    """Else a stretch would be walked the same way again."""
    seen: dict[float, list[torch.Tensor]] = {}
    x = torch.zeros(1, 3, dtype=F64)
    for state, _ in rewalk(three(12), Ancestral(), [6.0, 3, 6, 3, 6, 3], x, NoiseSource(0, [0])):
        seen.setdefault(float(state.time()[0]), []).append(state.x)
    a, b, c = seen[3.0]
    assert not torch.equal(a, b)
    assert not torch.equal(b, c)


def test_solvers_of_two_calls_a_step_rewalk_too() -> None:
    counting = Counting(three(12))
    states = list(rewalk(counting, Heun(), [6.0, 3, 6, 3, 0], torch.zeros(1, 3, dtype=F64), NoiseSource(0, [0])))
    assert counting.calls == len(states) == 5
    assert bool(states[-1][0].done.all())


def test_what_makes_no_sense_is_refused() -> None:
    grid = Grid.trailing(Cosine(12), 12)
    for j, r in ((0, 3), (3, 0), (-1, 1)):
        with pytest.raises(ValueError, match="from 1 on"):
            moves(grid, j, r)
    with pytest.raises(ValueError, match="bool"):
        repaint(three(12), _draws(1), torch.ones(1, 3), grid)
