from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles.curves import SCHEDULES
from tests.oracles.discrete import averaged, given_both, jointly, known_x0, leap, pairs, triples, true_reverse, walk
from unstir.distributions import Bernoulli, Normal
from unstir.noise import NoiseSource
from unstir.processes import Binomial
from unstir.schedules import EDMSigma, FromBetas, InverseTime, LinearBeta, Schedule, Time, VariancePreserving

LAW = settings(deadline=None, derandomize=True, max_examples=60)
F64 = torch.float64
BITS = torch.tensor([[0.0], [1.0]], dtype=F64)
priors = st.floats(0.01, 0.99)
chances = st.floats(0.001, 0.999)
Pair = tuple[Schedule, int, int]


def _bit(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=F64)


def _both(law: Bernoulli) -> np.ndarray:
    """Rows of P(0), P(1), for logits of shape (B, 1); neither by a subtraction from 1."""
    return torch.cat([(-law.logits).sigmoid(), law.logits.sigmoid()], 1).numpy()


def _pi(prior: float) -> np.ndarray:
    return np.array([1 - prior, prior])


@LAW
@given(pairs(), priors)
def test_kernels_are_the_products_of_the_chains_own_steps(pair: Pair, prior: float) -> None:
    """To 1e-12, for the marginal and for any s < t, also where the chain ends at alpha_bar = 0."""
    schedule, s, t = pair
    process = Binomial(schedule, prior)
    np.testing.assert_allclose(_both(process.step(BITS, s, t)), walk(schedule, _pi(prior), s, t), rtol=0, atol=1e-12)
    np.testing.assert_allclose(_both(process.marginal(BITS, t)), walk(schedule, _pi(prior), 0, t), rtol=0, atol=1e-12)


@LAW
@given(triples(), priors)
def test_kernels_compose_between_real_times(chain: tuple[Schedule, float, float, float], prior: float) -> None:
    schedule, s, u, t = chain
    process = Binomial(schedule, prior)
    for start in (0.0, s):
        kernels = [_both(process.step(BITS, a, b)) for a, b in ((start, u), (u, t), (start, t))]
        np.testing.assert_allclose(kernels[0] @ kernels[1], kernels[2], rtol=0, atol=1e-12)
        np.testing.assert_allclose(kernels[2], leap(schedule, _pi(prior), start, t), rtol=0, atol=1e-11)


def test_a_rare_flip_keeps_its_digits() -> None:
    """With beta = 1e-15 a flip has probability pi beta, to 1e-12 of itself, where 1 - P would be right to a tenth."""
    process = Binomial(FromBetas(torch.tensor([1e-15], dtype=F64)), 0.2)
    kernel = _both(process.step(BITS, 0, 1))
    assert kernel[0, 1] == pytest.approx(0.2e-15, rel=1e-12)
    assert kernel[1, 0] == pytest.approx(0.8e-15, rel=1e-12)


@LAW
@given(pairs(), priors)
def test_bayes_holds_for_every_value(pair: Pair, prior: float) -> None:
    """q(x_s|x_t,x0) q(x_t|x0) = q(x_t|x_s) q(x_s|x0)."""
    schedule, s, t = pair
    process = Binomial(schedule, prior)
    for x0 in (0.0, 1.0):
        for x_s in (0.0, 1.0):
            for x_t in (0.0, 1.0):
                a, b, c = _bit(x0), _bit(x_s), _bit(x_t)
                forward = process.step(b, s, t).log_prob(c) + process.marginal(a, s).log_prob(b)
                backward = process.posterior(c, a, s, t).log_prob(b) + process.marginal(a, t).log_prob(c)
                torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("beta", [1e-15, 1e-12, 1e-9, 1e-6])
