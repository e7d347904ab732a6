"""The bound on bits and symbols, held against every path of small chains."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.oracles import bits
from unstir.bound import step_nats, variational_bound
from unstir.denoisers import Denoiser, DenoiserBase, FiniteDenoiser
from unstir.distributions import Bernoulli
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Categorical, Gaussian
from unstir.schedules import Cosine, FromBetas, InverseTime

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=25)


def _kept(process: Binomial, s: int, t: int) -> float:
    return float((process.schedule.log_alpha_bar(t) - process.schedule.log_alpha_bar(s)).exp())


def _exact_bound(denoiser: DenoiserBase, x0: Tensor) -> tuple[float, float]:
    """Prior and steps plus decoder for one x0 (D,), the expectations over q taken by the sum over all states."""
    process = denoiser.process
    everything = torch.tensor(bits.states(len(x0)), dtype=F64)
    start = x0.expand_as(everything)
    steps = 0.0
    for t in range(1, process.T + 1):
        weight = process.marginal(start, t).log_prob(everything).sum(1).exp()
        time = torch.full((len(everything),), float(t), dtype=F64)
        prediction = denoiser.predict(everything, time)
        if t == 1:
            terms = -prediction.reverse(time - 1).log_prob(start).sum(1)
        else:
            terms = step_nats(prediction, start, time - 1)
        steps += float(torch.where(weight > 0, weight * terms, 0.0).sum())
    prior = process.marginal(x0[None], process.T).kl(process.prior((1, len(x0)), F64))
    return float(prior.sum()), steps


@LAW
@given(st.integers(1, 3), st.integers(1, 3), st.floats(0.05, 0.95), st.integers(0, 10_000))
def test_the_binomial_bound_is_the_sum_over_every_path(dims: int, T: int, pi: float, seed: int) -> None:
    """D bits and T steps, the exact factorised reverse: our terms against sum over paths of q (log q - log p)."""
    rng = np.random.default_rng(seed)
    process = Binomial(FromBetas(torch.tensor(rng.uniform(0.1, 0.9, T))), prior=pi)
    everything = bits.states(dims)
    data = rng.dirichlet(np.full(len(everything), 0.5)) + 1e-3
    data /= data.sum()
    denoiser = FiniteDenoiser(process, torch.tensor(everything), torch.tensor(data))
    kernels = [bits.step(dims, _kept(process, t - 1, t), pi) for t in range(1, T + 1)]
    reverse = [
        bits.factorised_reverse(data, bits.step(dims, _kept(process, 0, t - 1), pi), kernels[t - 1])
        for t in range(1, T + 1)
    ]
    prior = np.prod(np.where(everything == 1, pi, 1 - pi), axis=1)
    log_likelihood = bits.log_likelihood(prior, reverse[::-1])
    for x0 in range(len(everything)):
        ours = sum(_exact_bound(denoiser, torch.tensor(everything[x0])))
        assert ours == pytest.approx(bits.bound(x0, kernels, prior, reverse), rel=1e-9, abs=1e-11)
        assert ours >= -log_likelihood[x0] - 1e-11


@pytest.mark.parametrize("dims", [4, 6])
def test_six_bits_against_the_exact_log_likelihood(dims: int) -> None:
    """The averaged bound lies above -log p of the very chain, and for one step falls together with what the chain can do."""
    T, pi = 12, 0.3
    process = Binomial(InverseTime(T), prior=pi)
    everything = bits.states(dims)
    rng = np.random.default_rng(dims)
    data = rng.dirichlet(np.full(len(everything), 0.3))
    denoiser = FiniteDenoiser(process, torch.tensor(everything), torch.tensor(data))
    kernels = [bits.step(dims, _kept(process, t - 1, t), pi) for t in range(1, T + 1)]
    reverse = [
        bits.factorised_reverse(data, bits.step(dims, _kept(process, 0, t - 1), pi), kernels[t - 1])
        for t in range(1, T + 1)
    ]
    prior = np.prod(np.where(everything == 1, pi, 1 - pi), axis=1)
    exact = -bits.log_likelihood(prior, reverse[::-1])
    for x0 in np.argsort(data)[-4:]:
        ours = sum(_exact_bound(denoiser, torch.tensor(everything[x0])))
        assert exact[x0] <= ours + 1e-11
        # It is a bound, not the likelihood: paths differ in how well they are guessed.
        assert ours - exact[x0] < 0.6


def test_one_bit_loses_nothing() -> None:
    """With a single bit there is nothing to factorise: the exact reverse is the chain's own, and the bound the entropy."""
    process = Binomial(InverseTime(9), prior=0.4)
    data = torch.tensor([0.85, 0.15], dtype=F64)
    denoiser = FiniteDenoiser(process, torch.tensor([[0.0], [1.0]], dtype=F64), data)
    averaged = sum(p * sum(_exact_bound(denoiser, torch.tensor([float(k)], dtype=F64))) for k, p in enumerate(data))
    entropy = -sum(float(p) * math.log(float(p)) for p in data)
    assert float(averaged) == pytest.approx(entropy, rel=1e-12)


