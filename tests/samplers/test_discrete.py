"""Samplers of bits and symbols against the laws of small chains, written out as matrices over all joint states."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, stats

from tests.oracles import bits
from tests.oracles.curves import Curve
from tests.oracles.denoisers import Counting, gaussian_denoiser
from tests.oracles.discrete import known_x0, leap
from unstir.denoisers import FiniteDenoiser
from unstir.denoisers.discrete import DiscretePrediction
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.samplers import Ancestral, Grid, TauLeaping, get, sample
from unstir.schedules import Cosine, InverseTime, LinearBeta, Schedule

F64 = torch.float64
DATA = np.array([0.6, 0.1, 0.3])
KINDS = {"uniform": (Cosine(40), np.full(3, 1 / 3)), "absorbing": (InverseTime(40), np.array([0.0, 0, 0, 1]))}
each_kind = pytest.mark.parametrize("kind", KINDS)


def _single(kind: str, schedule: Schedule | None = None) -> FiniteDenoiser:
    """One symbol of three classes."""
    process = Categorical(schedule or KINDS[kind][0], 3, kind)
    return FiniteDenoiser(process, torch.arange(3)[:, None], torch.from_numpy(DATA))


def _data(kind: str) -> NDArray[np.float64]:
    return np.append(DATA, np.zeros(len(KINDS[kind][1]) - 3))


def _rates(kind: str, a: float, p: NDArray[np.float64], x: int) -> NDArray[np.float64]:
    """The reverse rates from x for a unit of ``-log alpha_bar``, p(x0) given, as the paper writes them."""
    pi = KINDS[kind][1]
    q = a * np.eye(len(pi)) + (1 - a) * pi  # q(x_t | x0), rows x0
    out = np.array([pi[x] * sum(p[i] * q[i, k] / q[i, x] for i in range(3) if q[i, x] > 0) for k in range(len(pi))])
    out[x] = 0
    return out


def _means(sampler: TauLeaping, denoiser: FiniteDenoiser, t: float, s: float) -> NDArray[np.float64]:
    """From every state, rows, to every state."""
    x = torch.arange(denoiser.process.states)[:, None]  # pyright: ignore[reportAttributeAccessIssue]
    times = torch.full((len(x),), s, dtype=F64)
    return sampler.means(denoiser.predict(x, torch.full_like(times, t)), times)[:, 0].numpy()


@each_kind
@pytest.mark.parametrize(("t", "s"), [(30.0, 24.0), (12.5, 12.0), (3.0, 0.7)])
def test_means_are_the_integrals_of_the_reverse_rates(kind: str, t: float, s: float) -> None:
    """With p(x0 | x_t) held, and alpha_bar read from the betas."""
    (schedule, pi), curve = KINDS[kind], Curve(KINDS[kind][0])
    found = _means(TauLeaping(), _single(kind), t, s)
    for x in range(len(pi)):
        p = known_x0(np.eye(len(pi)), leap(schedule, pi, 0, t), _data(kind), x)
        for k in range(len(pi)):
            truth, _ = integrate.quad(lambda a, x=x, k=k, p=p: _rates(kind, a, p, x)[k] / a, curve(t), curve(s))
            assert found[x, k] == pytest.approx(truth, rel=1e-7, abs=1e-12)


def _jumps(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kernel of one leap without order: one jump or none."""
    total = means.sum(1, keepdims=True)
    kernel = np.exp(-total) * means
    return kernel + np.diag(1 - kernel.sum(1))


def _chi_square(found: torch.Tensor, expected: NDArray[np.float64]) -> float:
    counts = np.bincount(found.flatten().numpy(), minlength=len(expected))
    assert not counts[expected < 1e-12].any()
    possible = expected >= 1e-12
    if possible.sum() == 1:
        return 1.0
    return float(stats.chisquare(counts[possible], expected[possible] / expected.sum() * counts.sum()).pvalue)


@pytest.mark.parametrize(("kind", "ordered"), [("uniform", False), ("uniform", True), ("absorbing", False)])
def test_one_leap_is_drawn_from_its_law(kind: str, ordered: bool) -> None:
    """Poisson counts by their own masses: a step so long that several jumps are common."""
    denoiser, sampler, rows = _single(kind), TauLeaping(ordered), 20_000
    t, s = 30.0, 18.0
    means = _means(sampler, denoiser, t, s)
    for x in range(len(means)):
        if ordered:
            law = np.zeros(3)
            for counts in itertools.product(range(12), repeat=3):
                mass = np.prod([stats.poisson.pmf(n, m) for n, m in zip(counts, means[x])])
                law[int(np.clip(x + sum(n * (k - x) for k, n in enumerate(counts)), 0, 2))] += mass
        else:
            law = _jumps(means)[x]
        start = torch.full((rows, 1), x)
        assert _chi_square(sample(denoiser, sampler, Grid.custom([t, s]), (rows, 1), start=start), law) > 1e-3


def _marginal(kind: str, t: float) -> NDArray[np.float64]:
    schedule, pi = KINDS[kind]
    return _data(kind) @ leap(schedule, pi, 0, t)


