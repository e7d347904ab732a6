"""Editing bits and symbols, against posteriors by enumeration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.editing.chains import ending, states
from tests.oracles import bits
from unstir.data.toys import heartbeat
from unstir.denoisers import Condition, DenoiserBase, DiscretePrediction, FiniteDenoiser
from unstir.denoisers.discrete import ReversePrediction
from unstir.distributions import Bernoulli, Categorical
from unstir.editing import Multiply, Observe, Renoise, denoise, inpaint, likelihood, matched
from unstir.processes import Binomial
from unstir.processes import Categorical as CategoricalChain
from unstir.samplers import Grid
from unstir.schedules import InverseTime, Time

F64 = torch.float64
FLIP = 0.2


def binomial(T: int, points: list[list[float]], weights: list[float], pi: float) -> FiniteDenoiser:
    process = Binomial(InverseTime(T), prior=pi)
    return FiniteDenoiser(process, torch.tensor(points, dtype=F64), torch.tensor(weights, dtype=F64))


def product(weights: np.ndarray, values: np.ndarray, r: np.ndarray) -> np.ndarray:
    """``p(x0) prod_i r_i(x0_i) / Z`` over all joint values; r is (D, K)."""
    joint = weights * np.prod([r[i, values[:, i]] for i in range(values.shape[1])], 0)
    return joint / joint.sum()


def distance(denoiser: DenoiserBase, truth: np.ndarray, pi: float) -> float:
    """Total variation between the chain's end and the truth, of all joint values of its bits."""
    dims = int(np.log2(len(truth)))
    joint = bits.states(dims)
    T = denoiser.process.T
    prior = np.prod(np.where(joint == 1, pi, 1 - pi), 1)
    p = ending(denoiser, range(T, -1, -1), torch.tensor(joint, dtype=F64), prior)
    return float(np.abs(p - truth).sum() / 2)


@pytest.mark.parametrize("T", [1, 4, 12])
@pytest.mark.parametrize("pi", [0.5, 0.2])
def test_observing_independent_bits_is_exact_at_every_length(T: int, pi: float) -> None:
    """p(x0) r(x0) by enumeration, to rounding; each of the other ways is off by more than a hundredth."""
    values = states(2, 2)
    weights = np.array([0.42, 0.28, 0.18, 0.12])  # 0.3 and 0.4 of ones
    y = torch.tensor([[1.0, 0.0]], dtype=F64)
    r = np.array([[FLIP, 1 - FLIP], [1 - FLIP, FLIP]])
    truth = product(weights, values, r)
    denoiser = binomial(T, values.tolist(), weights.tolist(), pi)
    factor = likelihood(denoiser.process, y, FLIP)
    assert distance(denoiser, weights, pi) < 1e-12
    assert distance(Observe(factor)(denoiser), truth, pi) < 1e-12
    if T > 1:
        for schedule in ("constant", "fading", "carried"):
            assert distance(Multiply(factor, schedule)(denoiser), truth, pi) > 0.01
    # all of the four agree about a step that goes straight to x0
    if T == 1:
        assert distance(Multiply(factor)(denoiser), truth, pi) < 1e-12


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_observing_independent_symbols_is_exact(kind: str) -> None:
    T, classes = 12, 3
    process = CategoricalChain(InverseTime(T), classes, kind)
    values = states(classes, 2)
    a, b = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.6, 0.3])
    weights = a[values[:, 0]] * b[values[:, 1]]
    r = np.array([[0.2, 0.1, 0.7], [0.5, 0.0, 0.5]])
    denoiser = FiniteDenoiser(process, torch.tensor(values), torch.tensor(weights))
    joint = states(process.states, 2)
    if kind == "absorbing":
        joint = joint[joint[:, 1] != 1]  # r rules it out, and what is once unmasked stays: no chain gets there
    prior = np.prod(np.exp(process.prior((1, 2), F64).log_probs[0].numpy())[[0, 1], joint], 1)
    factor = Categorical(torch.tensor(r)[None].log())
    p = ending(Observe(factor)(denoiser), range(T, -1, -1), torch.tensor(joint), prior)
    within = (joint < classes).all(1)
    np.testing.assert_allclose(p[~within], 0, atol=1e-15)
    truth = product(weights, values, r)
    kept = [row for row, value in enumerate(values.tolist()) if value in joint.tolist()]
    np.testing.assert_allclose(p[within], truth[kept], atol=1e-12)
    assert truth[kept].sum() == pytest.approx(1)
    # while the steps are multiplied, a mask weighs what its classes weigh: nothing that r rules out comes out either
    for schedule in ("constant", "fading", "carried"):
        q = ending(Multiply(factor, schedule)(denoiser), range(T, -1, -1), torch.tensor(joint), prior)
        assert q.sum() == pytest.approx(1)
        assert q[joint[:, 1] == 1].sum() == 0