def test_the_drawn_bound_agrees_with_the_sum_over_states() -> None:
    process = Binomial(Cosine(15), prior=0.3)
    points = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], dtype=F64)
    denoiser = FiniteDenoiser(process, points)
    x0 = points[:1].expand(4000, -1)
    bound = variational_bound(denoiser, x0, noise=NoiseSource(3, range(len(x0))))
    assert bound.calls == 15
    assert not bound.density
    mean, half = bound.interval(z=4)
    assert abs(mean - sum(_exact_bound(denoiser, points[0]))) < half


@pytest.mark.parametrize("kind", ["uniform", "absorbing"])
def test_symbols_of_one_element_lose_nothing(kind: str) -> None:
    process = Categorical(InverseTime(7), classes=4, kind=kind)
    data = torch.tensor([0.5, 0.25, 0.2, 0.05], dtype=F64)
    denoiser = FiniteDenoiser(process, torch.arange(4)[:, None], data)
    x0 = torch.arange(4)[:, None].repeat_interleave(3000, 0)
    bound = variational_bound(denoiser, x0, noise=NoiseSource(1, range(len(x0))))
    total = bound.total.reshape(4, -1)
    # Exact in expectation: the four values weighted by their probabilities give the entropy.
    mean = float((data * total.mean(1)).sum())
    error = float((data.square() * total.var(1) / total.shape[1]).sum().sqrt())
    entropy = -float((data * data.log()).sum())
    assert torch.isfinite(total).all()
    assert abs(mean - entropy) < 4.5 * error + 1e-9
    assert error < 0.02


def test_an_absorbing_chain_that_does_not_end_masked_has_an_infinite_prior() -> None:
    process = Categorical(Cosine(20), classes=3, kind="absorbing")
    denoiser = FiniteDenoiser(process, torch.arange(3)[:, None])
    bound = variational_bound(denoiser, torch.tensor([[0], [2]]))
    assert torch.isinf(bound.prior).all()
    assert bound.steps.isfinite().all()


def test_symbols_of_two_classes_are_bits() -> None:
    """A uniform chain on two classes is the binomial one with pi = 1/2: the same bound, draw for draw where states agree."""
    schedule = InverseTime(6)
    points = torch.tensor([[0, 1, 1], [1, 1, 0], [0, 0, 1]])
    of_bits = FiniteDenoiser(Binomial(schedule, prior=0.5), points.double())
    of_symbols = FiniteDenoiser(Categorical(schedule, classes=2), points)
    for x_t in itertools.product([0, 1], repeat=3):
        x = torch.tensor([x_t])
        for t in (1.0, 3.0, 6.0):
            time = torch.tensor([t], dtype=F64)
            a, b = of_bits.predict(x.double(), time), of_symbols.predict(x, time)
            assert torch.allclose(a.x0.mean, b.x0.probs[..., 1], atol=1e-12)
            s = (time - 1).clamp(min=0)
            assert torch.allclose(a.reverse(s).mean, b.reverse(s).probs[..., 1], atol=1e-12)
            if t > 1:
                terms = step_nats(a, points[:1].double(), s), step_nats(b, points[:1], s)
                assert float(terms[0]) == pytest.approx(float(terms[1]), rel=1e-9, abs=1e-12)


# --- the convention of 2015 -------------------------------------------------------------------------------------------


def test_k_is_minus_the_bound_where_the_data_have_the_priors_moments() -> None:
    """Binomial: data of mean activity pi, all of it weighed: -K ln 2 and the bound with the forward decoder agree."""
    pi = 0.25
    process = Binomial(FromBetas(torch.full((5,), 0.3)), prior=pi)
    points = torch.eye(4, dtype=F64)  # mean activity 1/4
    denoiser = FiniteDenoiser(process, points)
    x0 = points.repeat(6000, 1)
    bound = variational_bound(denoiser, x0, decoder="forward", noise=NoiseSource(0, range(len(x0))))
    assert bound.calls == 4
    difference = bound.total + math.log(2) * bound.k_bits
    assert abs(float(difference.mean())) < 4.5 * float(difference.std()) / math.sqrt(len(x0))
    # K - L_null is what is gained over the prior's own score.
    null = -Bernoulli.from_probs(torch.tensor(pi, dtype=F64)).log_prob(x0).sum(1) / math.log(2)
    assert torch.allclose(bound.k_minus_null_bits - bound.k_bits, null, atol=1e-12)