@each_kind
def test_leaps_are_of_weak_order_one(kind: str) -> None:
    """The law at the end of the walk, exactly, against the data's own marginal there."""
    first, last, errors, steps = 36.0, 4.0, [], (20, 40, 80)
    for n in steps:
        law = _marginal(kind, first)
        for t, s in itertools.pairwise(np.linspace(first, last, n + 1).tolist()):
            law = law @ _jumps(_means(TauLeaping(), _single(kind), t, s))
        errors.append(np.abs(law - _marginal(kind, last)).sum())
    assert np.polyfit(-np.log(steps), np.log(errors), 1)[0] >= TauLeaping.order - 0.3, errors


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("uniform", InverseTime(80)), ("uniform", LinearBeta.rescaled(80)), ("absorbing", InverseTime(80))],
    ids=["uniform from 0", "uniform", "absorbing from 0"],
)
def test_leaps_lead_to_the_data(kind: str, schedule: Schedule) -> None:
    """Two symbols that hang together, down to t = 0, and from alpha_bar_T = 0 too: frequencies within their standard error."""
    process = Categorical(schedule, 3, kind)
    points, weights, rows = torch.tensor([[0, 0], [1, 2], [2, 2]]), torch.tensor([0.5, 0.2, 0.3]), 3000
    counting = Counting(FiniteDenoiser(process, points, weights))
    x = sample(counting, get("tau"), Grid.uniform(schedule, 80), (rows, 2))
    assert counting.calls == get("tau").calls(80) == 80
    assert int(x.max()) <= 2
    for point, weight in zip(points, weights.tolist()):
        share = float((x == point).all(1).double().mean())
        # what leaps of 1/80 of the chain leave to be desired, and four standard errors
        assert abs(share - weight) < 0.02 + 4 * (weight * (1 - weight) / rows) ** 0.5


def test_what_is_unmasked_stays() -> None:
    process = Categorical(InverseTime(20), 3, "absorbing")
    denoiser = FiniteDenoiser(process, torch.tensor([[0, 1], [2, 2]]))
    sampler, noise = TauLeaping(), NoiseSource(0, range(200))
    state = sampler.start(torch.full((200, 2), 3), Grid.uniform(process.schedule, 20).times)
    while not bool(state.done.all()):
        before = state.x
        state = sampler.advance(state, denoiser.predict(*sampler.query(state)), noise)
        assert torch.equal(state.x[before < 3], before[before < 3])
    assert int(state.x.max()) < 3
    # whatever a network says about what it sees already
    said = DiscretePrediction(
        process, torch.tensor([[1, 3]]), torch.tensor([10.0], dtype=F64), torch.zeros(1, 6, 1)[:, :, 0]
    )
    means = sampler.means(said, torch.tensor([5.0], dtype=F64))
    assert not means[0, 0].any()
    assert bool((means[0, 1, :3] > 0).all())


def test_a_sample_is_the_same_alone_and_in_any_batch() -> None:
    denoiser, grid = _single("uniform"), Grid.uniform(Cosine(40), 9)
    for sampler in (TauLeaping(), TauLeaping(ordered=True)):
        batch = sample(denoiser, sampler, grid, (4, 1), indices=[4, 9, 1, 30])
        for row, index in enumerate([4, 9, 1, 30]):
            assert torch.equal(sample(denoiser, sampler, grid, (1, 1), indices=[index])[0], batch[row])


def test_other_data_than_symbols_is_refused() -> None:
    schedule = LinearBeta()
    with pytest.raises(ValueError, match="symbols"):
        sample(gaussian_denoiser(Gaussian(schedule), 0.0, 1.0), TauLeaping(), Grid.uniform(schedule, 2), (1, 1))
    bits = FiniteDenoiser(Binomial(InverseTime(9)), torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="symbols"):
        sample(bits, TauLeaping(), Grid.uniform(InverseTime(9), 2), (1, 1))
    with pytest.raises(ValueError, match="levels"):
        sample(_single("absorbing"), TauLeaping(ordered=True), Grid.uniform(InverseTime(40), 2), (1, 1))


# --- the ancestral chain ----------------------------------------------------------------------------------------------


@each_kind
@pytest.mark.parametrize("n", [1, 4])
def test_the_ancestral_chain_of_one_symbol_is_the_datas_own(kind: str, n: int) -> None:
    """However few its steps: with the exact p(x0 | x_t) every reverse step is q(x_s | x_t) itself."""
    rows = 20_000
    denoiser = _single(kind, InverseTime(40))
    x = sample(denoiser, Ancestral(), Grid.uniform(InverseTime(40), n), (rows, 1))
    assert _chi_square(x, DATA) > 1e-3


@pytest.mark.parametrize("prior", [0.5, 0.2])
@pytest.mark.parametrize("times", [[12.0, 0.0], [12.0, 7.5, 3.0], [12.0, 8.0, 4.0, 0.0]], ids=str)
def test_the_ancestral_chain_of_bits_follows_its_matrices(times: list[float], prior: float) -> None:
    """Three bits that hang together: the product of the factorised reverse kernels, and its frequencies by chi-square."""
    schedule, rows = InverseTime(12), 20_000
    points = torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 1, 1]])
    weights = np.array([0.3, 0.5, 0.2])
    data, every = np.zeros(8), bits.states(3)
    for point, weight in zip(points.numpy(), weights):
        data[int(np.flatnonzero((every == point).all(1))[0])] = weight
    curve, law = Curve(schedule), np.prod(np.where(every == 1, prior, 1 - prior), axis=1)
    for t, s in itertools.pairwise(times):
        law = law @ bits.factorised_reverse(
            data, bits.step(3, curve(s), prior), bits.step(3, curve(t) / curve(s), prior)
        )
    denoiser = FiniteDenoiser(Binomial(schedule, prior), points, torch.from_numpy(weights))
    x = sample(denoiser, Ancestral(), Grid.custom(times), (rows, 3))
    assert _chi_square((x @ torch.tensor([4.0, 2, 1])).long(), law) > 1e-3
