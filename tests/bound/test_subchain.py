"""The best K steps: against every chain there is, and against the bound of the chain that was found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles import gaussian
from tests.oracles.curves import Curve
from tests.oracles.denoisers import Constant, Counting, gaussian_denoiser
from unstir.bound import best_times, bound_terms, shortest_chain, subchain, variational_bound
from unstir.bound.subchain import candidate_times
from unstir.denoisers import FiniteDenoiser
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Binomial, Gaussian
from unstir.schedules import Cosine, InverseTime, LinearBeta

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=60)
M, V = 0.4, 0.0625


def _corners() -> tuple[Tensor, TwoPoint]:
    x0 = M + math.sqrt(V) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    return x0, TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))


def _cost(terms: Tensor, chain: list[int]) -> float:
    return sum(float(terms[s, t]) for s, t in itertools.pairwise([0, *chain]))


@LAW
@given(st.integers(1, 7), st.integers(0, 10_000), st.data())
def test_it_is_the_cheapest_of_all_chains(n: int, seed: int, data: st.DataObject) -> None:
    terms = torch.tensor(np.random.default_rng(seed).normal(0, 1, (n + 1, n + 1)))
    terms[torch.tril_indices(n + 1, n + 1).unbind()] = torch.inf
    steps = data.draw(st.integers(1, n))
    found = shortest_chain(terms, steps)
    every = [[*inner, n] for inner in itertools.combinations(range(1, n), steps - 1)]
    assert found in every
    assert _cost(terms, found) == pytest.approx(min(_cost(terms, chain) for chain in every), rel=1e-12)


def test_as_many_steps_as_times_are_all_of_them_and_more_are_refused() -> None:
    terms = torch.rand(6, 6, dtype=F64).triu(1) + torch.full((6, 6), torch.inf).tril().nan_to_num(nan=0.0, posinf=1e9)
    assert shortest_chain(terms, 5) == [1, 2, 3, 4, 5]
    for steps in (0, 6):
        with pytest.raises(ValueError, match="there are 5"):
            shortest_chain(terms, steps)


def test_a_chain_of_infinite_cost_is_refused() -> None:
    terms = torch.full((4, 4), torch.inf, dtype=F64)
    terms[0, 1] = terms[0, 2] = 1.0
    with pytest.raises(ValueError, match="finite"):
        shortest_chain(terms, 2)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("K", [1, 4, 9])
def test_the_terms_on_its_way_are_the_bound_of_the_chain(K: int, variance: str) -> None:
    """Prior and the chain's terms make what variational_bound says of these times, and the closed form, exactly."""
    schedule = Cosine(14)
    denoiser = gaussian_denoiser(Gaussian(schedule), M, V, variance)
    x0, noise = _corners()
    candidates = [float(t) for t in range(1, 15)]
    terms = bound_terms(denoiser, x0, candidates, decoder="normal", noise=noise)
    chain = shortest_chain(terms, K)
    times = best_times(denoiser, x0, K, decoder="normal", noise=noise)
    assert times == [candidates[i - 1] for i in chain]
    bound = variational_bound(denoiser, x0, times=times, decoder="normal", noise=noise)
    assert float(bound.prior.mean()) + _cost(terms, chain) == pytest.approx(float(bound.total.mean()), rel=1e-10)
    closed = gaussian.expected_bound(times, Curve(schedule), M, V, variance)
    assert float(bound.total.mean()) == pytest.approx(closed, rel=1e-10)


def test_with_random_draws_it_agrees_within_their_error() -> None:
    process, n = Gaussian(Cosine(12)), 4000
    denoiser = gaussian_denoiser(process, M, V, "large")
    x0 = M + math.sqrt(V) * NoiseSource(9, range(n)).normal((1,), "data", dtype=F64)
    terms = bound_terms(denoiser, x0, list(range(1, 13)), decoder="normal")
    chain = shortest_chain(terms, 4)
    bound = variational_bound(denoiser, x0, times=chain, decoder="normal", draws=2)
    _, half = bound.draws_interval(z=4)
    # Both are drawn: this one twice a term, the terms once.
    assert abs(float(bound.prior.mean()) + _cost(terms, chain) - float(bound.total.mean())) < math.sqrt(3) * half