def test_k_of_gaussian_data_is_its_formula() -> None:
    """N(0, 1) data: every reverse step is the forward step, so K = -D/2 log2(2 pi e) whatever the schedule."""
    from tests.oracles.denoisers import gaussian_denoiser

    schedule = FromBetas(torch.tensor([0.01, 0.2, 0.3, 0.5], dtype=F64))
    denoiser = gaussian_denoiser(Gaussian(schedule), 0.0, 1.0, "large")
    x0 = torch.randn(20_000, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    bound = variational_bound(denoiser, x0, decoder="forward")
    mean, half = bound.interval(bound.k_bits, z=4)
    assert abs(mean + 0.5 * math.log2(2 * math.pi * math.e)) < half
    minus_null, half = bound.interval(bound.k_minus_null_bits, z=4)
    assert abs(minus_null) < half


def test_k_needs_the_forward_decoder() -> None:
    denoiser = FiniteDenoiser(Binomial(Cosine(4)), torch.eye(2))
    bound = variational_bound(denoiser, torch.eye(2))
    with pytest.raises(ValueError, match=r'unstir\.bound\.variational_bound\(\.\.\., decoder="forward"\)'):
        _ = bound.k_bits
    torch.testing.assert_close(bound.bits, bound.bits_per_dim * 2)
    assert torch.equal(bound.bits_per_dim, replace(bound, eight_bit=False).bits_per_dim)  # a mass has no unit


@pytest.mark.parametrize("decoder", ["discretized", "normal"])
def test_decoders_of_real_numbers_are_refused_for_bits(decoder: str) -> None:
    denoiser = FiniteDenoiser(Binomial(Cosine(4)), torch.eye(2))
    with pytest.raises(ValueError, match="reverse"):
        variational_bound(denoiser, torch.eye(2), decoder=decoder)


# --- what networks say ------------------------------------------------------------------------------------------------


class Says(torch.nn.Module):
    """A network that gives one tensor whatever it sees."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        return self.raw.expand(len(x), *self.raw.shape[1:])


def test_an_untrained_reverse_step_is_right_for_data_that_are_the_priors_own() -> None:
    """Raw output 0 with the offset: q(x_{t-1} | x_t) of data drawn from the prior, where the chain is the same both ways."""
    process = Binomial(InverseTime(5), prior=0.3)
    denoiser = Denoiser(Says(torch.zeros(1, 3)), process, {"name": "reverse"})
    x_t = torch.tensor(bits.states(3))
    t = torch.full((8,), 3.0, dtype=F64)
    data = torch.tensor(np.prod(np.where(bits.states(3) == 1, 0.3, 0.7), axis=1))
    expected = FiniteDenoiser(process, x_t, data).predict(x_t, t).reverse(t - 1)
    assert torch.allclose(denoiser.predict(x_t, t).reverse(t - 1).mean, expected.mean, atol=1e-12)


def test_a_reverse_prediction_knows_the_x0_behind_it() -> None:
    process = Binomial(InverseTime(8), prior=0.3)
    p0 = Bernoulli(torch.tensor([[-1.0, 0.5, 3.0]], dtype=F64))
    x_t = torch.tensor([[1.0, 0.0, 1.0]], dtype=F64)
    t = torch.tensor([4.0], dtype=F64)
    step = process.posterior(x_t, p0, t - 1, t)
    denoiser = Denoiser(Says(step.logits), process, {"name": "reverse", "offset": False})
    prediction = denoiser.predict(x_t, t)
    assert torch.allclose(prediction.x0.mean, p0.mean, atol=1e-9)
    with pytest.raises(ValueError, match="whole chain"):
        prediction.reverse(t - 2)


def test_d3pms_reverse_step_is_another_thing() -> None:
    """Eq. 4 of Austin et al. weighs x0 by how well it explains x_t once more; a point is the same for both."""
    process = Categorical(InverseTime(6), classes=3)
    x_t, t = torch.tensor([[0, 2]]), torch.tensor([4.0], dtype=F64)
    logits = torch.tensor([[0.1, 1.0, -0.5, 2.0, 0.0, 0.3]], dtype=F64)
    plain, joint = (
        Denoiser(Says(logits), process, {"name": "logits", "joint": j}).predict(x_t, t).reverse(t - 1)
        for j in (False, True)
    )
    p0 = process.x0_of(logits).probs
    for element in range(2):
        expected = torch.zeros(3, dtype=F64)
        for x0 in range(3):
            for x_s in range(3):
                a = process.marginal(torch.tensor([[x0]]), 3).log_prob(torch.tensor([[x_s]])).exp()
                b = process.step(torch.tensor([[x_s]]), 3, 4).log_prob(x_t[:, element : element + 1]).exp()
                expected[x_s] += (p0[0, element, x0] * a * b).squeeze()
        assert torch.allclose(joint.probs[0, element], (expected / expected.sum()).float(), atol=1e-6)
    assert (plain.probs - joint.probs).abs().max() > 1e-2


def test_the_finite_denoiser_is_bayes() -> None:
    process = Binomial(InverseTime(10), prior=0.2)
    points = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=F64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=F64)
    denoiser = FiniteDenoiser(process, points, weights)
    x_t = torch.tensor(bits.states(3))
    to_t = bits.step(3, 0.6, 0.2)
    index = (points @ torch.tensor([4.0, 2.0, 1.0], dtype=F64)).long().numpy()
    joint = weights.numpy()[:, None] * to_t[index]
    given_t = joint / joint.sum(0)
    assert np.allclose(denoiser.predict(x_t, 4.0).x0.mean.numpy(), given_t.T @ points.numpy(), atol=1e-12)
    assert np.allclose(denoiser.log_prob(x_t, 4.0).numpy(), np.log(joint.sum(0)), atol=1e-12)