def test_how_far_dependent_bits_are_left_from_the_posterior() -> None:
    """One beat in four bins, two bins seen as 1 with flips: what each way leaves in total variation, by enumeration.

    Elements are multiplied one by one, so what one bit's r says about the others is missing in all of them: with ever more steps
    they come to rest at about 0.15, 0.08, 0.08 and 0.10, while the model alone errs as 1/T.
    """
    pi = 0.25
    r = np.array([[1 - FLIP, FLIP], [FLIP, 1 - FLIP]])[[1, 0, 1, 0]]
    weights = np.zeros(16)
    weights[[8, 4, 2, 1]] = 0.25
    truth = product(weights, states(2, 4), r)
    y = torch.tensor([[1.0, 0, 1, 0]], dtype=F64)
    denoiser = binomial(24, torch.eye(4).tolist(), [1.0] * 4, pi)
    factor = likelihood(denoiser.process, y, FLIP)
    left = {s: distance(Multiply(factor, s)(denoiser), truth, pi) for s in ("constant", "fading", "carried")}
    left["observed"] = distance(Observe(factor)(denoiser), truth, pi)
    assert left == pytest.approx({"constant": 0.243, "fading": 0.126, "carried": 0.123, "observed": 0.147}, abs=0.005)
    assert distance(denoiser, truth, pi) > 0.4


def test_starting_at_the_observations_own_time_knows_dependent_bits_too() -> None:
    """Flips of 0.2 are the chain's own at alpha_bar = 0.6: begun there it ends in the posterior, but for steps of
    independent bits, whose share falls with their number."""
    points, weights = [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]], [0.45, 0.45, 0.1]
    y = torch.tensor([[1.0, 0.0]], dtype=F64)
    r = np.array([[FLIP, 1 - FLIP], [1 - FLIP, FLIP]])
    truth = product(np.array([0.45, 0, 0.1, 0.45]), states(2, 2), r)
    errors = []
    for T in (10, 40):
        denoiser = binomial(T, points, weights, 0.5)
        tau, start = matched(denoiser.process, y, FLIP)
        assert tau == pytest.approx(0.4 * T)
        at_y = (states(2, 2) == start.numpy()).all(1).astype(float)
        times = [tau, *range(math.ceil(tau) - 1, -1, -1)]
        p = ending(denoiser, times, torch.tensor(bits.states(2), dtype=F64), at_y)
        errors.append(np.abs(p - truth).sum() / 2)
    assert errors[0] > 3 * errors[1]
    assert errors[1] < 0.012