def test_bayes_holds_where_flips_are_rare(beta: float) -> None:
    """The posterior's odds are then huge, and right to 1e-13 all the same."""
    process = Binomial(FromBetas(torch.full((4,), beta, dtype=F64)), 0.3)
    for x0, x_s, x_t in itertools.product((_bit(0.0), _bit(1.0)), repeat=3):
        forward = process.step(x_s, 2, 3).log_prob(x_t) + process.marginal(x0, 2).log_prob(x_s)
        backward = process.posterior(x_t, x0, 2, 3).log_prob(x_s) + process.marginal(x0, 3).log_prob(x_t)
        torch.testing.assert_close(forward, backward, rtol=0, atol=1e-13 * (1 - 2 * math.log(beta)))


def test_times_too_close_to_tell_apart_are_one() -> None:
    """No rounding of alpha_bar makes a kernel of NaN: x_s is then x_t."""
    process = Binomial(LinearBeta(), 0.3)
    t = torch.linspace(0.5, 1000, 500, dtype=F64)
    x = (torch.arange(500)[:, None] % 2).double()
    for gap in (1e-9, 1e-12, 1e-14, 0.0):
        for found in (process.step(x, t - gap, t).mean, process.posterior(x, 1 - x, t - gap, t).mean):
            torch.testing.assert_close(found, x, rtol=0, atol=1e-8)


@LAW
@given(pairs(), priors, chances)
def test_posteriors_are_explicit_sums(pair: Pair, prior: float, p: float) -> None:
    """Given x0; averaged over x0; and D3PM's eq. 4: by loops over numpy matrices."""
    schedule, s, t = pair
    process, pi, p0 = Binomial(schedule, prior), _pi(prior), np.array([1 - p, p])
    before, between = walk(schedule, pi, 0, s), walk(schedule, pi, s, t)
    x0 = Bernoulli.from_probs(_bit(p))
    for x_t in (0, 1):
        seen = _bit(x_t)
        for bit in (0, 1):
            found = _both(process.posterior(seen, _bit(bit), s, t))[0]
            np.testing.assert_allclose(found, given_both(before, between)[bit, x_t], rtol=0, atol=1e-11)
        found = _both(process.posterior(seen, x0, s, t))[0]
        np.testing.assert_allclose(found, averaged(before, between, p0, x_t), rtol=0, atol=1e-11)
        found = _both(process.joint_posterior(seen, x0, s, t))[0]
        np.testing.assert_allclose(found, jointly(before, between, p0, x_t), rtol=0, atol=1e-11)


@LAW
@given(pairs(), priors, chances)
def test_the_exact_x0_gives_the_exact_reverse_step(pair: Pair, prior: float, p: float) -> None:
    """Averaged over q(x0|x_t) of some data, the posterior is that data's own q(x_s|x_t)."""
    schedule, s, t = pair
    process, pi, data = Binomial(schedule, prior), _pi(prior), np.array([1 - p, p])
    before, between = walk(schedule, pi, 0, s), walk(schedule, pi, s, t)
    for x_t in (0, 1):
        x0 = Bernoulli.from_probs(_bit(known_x0(before, between, data, x_t)[1]))
        found = _both(process.posterior(_bit(x_t), x0, s, t))[0]
        np.testing.assert_allclose(found, true_reverse(before, between, data, x_t), rtol=0, atol=1e-9)


