from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.curves import SCHEDULES
from tests.oracles.discrete import averaged, given_both, jointly, known_x0, leap, pairs, triples, true_reverse, walk
from unstir import distributions
from unstir.distributions import Bernoulli
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Categorical
from unstir.schedules import EDMSigma, InverseTime, LinearBeta, Schedule

LAW = settings(deadline=None, derandomize=True, max_examples=60)
F64 = torch.float64
kinds = st.sampled_from(["uniform", "absorbing"])
Pair = tuple[Schedule, int, int]


@st.composite
def chains(draw: st.DrawFn) -> tuple[Categorical, int, int, np.ndarray, np.ndarray]:
    """A process, two whole times, where its values go, and a mass of x0 over all its states."""
    schedule, s, t = draw(pairs())
    process = Categorical(schedule, draw(st.integers(2, 5)), draw(kinds))
    p0 = np.array(draw(st.lists(st.floats(0.01, 1), min_size=process.classes, max_size=process.classes)))
    p0 = np.append(p0 / p0.sum(), [0.0] * (process.states - process.classes))
    return process, s, t, _pi(process), p0


def _pi(process: Categorical) -> np.ndarray:
    if process.kind == "absorbing":
        return np.eye(process.states)[-1]
    return np.full(process.states, 1 / process.states)


def _states(process: Categorical) -> Tensor:
    return torch.arange(process.states)[:, None]


def _of(p: np.ndarray) -> distributions.Categorical:
    return distributions.Categorical(torch.from_numpy(p).log()[None, None])


def _x(value: int) -> Tensor:
    return torch.tensor([[value]])


def _masses(law: distributions.Categorical) -> np.ndarray:
    return law.probs.numpy()[:, 0]


def _possible(process: Categorical, schedule: Schedule, t: int) -> list[int]:
    """The x_t that the chain can reach: a class that was never kept is only there unmasked by mistake."""
    gone = process.kind == "absorbing" and float(schedule.alpha_bar[t]) == 0
    return [process.classes] if gone else list(range(process.states))


@LAW
@given(chains())
def test_kernels_are_the_products_of_the_chains_own_steps(chain: tuple) -> None:
    """To 1e-12, for the marginal and for any s < t, also where the chain ends at alpha_bar = 0."""
    process, s, t, pi, _ = chain
    found = _masses(process.step(_states(process), s, t))
    np.testing.assert_allclose(found, walk(process.schedule, pi, s, t), rtol=0, atol=1e-12)
    found = _masses(process.marginal(_states(process)[: process.classes], t))
    np.testing.assert_allclose(found, walk(process.schedule, pi, 0, t)[: process.classes], rtol=0, atol=1e-12)


@LAW
@given(triples(), st.integers(2, 5), kinds)
def test_kernels_compose_between_real_times(times: tuple[Schedule, float, float, float], k: int, kind: str) -> None:
    schedule, s, u, t = times
    process = Categorical(schedule, k, kind)
    for start in (0.0, s):
        kernels = [_masses(process.step(_states(process), a, b)) for a, b in ((start, u), (u, t), (start, t))]
        np.testing.assert_allclose(kernels[0] @ kernels[1], kernels[2], rtol=0, atol=1e-12)
        np.testing.assert_allclose(kernels[2], leap(schedule, _pi(process), start, t), rtol=0, atol=1e-11)


@LAW
@given(chains())
def test_bayes_holds_for_every_value(chain: tuple) -> None:
    """q(x_s|x_t,x0) q(x_t|x0) = q(x_t|x_s) q(x_s|x0), wherever x_t can come from x0."""
    process, s, t, *_ = chain
    for x0 in range(process.classes):
        for x_t in range(process.states):
            seen = process.marginal(_x(x0), t).log_prob(_x(x_t))
            if float(seen) == -math.inf:
                continue
            posterior, marginal = process.posterior(_x(x_t), _x(x0), s, t), process.marginal(_x(x0), s)
            for x_s in range(process.states):
                forward = process.step(_x(x_s), s, t).log_prob(_x(x_t)) + marginal.log_prob(_x(x_s))
                torch.testing.assert_close(posterior.log_prob(_x(x_s)) + seen, forward, rtol=1e-11, atol=1e-11)