def test_matched_symbols_are_the_chains_own_marginal() -> None:
    process = CategoricalChain(InverseTime(50), 4)
    tau, start = matched(process, torch.tensor([[2]]), 0.3)
    np.testing.assert_allclose(process.marginal(start, tau).probs[0, 0].numpy(), [0.1, 0.1, 0.7, 0.1], rtol=1e-9)
    for process, noise in (
        (Binomial(InverseTime(9), prior=0.2), 0.1),
        (Binomial(InverseTime(9)), 0.5),
        (Binomial(InverseTime(9)), 0.0),
        (CategoricalChain(InverseTime(9), 4, "absorbing"), 0.1),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - each says its own reason
            matched(process, torch.zeros(1, 1), noise)


def test_a_heartbeat_with_flips_is_denoised() -> None:
    """Of five sequences one has the posterior 0.998. Every draw is a heartbeat, but how often it is that one differs:

    begun at the observation's own time as often as it should, and by [SD15]'s constant r about so; the ways that are exact for
    independent bits hear of the 20 one by one, and end in another phase every other time.
    """
    T, flip, each = 30, 0.15, 200
    points = torch.eye(5, dtype=F64).repeat(1, 4)
    assert {tuple(p) for p in points.tolist()} == {tuple(p) for p in heartbeat(200).astype(float).tolist()}
    denoiser = FiniteDenoiser(Binomial(InverseTime(T)), points)
    y = points[2].clone()
    y[[0, 2, 13]] = 1 - y[[0, 2, 13]]  # one beat lost, two made up
    log_r = -math.log((1 - flip) / flip) * (points != y).sum(1)
    posterior = float(log_r.double().softmax(0)[2])
    assert posterior == pytest.approx(0.998, abs=5e-4)
    share = {}
    for method in ("matched", "constant", "observed", "carried"):
        x0 = denoise(denoiser, y.expand(each, 20), flip, Grid.trailing(denoiser.process.schedule, T), method=method)
        perfect = (x0[:, None] == points).all(-1)
        assert float(perfect.any(1).double().mean()) > 0.95
        share[method] = float(perfect[:, 2].double().mean())
    assert share["matched"] > 0.97
    assert share["constant"] > 0.97
    assert 0.35 < share["observed"] < 0.75
    assert 0.35 < share["carried"] < 0.75


@pytest.mark.parametrize("method", ["observed", "constant", "fading", "carried", "renoised"])
def test_known_bits_and_symbols_come_back_exactly_and_the_rest_follows(method: str) -> None:
    points = torch.eye(5, dtype=F64).repeat(1, 4)
    grid = Grid.trailing(InverseTime(30), 30)
    known = torch.arange(20) < 10
    truth = points[[0, 3, 3, 1] * 20]
    least = 0.4 if method == "carried" else 0.85
    x0 = torch.where(known, truth, math.nan)
    found = inpaint(FiniteDenoiser(Binomial(InverseTime(30), prior=0.2), points), x0, known, grid, method=method)
    assert torch.equal(found[:, :10], truth[:, :10])
    assert float((found == truth).all(1).double().mean()) > least

    # Every value is a little likely: a step of independent symbols may leave those that are not.
    symbols = torch.tensor([[0, 1, 2], [1, 2, 1], [2, 0, 0]])
    points = torch.cat([symbols, torch.tensor(states(3, 3))])
    weights = torch.cat([torch.ones(3, dtype=F64), torch.full((27,), 1e-5, dtype=F64)])
    known, x0, grid = (
        torch.tensor([[True, False, False]]),
        symbols[[0, 1, 2, 1] * 20],
        Grid.trailing(InverseTime(12), 12),
    )
    for kind in ("uniform", "absorbing"):
        denoiser = FiniteDenoiser(CategoricalChain(InverseTime(12), 3, kind), points, weights)
        found = inpaint(denoiser, torch.where(known, x0, -1), known, grid, method=method)
        assert found.dtype == torch.int64
        assert torch.equal(found[:, 0], x0[:, 0])
        right = float((found == x0).all(1).double().mean())
        # Chance would be one in nine. An unmasked symbol is a clean one, so behind masks [SD15]'s point is no heuristic.
        assert right > (0.8 if (kind, method) == ("absorbing", "constant") else 0.3)


def test_the_noised_known_part_has_the_marginals_of_the_chain() -> None:
    """At every s, P(x_s) of a known element is q(x_s | x0), on the forward path and drawn afresh alike."""
    T, pi = 8, 0.3
    denoiser = binomial(T, [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], [0.5, 0.2, 0.3], pi)
    x0, known = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[True, False]])
    joint = bits.states(2)
    prior = np.prod(np.where(joint == 1, pi, 1 - pi), 1)
    point = denoiser.process.marginal(x0, 0)
    for edit in (Observe(point, where=known), Renoise(x0, known)):
        for s in range(T - 1, -1, -1):
            p = ending(edit(denoiser), range(T, s - 1, -1), torch.tensor(joint, dtype=F64), prior)
            expected = denoiser.process.marginal(x0, s)
            assert isinstance(expected, Bernoulli)
            assert p[joint[:, 0] == 1].sum() == pytest.approx(float(expected.mean[0, 0]), abs=1e-12)