def test_the_two_reverse_steps_differ_unless_x0_is_certain() -> None:
    process = Binomial(InverseTime(10), 0.3)
    unsure, sure = Bernoulli(BITS * 0 + 0.4), Bernoulli(torch.tensor([[-math.inf], [math.inf]], dtype=F64))
    by_x0, jointly_ = process.posterior(BITS, unsure, 3, 5).mean, process.joint_posterior(BITS, unsure, 3, 5).mean
    assert float((by_x0 - jointly_).abs().min()) > 0.01
    for x0, certain in ((BITS, sure), (1 - BITS, Bernoulli(-sure.logits))):
        expected = process.posterior(BITS, x0, 3, 5).mean
        torch.testing.assert_close(process.posterior(BITS, certain, 3, 5).mean, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(process.joint_posterior(BITS, certain, 3, 5).mean, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_at_time_zero_everything_is_x0(schedule: Schedule) -> None:
    process, t = Binomial(schedule, 0.2), schedule.T
    p = Bernoulli.from_probs(torch.tensor([[1e-9], [0.7]], dtype=F64))
    for x_t in (BITS, 1 - BITS):
        assert torch.equal(process.posterior(x_t, BITS, 0, t).mean, BITS)
        torch.testing.assert_close(process.posterior(x_t, p, 0, t).logits, p.logits, rtol=1e-13, atol=1e-13)
    assert torch.equal(process.marginal(BITS, 0).mean, BITS)
    assert torch.equal(process.posterior(1 - BITS, Bernoulli.from_probs(BITS), 0, t).mean, BITS)


def test_a_chain_of_one_step() -> None:
    process = Binomial(InverseTime(1), 0.2)
    torch.testing.assert_close(process.marginal(BITS, 1).mean, torch.full((2, 1), 0.2, dtype=F64), rtol=1e-14, atol=0)
    assert torch.equal(process.posterior(1 - BITS, BITS, 0, 1).mean, BITS)
    assert float(process.marginal(BITS, 1).kl(process.prior((2, 1), F64)).abs().max()) < 1e-15


def test_a_chain_that_forgets_everything_ends_at_the_prior() -> None:
    """And its last step back knows only x0: q(x_s | x_T, x0) = q(x_s | x0)."""
    process = Binomial(InverseTime(6), 0.2)
    prior = process.prior((2, 1), F64)
    torch.testing.assert_close(prior.mean, torch.full((2, 1), 0.2, dtype=F64), rtol=1e-14, atol=0)
    torch.testing.assert_close(process.marginal(BITS, 6).logits, prior.logits, rtol=1e-14, atol=0)
    last = process.posterior(1 - BITS, BITS, 5, 6)
    torch.testing.assert_close(last.logits, process.marginal(BITS, 5).logits, rtol=1e-14, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_float32_agrees_with_float64(schedule: Schedule) -> None:
    """At every pair of 41 times; the coefficients are cast once, and nothing is NaN."""
    process, generator = Binomial(schedule, 0.2), torch.Generator().manual_seed(0)
    marks = torch.linspace(0, schedule.T, 41, dtype=F64)
    i, j = torch.tril_indices(41, 41, -1)
    t, s = marks[i], marks[j]
    x, x0 = (torch.rand(2, len(t), 3, dtype=F64, generator=generator) < 0.5).double()
    p = Bernoulli(3 * torch.randn(len(t), 3, dtype=F64, generator=generator))
    narrow = Bernoulli(p.logits.float())
    for wide, found in (
        (process.step(x, s, t), process.step(x.float(), s, t)),
        (process.marginal(x0, t), process.marginal(x0.float(), t)),
        (process.posterior(x, x0, s, t), process.posterior(x.float(), x0.float(), s, t)),
        (process.posterior(x, p, s, t), process.posterior(x.float(), narrow, s, t)),
        (process.joint_posterior(x, p, s, t), process.joint_posterior(x.float(), narrow, s, t)),
    ):
        assert found.logits.dtype == torch.float32
        torch.testing.assert_close(found.mean.double(), wide.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.logits.double(), wide.logits, rtol=1e-4, atol=1e-5)


def test_gradients_reach_x0_at_every_step() -> None:
    """The reverse step's gradient is finite, and right, down to s = 0."""
    process, s = Binomial(InverseTime(5), 0.2), torch.arange(5)
    x_t, x0 = BITS[[0, 1, 1, 0, 1]], BITS[[1, 1, 0, 0, 1]]

    def nats(logits: Tensor) -> Tensor:
        reverse = process.posterior(x_t, Bernoulli(logits), s, s + 1)
        return torch.cat([-reverse.log_prob(x0)[:1], process.posterior(x_t, x0, s, s + 1).kl(reverse)[1:]])

    logits = torch.tensor([[0.5], [-1.0], [2.0], [0.0], [-0.3]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(nats, (logits,))


def test_gradients_reach_a_schedule_that_learns() -> None:
    """Also through s = 0, where everything is kept whatever is learned."""

    class Rate(VariancePreserving):
        def __init__(self, rate: Tensor) -> None:
            self.T, self.rate = 5, rate

        def log_alpha_bar(self, t: Time) -> Tensor:
            return -self.rate * torch.as_tensor(t, dtype=F64)

        def time(self, log_snr: Tensor | float) -> Tensor:
            return torch.as_tensor(log_snr)

        def describe(self) -> dict[str, float]:
            return {}

    s, x_t, x0 = torch.arange(3), BITS[[0, 1, 1]], BITS[[1, 1, 0]]

    def nats(rate: Tensor) -> Tensor:
        process, guess = Binomial(Rate(rate), 0.3), Bernoulli(x0 + 0.5)
        reverse = process.posterior(x_t, guess, s, s + 1)
        step = process.posterior(x_t, x0, s, s + 1).kl(reverse)[1:]
        return torch.cat([step, process.marginal(x0, 5).entropy(), -reverse.log_prob(x0)])

    assert torch.autograd.gradcheck(nats, (torch.tensor(0.4, dtype=F64, requires_grad=True),))


def test_times_are_numbers_or_one_for_each_row() -> None:
    process = Binomial(LinearBeta())
    x, x0 = (torch.rand(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    s, t = torch.tensor([10, 20, 30]), torch.tensor([11, 500, 30.5], dtype=F64)
    p = Bernoulli(torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(2)))
    for f in (process.posterior, process.joint_posterior):
        together = f(x, p, s, t).logits
        for i in range(3):
            alone = f(x[i : i + 1], Bernoulli(p.logits[i : i + 1]), int(s[i]), float(t[i])).logits
            assert torch.equal(alone, together[i : i + 1])
    assert process.posterior(x, x0, s, t).logits.shape == x.shape


def test_noise_makes_x_t_and_is_keyed() -> None:
    process = Binomial(InverseTime(4), 0.2)
    x0, n = torch.ones(20_000, 2), 20_000
    noise = process.noise(NoiseSource(0, range(n)), (2,), "chain", 3)
    assert torch.equal(noise, NoiseSource(0, range(n)).uniform((2,), "chain", 3))
    # P(x_2 = 1) = 0.5 + 0.2 · 0.5, within 5 standard errors.
    share = process.marginal(x0, 2).sample(noise).mean()
    assert float(share) == pytest.approx(0.6, abs=5 * math.sqrt(0.24 / (2 * n)))


def test_a_network_sees_signs_and_answers_in_logits() -> None:
    process, raw = Binomial(InverseTime(4)), torch.randn(2, 3, 5, 5)
    assert torch.equal(process.encode(torch.tensor([[0.0, 1.0]])), torch.tensor([[-1.0, 1.0]]))
    assert torch.equal(process.x0_of(raw).logits, raw)
    assert process.features((3, 5, 5)) == (3, 3)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.2, 1.5, math.nan])
def test_a_prior_that_is_no_chance_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        Binomial(InverseTime(4), prior)


def test_a_schedule_without_alpha_bar_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha_bar"):
        Binomial(EDMSigma(4))


def test_other_data_than_bits_is_refused() -> None:
    process, x = Binomial(InverseTime(4)), torch.zeros(1, 1)
    for bad, message in (
        (torch.zeros(1, 1, dtype=torch.int64), "int64"),
        (x - 1, "0 and 1"),
        (x + math.nan, "0 and 1"),
    ):
        for call in (
            lambda bad=bad: process.step(bad, 1, 2),
            lambda bad=bad: process.marginal(bad, 2),
            lambda bad=bad: process.posterior(bad, x, 1, 2),
            lambda bad=bad: process.posterior(x, bad, 1, 2),
            lambda bad=bad: process.encode(bad),
        ):
            with pytest.raises(ValueError, match=message):
                call()
    for call in (process.posterior, process.joint_posterior):
        with pytest.raises(ValueError, match="Bernoulli"):
            call(x, Normal(x, x + 1), 1, 2)