@LAW
@given(chains())
def test_posteriors_are_explicit_sums(chain: tuple) -> None:
    """Given x0; averaged over x0; and D3PM's eq. 4: by loops over numpy matrices of all states."""
    process, s, t, pi, p0 = chain
    before, between = walk(process.schedule, pi, 0, s), walk(process.schedule, pi, s, t)
    both, x0 = given_both(before, between), _of(p0)
    for x_t in _possible(process, process.schedule, t):
        for k in range(process.classes):
            if not np.isnan(both[k, x_t]).any():
                found = _masses(process.posterior(_x(x_t), _x(k), s, t))[0]
                np.testing.assert_allclose(found, both[k, x_t], rtol=0, atol=1e-11)
        found = _masses(process.posterior(_x(x_t), x0, s, t))[0]
        np.testing.assert_allclose(found, averaged(before, between, p0, x_t), rtol=0, atol=1e-11)
        found = _masses(process.joint_posterior(_x(x_t), x0, s, t))[0]
        np.testing.assert_allclose(found, jointly(before, between, p0, x_t), rtol=0, atol=1e-11)


@LAW
@given(chains())
def test_the_exact_x0_gives_the_exact_reverse_step(chain: tuple) -> None:
    """Averaged over q(x0|x_t) of some data, the posterior is that data's own q(x_s|x_t)."""
    process, s, t, pi, data = chain
    before, between = walk(process.schedule, pi, 0, s), walk(process.schedule, pi, s, t)
    for x_t in _possible(process, process.schedule, t):
        found = process.posterior(_x(x_t), _of(known_x0(before, between, data, x_t)), s, t)
        np.testing.assert_allclose(_masses(found)[0], true_reverse(before, between, data, x_t), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_the_two_reverse_steps_differ_unless_x0_is_certain(kind: str) -> None:
    """Behind a mask every x0 is equally likely to be hidden, so there they agree whatever is thought of x0."""
    process = Categorical(InverseTime(10), 3, kind)
    unsure = _of(np.array([0.2, 0.5, 0.3]))
    by_x0, joint = (f(_x(1), unsure, 3, 5).probs for f in (process.posterior, process.joint_posterior))
    if kind == "uniform":
        assert float((by_x0 - joint).abs().max()) > 0.01
    else:
        masked = [f(_x(3), unsure, 3, 5).probs for f in (process.posterior, process.joint_posterior)]
        torch.testing.assert_close(*masked, rtol=1e-12, atol=0)
    for x_t in range(process.states):
        for k in _origins(process, x_t):
            expected = process.posterior(_x(x_t), _x(k), 3, 5).probs
            for f in (process.posterior, process.joint_posterior):
                found = f(_x(x_t), _of(np.eye(3)[k]), 3, 5).probs
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def _origins(process: Categorical, x_t: int) -> list[int]:
    """The x0 that x_t can come from before the chain's end."""
    return [x_t] if process.kind == "absorbing" and x_t < process.classes else list(range(process.classes))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_what_a_mask_does_not_hide_stays(schedule: Schedule) -> None:
    """Whatever the network thinks of it, and down to s = 0; there a mask becomes what the network says, and nothing else."""
    process, s, t = Categorical(schedule, 4, "absorbing"), 0.4 * schedule.T, 0.8 * schedule.T
    x_t = torch.tensor([[0, 3, 4, 1]])
    x0 = process.x0_of(50 * torch.randn(1, 16, generator=torch.Generator().manual_seed(0), dtype=F64))
    for time in (0, s):
        law = process.posterior(x_t, x0, time, t)
        for place in (0, 1, 3):
            assert float(law.probs[0, place, x_t[0, place]]) == 1
        if time == 0:
            torch.testing.assert_close(law.probs[0, 2], x0.probs[0, 2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_at_time_zero_everything_is_x0(schedule: Schedule) -> None:
    process, k = Categorical(schedule, 3), torch.arange(3)[:, None]
    p = distributions.Categorical(torch.randn(3, 1, 3, dtype=F64, generator=torch.Generator().manual_seed(1)))
    for x_t in (k, (k + 1) % 3):
        torch.testing.assert_close(process.posterior(x_t, p, 0, schedule.T).probs, p.probs, rtol=1e-12, atol=0)
        assert torch.equal(process.posterior(x_t, k, 0, schedule.T).probs[:, 0], torch.eye(3, dtype=F64))
    assert torch.equal(process.marginal(k, 0).probs[:, 0], torch.eye(3, dtype=F64))


def test_two_classes_are_the_fair_bits() -> None:
    """Uniform over K = 2 is the binomial chain with pi = 1/2."""
    schedule, s, t = LinearBeta.rescaled(20), torch.tensor([0, 5, 12, 19]), torch.tensor([3, 6, 17, 20])
    classes, bits = Categorical(schedule, 2), Binomial(schedule)
    generator = torch.Generator().manual_seed(2)
    x, x0 = torch.randint(2, (2, 4, 6), generator=generator)
    logits = torch.randn(4, 6, dtype=F64, generator=generator)
    two = distributions.Categorical(torch.stack([torch.zeros_like(logits), logits], -1))
    for found, expected in (
        (classes.step(x, s, t), bits.step(x.double(), s, t)),
        (classes.posterior(x, x0, s, t), bits.posterior(x.double(), x0.double(), s, t)),
        (classes.posterior(x, two, s, t), bits.posterior(x.double(), Bernoulli(logits), s, t)),
        (classes.joint_posterior(x, two, s, t), bits.joint_posterior(x.double(), Bernoulli(logits), s, t)),
    ):
        torch.testing.assert_close(found.probs[..., 1], expected.mean, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_a_chain_of_one_step(kind: str) -> None:
    process, k = Categorical(InverseTime(1), 3, kind), torch.arange(3)[:, None]
    x_t = process.prior((3, 1)).draw(NoiseSource(0, range(3)), "prior")
    torch.testing.assert_close(process.marginal(k, 1).probs, process.prior((3, 1), F64).probs, rtol=1e-14, atol=0)
    assert torch.equal(process.posterior(x_t, k, 0, 1).probs.argmax(-1), k)


def test_a_chain_that_leaves_something_unmasked_has_an_infinite_prior_term() -> None:
    """What is not masked at T cannot come from a prior of masks alone: inf, and neither NaN nor an error."""
    k = torch.arange(3)[:, None]
    for schedule, nats in ((LinearBeta(), math.inf), (InverseTime(5), 0.0)):
        process = Categorical(schedule, 3, "absorbing")
        kl = process.marginal(k, schedule.T).kl(process.prior(k.shape, F64))
        assert kl.flatten().tolist() == [nats] * 3
    uniform = Categorical(LinearBeta(), 3)
    assert 0 < float(uniform.marginal(k, 1000).kl(uniform.prior(k.shape, F64)).max()) < 1e-8


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_float32_agrees_with_float64(schedule: Schedule, kind: str) -> None:
    """For an x0 said in float32, at every pair of 21 times; nothing is NaN, and logits keep its dtype."""
    process, generator = Categorical(schedule, 4, kind), torch.Generator().manual_seed(3)
    marks = torch.linspace(0, schedule.T, 21, dtype=F64)
    i, j = torch.tril_indices(21, 21, -1)
    t, s = marks[i], marks[j]
    x0 = torch.randint(4, (len(t), 3), generator=generator)
    x = process.marginal(x0, t).draw(NoiseSource(0, range(len(t))), "x_t")
    p = distributions.Categorical(3 * torch.randn(len(t), 3, 4, dtype=F64, generator=generator))
    narrow = distributions.Categorical(p.logits.float())
    for f in (process.posterior, process.joint_posterior):
        wide, found = f(x, p, s, t), f(x, narrow, s, t)
        assert found.logits.dtype == torch.float32
        torch.testing.assert_close(found.probs.double(), wide.probs, rtol=1e-4, atol=1e-6)
    assert process.posterior(x, x0, s, t).logits.dtype == F64
    assert bool(torch.isfinite(process.posterior(x, x0, s, t).probs).all())


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_gradients_reach_x0_at_every_step(kind: str) -> None:
    """Finite and right down to s = 0, also at places that a mask does not hide."""
    process, s = Categorical(InverseTime(5), 3, kind), torch.arange(5)
    x0 = torch.tensor([[0, 1], [2, 0], [1, 1], [0, 2], [2, 2]])
    x_t = process.marginal(x0, s + 1).draw(NoiseSource(4, range(5)), "x_t")
    if kind == "absorbing":
        assert 0 < int((x_t == 3).sum()) < x_t.numel()

    def nats(logits: Tensor) -> Tensor:
        reverse = process.posterior(x_t, process.x0_of(logits), s, s + 1)
        return torch.cat([-reverse.log_prob(x0)[:1], process.posterior(x_t, x0, s, s + 1).kl(reverse)[1:]])

    logits = torch.randn(5, 6, dtype=F64, generator=torch.Generator().manual_seed(5), requires_grad=True)
    assert torch.autograd.gradcheck(nats, (logits,))


def test_times_are_numbers_or_one_for_each_row() -> None:
    process, generator = Categorical(LinearBeta(), 3), torch.Generator().manual_seed(6)
    x = torch.randint(3, (3, 2, 4, 4), generator=generator)
    p = distributions.Categorical(torch.randn(3, 2, 4, 4, 3, generator=generator))
    s, t = torch.tensor([10, 20, 30]), torch.tensor([11, 500, 30.5], dtype=F64)
    for f in (process.posterior, process.joint_posterior):
        together = f(x, p, s, t).logits
        for i in range(3):
            alone = f(x[i : i + 1], distributions.Categorical(p.logits[i : i + 1]), int(s[i]), float(t[i])).logits
            assert torch.equal(alone, together[i : i + 1])


def test_noise_makes_x_t_and_is_keyed() -> None:
    process, n = Categorical(InverseTime(4), 5, "absorbing"), 20_000
    noise = process.noise(NoiseSource(0, range(n)), (2,), "chain", 3)
    assert torch.equal(noise, NoiseSource(0, range(n)).uniform((2,), "chain", 3))
    x_t = process.marginal(torch.full((n, 2), 3), 1).sample(noise)
    assert set(x_t.unique().tolist()) == {3, 5}
    # A quarter is masked at t = 1 of 4, within 5 standard errors.
    assert float((x_t == 5).double().mean()) == pytest.approx(0.25, abs=5 * math.sqrt(0.1875 / (2 * n)))


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)])
def test_a_network_sees_states_and_answers_in_classes(kind: str, shape: tuple[int, ...]) -> None:
    """Channel c·S + k of what it sees is 1 where place c holds k; channel c·K + k of what it says is about the same."""
    process = Categorical(InverseTime(4), 6, kind)
    x = torch.randint(process.states, (2, *shape), generator=torch.Generator().manual_seed(7))
    seen, (channels_in, channels_out) = process.encode(x), process.features(shape)
    assert seen.dtype == torch.float32
    assert seen.shape == (2, channels_in, *shape[1:])
    for c in range(shape[0]):
        for k in range(process.states):
            assert torch.equal(seen[:, c * process.states + k], (x[:, c] == k).float())
    raw = torch.randn(2, channels_out, *shape[1:], generator=torch.Generator().manual_seed(8))
    said = process.x0_of(raw)
    assert said.logits.shape == (2, *shape, process.states)
    for c in range(shape[0]):
        for k in range(6):
            assert torch.equal(said.logits[:, c, ..., k], raw[:, c * 6 + k])
    if kind == "absorbing":
        assert bool((said.logits[..., 6] == -math.inf).all())


def test_bad_chains_and_bad_data_are_refused() -> None:
    schedule, k = InverseTime(4), torch.tensor([[0]])
    for classes in (1, 0, -3, 2.0, True):
        with pytest.raises(ValueError, match="at least 2"):
            Categorical(schedule, classes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="uniform and absorbing"):
        Categorical(schedule, 3, "gaussian")
    with pytest.raises(ValueError, match="alpha_bar"):
        Categorical(EDMSigma(4), 3)
    process = Categorical(schedule, 3, "absorbing")
    for bad, message in ((k.float(), "int64"), (k - 1, "0 … "), (k + 4, "0 … ")):
        for call in (
            lambda bad=bad: process.step(bad, 1, 2),
            lambda bad=bad: process.marginal(bad, 2),
            lambda bad=bad: process.posterior(bad, k, 1, 2),
            lambda bad=bad: process.posterior(k, bad, 1, 2),
            lambda bad=bad: process.encode(bad),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    with pytest.raises(ValueError, match="0 … 2"):  # a mask is no clean data
        process.marginal(k + 3, 2)
    for law in (Bernoulli(torch.zeros(1, 1)), distributions.Categorical(torch.zeros(1, 1, 5))):
        for f in (process.posterior, process.joint_posterior):
            with pytest.raises(ValueError, match="x0"):
                f(k, law, 1, 2)
    with pytest.raises(ValueError, match="7 channels"):
        process.x0_of(torch.zeros(1, 7))


def test_a_mask_is_never_clean_data_whatever_is_said_of_it() -> None:
    """Masses given to the mask are taken away and the rest renormalised, before Bayes."""
    process = Categorical(InverseTime(5), 2, "absorbing")
    x_t = torch.tensor([[2, 0]])
    said = torch.tensor([[[0.5, 0.0, 3.0], [0.5, 0.0, 3.0]]], dtype=F64)
    for average in (process.posterior, process.joint_posterior):
        with_mask, without = (average(x_t, distributions.Categorical(x), 2, 4).log_probs for x in (said, said[..., :2]))
        torch.testing.assert_close(with_mask, without, rtol=0, atol=1e-14)