def test_a_contradiction_is_refused_in_one_line() -> None:
    """Data in which the two bits are equal, and two bits known to differ."""
    denoiser = binomial(6, [[0.0, 0.0], [0.0, 0.0]], [0.5, 0.5], 0.5)
    y, grid = torch.tensor([[1.0, 0.0]], dtype=F64), Grid.trailing(InverseTime(6), 6)
    for method in ("observed", "constant"):
        with pytest.raises(ValueError, match="no mass"):
            inpaint(denoiser, y, torch.tensor([[True, True]]), grid, method=method)
    # with some noise it is only unlikely
    assert denoise(denoiser, y, 0.1, grid).tolist() == [[0.0, 0.0]]


def test_the_order_of_factors_does_not_matter() -> None:
    denoiser = binomial(5, [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], [0.5, 0.2, 0.3], 0.4)
    x, s = torch.tensor(bits.states(2), dtype=F64), torch.full((4,), 2.0, dtype=F64)
    a, b = (Bernoulli(torch.tensor([row], dtype=F64)) for row in ([0.3, -1.2], [2.0, math.inf]))
    for make in (Observe, lambda r: Multiply(r, "fading"), lambda r: Multiply(r, "carried")):
        both: list[Any] = [
            second(first(denoiser)).predict(x, 4.0).reverse(s)
            for first, second in ((make(a), make(b)), (make(b), make(a)))
        ]
        torch.testing.assert_close(both[0].mean, both[1].mean, rtol=1e-12, atol=1e-15)
    assert torch.allclose(
        Observe(b)(Observe(a)(denoiser)).predict(x, 4.0).x0.mean, Observe(a.times(b))(denoiser).predict(x, 4.0).x0.mean
    )


@pytest.mark.parametrize("joint", [False, True])
def test_observing_keeps_how_the_network_is_read(joint: bool) -> None:
    """D3PM's reading stays its own, and a network that speaks of x_{t-1} is asked for the x0 behind its step."""
    exact = binomial(6, [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], [0.5, 0.2, 0.3], 0.4)
    process = exact.process

    class Said(DenoiserBase):
        def __init__(self, steps: bool) -> None:
            super().__init__()
            self.process, self.steps = process, steps

        def predict(
            self, x_t: Tensor, t: Time, condition: Condition | None = None
        ) -> DiscretePrediction | ReversePrediction:
            said = exact.predict(x_t, t)
            if self.steps:
                return ReversePrediction(process, x_t, said.t, said.reverse(said.t - 1).logits)  # pyright: ignore
            return DiscretePrediction(process, x_t, said.t, said.logits, joint)

    x, s = torch.tensor(bits.states(2), dtype=F64), torch.full((4,), 2.0, dtype=F64)
    r = Bernoulli(torch.tensor([[0.3, -1.2]], dtype=F64))
    found = Observe(r)(Said(steps=False)).predict(x, 3.0).reverse(s)
    p0 = exact.predict(x, 3.0).x0.times(r)
    expected = (process.joint_posterior if joint else process.posterior)(x, p0, s, 3.0)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-12, atol=1e-12)  # pyright: ignore
    through = Observe(r)(Said(steps=True)).predict(x, 3.0).reverse(s)
    torch.testing.assert_close(through.mean, process.posterior(x, p0, s, 3.0).mean, rtol=1e-9, atol=1e-9)  # pyright: ignore