def test_no_other_spacing_is_better() -> None:
    """Even and quadratic chains are among those it chose from; on a linear schedule even ones are clearly worse."""
    T = 32
    denoiser = gaussian_denoiser(Gaussian(LinearBeta.rescaled(T)), M, V, "large")
    x0, noise = _corners()
    terms = bound_terms(denoiser, x0, list(range(1, T + 1)), decoder="normal", noise=noise)
    for K in (2, 3, 4, 8, 16):
        best = _cost(terms, shortest_chain(terms, K))
        even = [T * (i + 1) // K for i in range(K)]
        quadratic = sorted({max(i + 1, round(T * ((i + 1) / K) ** 2)) for i in range(K)})
        assert best < _cost(terms, even) - 1e-4
        assert len(quadratic) == K
        assert best <= _cost(terms, quadratic) + 1e-12
        # The large variance is near this data's own, so more steps lose less.
        assert best < _cost(terms, shortest_chain(terms, K - 1))


def test_the_whole_chain_is_found_where_that_is_asked_for() -> None:
    denoiser = gaussian_denoiser(Gaussian(InverseTime(9)), M, V)
    x0, noise = _corners()
    assert best_times(denoiser, x0, 9, decoder="normal", noise=noise) == [float(t) for t in range(1, 10)]


def test_one_call_a_time_serves_all_pairs() -> None:
    counting, told = Counting(gaussian_denoiser(Gaussian(Cosine(30)), M, V)), []
    x0, noise = _corners()
    terms = bound_terms(
        counting, x0, [2, 3.5, 11, 30], decoder="normal", noise=noise, progress=lambda *at: told.append(at)
    )
    assert counting.calls == 4
    assert told == [(i, 4) for i in range(1, 5)]
    assert terms.shape == (5, 5)
    above = torch.ones(5, 5).triu(1).bool()
    assert bool(terms[above].isfinite().all())
    assert bool((terms[~above] == torch.inf).all())


def test_bits_have_best_times_too() -> None:
    process = Binomial(Cosine(10), prior=0.3)
    points = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], dtype=F64)
    denoiser, x0 = FiniteDenoiser(process, points), points.repeat(200, 1)
    terms = bound_terms(denoiser, x0, list(range(1, 11)))
    times = best_times(denoiser, x0, 5)
    assert len(times) == 5
    assert times[-1] == 10
    assert _cost(terms, [int(t) for t in times]) <= _cost(terms, [2, 4, 6, 8, 10])
    # The convention of 2015, whose last step takes no network at all.
    forward = bound_terms(denoiser, x0, [3, 10], decoder="forward")
    bound = variational_bound(denoiser, x0, times=[3, 10], decoder="forward")
    error = float(bound.decoder.std()) * math.sqrt(2 / len(x0))
    assert abs(float(forward[0, 1]) - float(bound.decoder.mean())) < 4 * error


@LAW
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_candidates_are_whole_rising_times_to_T(T: int, steps: int) -> None:
    times = candidate_times(T, steps)
    assert len(times) == min(max(subchain.CANDIDATES, steps), T)
    assert times[-1] == T
    assert times[0] == 1
    assert all(a < b and a == int(a) for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("steps", [1, 7, 9, 19])
def test_any_number_of_steps_can_be_asked_for(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subchain, "CANDIDATES", 8)
    process = Gaussian(LinearBeta.rescaled(20))
    denoiser = Constant(process, torch.zeros(1, dtype=F64), "large")
    times = best_times(denoiser, torch.zeros(1, 1, dtype=F64), steps, decoder="normal")
    assert len(times) == steps
    assert times[-1] == 20


def test_what_makes_no_chain_is_refused() -> None:
    denoiser = gaussian_denoiser(Gaussian(Cosine(10)), M, V)
    x0, _ = _corners()
    for times in ([0.0, 10], [3, 2, 10], [3, 3]):
        with pytest.raises(ValueError, match="rise"):
            bound_terms(denoiser, x0, times, decoder="normal")
    with pytest.raises(ValueError, match="T = 10"):
        best_times(denoiser, x0, 1, candidates=[1, 9], decoder="normal")
    with pytest.raises(ValueError, match="yet to be found"):
        bound_terms(denoiser, x0, [1, 10], decoder="normal", decoder_variance="ho20")
