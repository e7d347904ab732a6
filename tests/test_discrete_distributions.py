from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstir.distributions import Bernoulli, Categorical
from unstir.noise import NoiseSource

LAW = settings(deadline=None, derandomize=True, max_examples=100)
F64 = torch.float64
INF = math.inf
logits = st.floats(-60, 60)
lists = st.integers(2, 6).flatmap(lambda k: st.tuples(*[st.lists(logits, min_size=k, max_size=k)] * 2))


def _t(*values: float, dtype: torch.dtype = F64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def _chance(logit: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """P(0) and P(1), neither of them by a subtraction from 1."""
    return 1 / (1 + mpmath.exp(mpmath.mpf(logit))), 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))


def _masses(values: list[float]) -> list[mpmath.mpf]:
    powers = [mpmath.exp(mpmath.mpf(value)) for value in values]
    return [power / mpmath.fsum(powers) for power in powers]


def _divergence(p: list[mpmath.mpf], q: list[mpmath.mpf]) -> float:
    return float(mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q)))


# --- Bernoulli --------------------------------------------------------------------------------------------------------


@LAW
@given(st.floats(-700, 700))
def test_both_tails_keep_their_digits(logit: float) -> None:
    """log P(0), log P(1), mean, variance and entropy against 350 digits, to 5e-13 of their own size, however small."""
    with mpmath.workdps(350):
        p0, p1 = _chance(logit)
        expected = [
            float(f) for f in (mpmath.log(p0), mpmath.log(p1), p1, p0 * p1, -p0 * mpmath.log(p0) - p1 * mpmath.log(p1))
        ]
    bit = Bernoulli(_t(logit))
    found = [bit.log_prob(_t(0.0)), bit.log_prob(_t(1.0)), bit.mean, bit.variance, bit.entropy()]
    # An exponential of ±700 magnifies the rounding of its argument to 1e-13.
    assert [float(f) for f in found] == pytest.approx(expected, rel=5e-13, abs=0)


@LAW
@given(logits, logits)
def test_divergence_of_bits_is_the_sum_over_both_values(a: float, b: float) -> None:
    with mpmath.workdps(60):
        expected = _divergence(list(_chance(a)), list(_chance(b)))
    found = float(Bernoulli(_t(a)).kl(Bernoulli(_t(b))))
    # What is left between two close ones is lost to rounding relative to the rarer value's mass.
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-14 * min(map(float, _chance(a))) * 60)


@LAW
@given(st.floats(-12, 12), st.floats(-1e-3, 1e-3))
def test_divergence_of_close_bits_survives_float32(logit: float, gap: float) -> None:
    """KL is of the gap squared, down to 1e-18, where terms in float32 are only right to 1e-7."""
    p, q = (torch.tensor([value], dtype=torch.float32) for value in (logit, logit + gap))
    with mpmath.workdps(60):
        expected = _divergence(list(_chance(float(p))), list(_chance(float(q))))
    found = Bernoulli(p).kl(Bernoulli(q))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-15)


def test_divergence_and_entropy_of_bits_are_scipys() -> None:
    c, d = np.array([0.2, 0.5, 0.999, 1e-7]), np.array([0.3, 0.5, 0.1, 0.9])
    p, q = (Bernoulli.from_probs(torch.from_numpy(values)) for values in (c, d))
    torch.testing.assert_close(p.mean, torch.from_numpy(c), rtol=1e-14, atol=0)
    kl = scipy.stats.entropy(np.stack([1 - c, c]), np.stack([1 - d, d]))
    np.testing.assert_allclose(p.kl(q).numpy(), kl, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(p.entropy().numpy(), scipy.stats.bernoulli.entropy(c), rtol=1e-8)
    np.testing.assert_allclose(p.variance.numpy(), scipy.stats.bernoulli.var(c), rtol=1e-8)


def test_points_have_no_nan() -> None:
    """0 log 0 = 0; what the other lacks costs inf."""
    p, q = Bernoulli(_t(INF, INF, INF, -INF, -INF, -INF, 0, 0)), Bernoulli(_t(INF, 0, -INF, -INF, 0, INF, INF, -INF))
    assert p.kl(q).tolist() == [0, math.log(2), INF, 0, math.log(2), INF, INF, INF]
    assert p.entropy().tolist() == pytest.approx([0] * 6 + [math.log(2)] * 2)
    assert p.mean.tolist() == [1, 1, 1, 0, 0, 0, 0.5, 0.5]
    assert p.log_prob(_t(1, 1, 1, 1, 1, 1, 1, 1)).tolist() == pytest.approx([0] * 3 + [-INF] * 3 + [-math.log(2)] * 2)
    assert torch.equal(Bernoulli.from_probs(_t(0, 0.5, 1)).logits, _t(-INF, 0, INF))


def test_a_mass_too_small_for_a_float_still_needs_support() -> None:
    """P(1) = e^-800 underflows to 0, and is not 0."""
    assert float(Bernoulli(_t(-800.0)).kl(Bernoulli(_t(-INF)))) == INF


def test_gradients_of_a_divergence_from_points_are_finite() -> None:
    """d KL / d logit of the second = its P(1) - P(1) of the first; both may be points in a reverse step."""
    p, q = Bernoulli(_t(INF, -INF, 0.3)), _t(-2.0, 5.0, 0.1).requires_grad_()
    p.kl(Bernoulli(q)).sum().backward()
    torch.testing.assert_close(q.grad, q.detach().sigmoid() - p.mean, rtol=1e-12, atol=1e-14)


@LAW
@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-6, 1 - 1e-6))
def test_the_product_of_bits_is_renormalised(c: float, d: float) -> None:
    """[SD15 Table App.1]: c d / (c d + (1-c)(1-d))."""
    product = Bernoulli.from_probs(_t(c)).times(Bernoulli.from_probs(_t(d)))
    assert float(product.mean) == pytest.approx(c * d / (c * d + (1 - c) * (1 - d)), rel=1e-9)


def test_a_certain_bit_multiplied_stays_certain() -> None:
    point, open_ = Bernoulli(_t(INF, -INF)), Bernoulli(_t(-3.0, 3.0))
    for product in (point.times(open_), open_.times(point)):
        assert product.mean.tolist() == [1, 0]


@pytest.mark.parametrize("p", [0.0, 1e-3, 0.2, 0.5, 0.999, 1.0])
def test_an_even_comb_of_noise_gives_the_share_of_ones(p: float) -> None:
    noise = (torch.arange(10_000, dtype=F64) + 0.5) / 10_000
    bits = Bernoulli.from_probs(torch.full((10_000,), p, dtype=torch.float32)).sample(noise)
    assert bits.dtype == torch.float32
    assert set(bits.tolist()) <= {0.0, 1.0}
    assert float(bits.sum()) == pytest.approx(p * 10_000, abs=1)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_point_is_drawn_whatever_the_noise(dtype: torch.dtype) -> None:
    """Also where noise was rounded to 0 or 1."""
    ends = torch.tensor([0.0, 2**-33, 1 - 2**-33, 1.0], dtype=dtype)
    assert Bernoulli(torch.full((4,), INF)).sample(ends).tolist() == [1] * 4
    assert Bernoulli(torch.full((4,), -INF)).sample(ends).tolist() == [0] * 4


def test_drawn_bits_are_as_frequent_as_they_should_be() -> None:
    """Within 5 standard errors, which chance passes once in 1.7 million; the seed is fixed."""
    p, n = _t(0.03, 0.2, 0.5, 0.97), 40_000
    drawn = Bernoulli.from_probs(p.expand(n, 4)).draw(NoiseSource(1, range(n)), "bits")
    error = (drawn.mean(0) - p).abs() / (p * (1 - p) / n).sqrt()
    assert float(error.max()) < 5


@pytest.mark.parametrize("x", [0.5, -1.0, 2.0, math.nan])
def test_other_values_than_bits_have_no_mass(x: float) -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        Bernoulli(_t(0.0, 0.0)).log_prob(_t(1.0, x))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Bernoulli.from_probs(_t(p))


# --- Categorical ------------------------------------------------------------------------------------------------------


@LAW
@given(lists)
def test_masses_divergence_and_entropy_of_classes_are_explicit_sums(pair: tuple[list[float], list[float]]) -> None:
    with mpmath.workdps(60):
        p, q = (_masses(values) for values in pair)
        kl, entropy = _divergence(p, q), float(-mpmath.fsum(a * mpmath.log(a) for a in p))
        masses, logs = [float(a) for a in p], [float(mpmath.log(a)) for a in p]
    first, second = (Categorical(_t(*values)) for values in pair)
    assert first.probs.tolist() == pytest.approx(masses, rel=1e-12, abs=0)
    assert first.log_probs.tolist() == pytest.approx(logs, rel=1e-12, abs=1e-14)
    assert first.log_prob(torch.arange(len(logs))[:, None]).flatten().tolist() == pytest.approx(
        logs, rel=1e-12, abs=1e-14
    )
    assert float(first.kl(second)) == pytest.approx(kl, rel=1e-12, abs=1e-13)
    assert float(first.entropy()) == pytest.approx(entropy, rel=1e-12, abs=1e-14)


@LAW
@given(lists)
def test_divergence_of_close_classes_survives_float32(pair: tuple[list[float], list[float]]) -> None:
    """As with bits: of the gap squared, which terms right to 1e-7 would lose."""
    p = torch.tensor(pair[0]) / 6
    q = p + torch.tensor(pair[1]) * 1e-5
    with mpmath.workdps(60):
        expected = _divergence(_masses(p.tolist()), _masses(q.tolist()))
    found = Categorical(p).kl(Categorical(q))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-3, abs=1e-15)


@LAW
@given(logits, logits)
def test_two_classes_are_a_bit(a: float, b: float) -> None:
    bit, other = Bernoulli(_t(a)), Bernoulli(_t(b))
    two, three = Categorical(_t(5.0, 5.0 + a)[None]), Categorical(_t(-b, 0.0)[None])
    assert float(two.entropy()) == pytest.approx(float(bit.entropy()), rel=1e-12, abs=1e-14)
    assert float(two.kl(three)) == pytest.approx(float(bit.kl(other)), rel=1e-11, abs=1e-13)
    assert float(two.times(three).probs[0, 1]) == pytest.approx(float(bit.times(other).mean), rel=1e-12)


def test_divergence_and_entropy_of_classes_are_scipys() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), (2, 3, 4))
    first, second = (Categorical(torch.from_numpy(values).log() + 7) for values in (p, q))
    np.testing.assert_allclose(first.kl(second).numpy(), scipy.stats.entropy(p, q, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(first.entropy().numpy(), scipy.stats.entropy(p, axis=-1), rtol=1e-12)
    product = p * q / (p * q).sum(-1, keepdims=True)
    np.testing.assert_allclose(first.times(second).probs.numpy(), product, rtol=1e-12)


def test_classes_ruled_out_have_no_nan() -> None:
    point, pair, all_ = Categorical(_t(0, -INF, -INF)), Categorical(_t(1, 1, -INF)), Categorical(_t(0, 0, 0))
    assert float(point.kl(pair)) == pytest.approx(math.log(2))
    assert float(pair.kl(all_)) == pytest.approx(math.log(3 / 2))
    assert float(all_.kl(pair)) == float(pair.kl(point)) == INF
    assert float(point.kl(point)) == float(point.entropy()) == 0
    assert float(pair.entropy()) == pytest.approx(math.log(2))
    assert all_.times(pair).probs.tolist() == [0.5, 0.5, 0]
    assert point.log_prob(torch.tensor([0, 1, 2])).tolist() == [0, -INF, -INF]


def test_gradients_of_a_divergence_between_ruled_out_classes_are_finite() -> None:
    """d KL / d logits of the second = its masses minus those of the first."""
    p, q = Categorical(_t(0, -INF, 1, -INF)), _t(0.3, 0.2, -1.0, -INF).requires_grad_()
    p.kl(Categorical(q)).backward()
    torch.testing.assert_close(q.grad, q.detach().softmax(-1) - p.probs, rtol=1e-12, atol=1e-14)


@LAW
@given(
    st.lists(st.sampled_from([-INF, -40.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=9).filter(
        lambda v: max(v) > -INF
    )
)
def test_a_class_without_mass_is_never_drawn(values: list[float]) -> None:
    """At the ends of the noise too, and at every sum where one class gives way to the next, rounded either way."""
    for dtype in (torch.float32, F64):
        p = Categorical(torch.tensor(values, dtype=dtype))
        sums = p.probs.cumsum(-1)
        noise = torch.cat(
            [sums, torch.nextafter(sums, sums * 0), torch.nextafter(sums, sums + 1), p.probs.new_tensor([0, 1])]
        )
        drawn = Categorical(p.logits.expand(len(noise), -1)).sample(noise)
        assert drawn.dtype == torch.int64
        assert all(values[k] > -INF for k in drawn.tolist())


def test_an_even_comb_of_noise_gives_each_class_its_share() -> None:
    p = _t(0.0, 0.125, 0.5, 0.0, 0.3, 0.075, 0.0)
    noise = (torch.arange(10_000, dtype=F64) + 0.5) / 10_000
    drawn = Categorical(p.log().expand(10_000, 7)).sample(noise)
    assert bool((drawn.diff() >= 0).all())
    torch.testing.assert_close(torch.bincount(drawn, minlength=7).double(), p * 10_000, rtol=0, atol=1)


def test_drawn_classes_are_as_frequent_as_they_should_be() -> None:
    """A chi-square test at the level 1e-6; the seed is fixed."""
    p, n = _t(0.05, 0.2, 0.5, 0.25), 40_000
    drawn = Categorical(p.log().expand(n, 3, 4)).draw(NoiseSource(2, range(n)), "classes")
    assert drawn.shape == (n, 3)
    counts = torch.stack([torch.bincount(column, minlength=4) for column in drawn.T])
    assert float(scipy.stats.chisquare(counts, n * p, axis=1).pvalue.min()) > 1e-6


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.tensor([0, 3]), "0 … 2"), (torch.tensor([-1, 0]), "0 … 2"), (torch.tensor([0.0, 1.0]), "int64")],
)
def test_what_is_no_class_is_refused(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Categorical(torch.zeros(2, 3)).log_prob(x)


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [Bernoulli(torch.zeros(3, 2, 4)), Categorical(torch.zeros(3, 2, 4, 5))])
def test_draws_are_keyed(law: Bernoulli | Categorical) -> None:
    """A row depends on its own index, the purpose and the step; the last step of a chain is drawn like any other."""
    source = NoiseSource(0, [4, 5, 6])
    drawn = law.draw(source, "p", 3)
    assert drawn.shape == (3, 2, 4)
    assert torch.equal(drawn, law.sample(source.uniform((2, 4), "p", 3)))
    assert torch.equal(drawn, law.draw(source, "p", 3, final=torch.tensor([True, False, True])))
    assert torch.equal(drawn[1:2], type(law)(law.logits[1:2]).draw(NoiseSource(0, [5]), "p", 3))
    assert not torch.equal(drawn, law.draw(source, "p", 4))
    assert not torch.equal(drawn, law.draw(source, "q", 3))


def test_float32_and_float64_agree() -> None:
    a, b = torch.randn(2, 50, 4, dtype=F64, generator=torch.Generator().manual_seed(0)) * 3
    for kind, shape in ((Bernoulli, (50, 4)), (Categorical, (50,))):
        x = (a[..., 0] > 0).long() if kind is Categorical else (a > b).double()
        wide, narrow = ((kind(a.to(d)), kind(b.to(d))) for d in (F64, torch.float32))
        for f in (lambda p, q: p.kl(q), lambda p, q: p.entropy(), lambda p, q, x=x: p.log_prob(x)):
            found = f(*narrow)
            assert found.dtype == torch.float32
            assert found.shape == shape
            torch.testing.assert_close(found.double(), f(*wide), rtol=1e-5, atol=1e-5)


@LAW
@given(lists)
def test_nothing_is_likelier_than_the_mode(both: tuple[list[float], list[float]]) -> None:
    categorical, bits = Categorical(_t(*both[0])[None]), Bernoulli(_t(*both[0]))
    every = torch.stack([categorical.log_prob(torch.tensor([k])) for k in range(len(both[0]))])
    assert torch.equal(categorical.log_prob(categorical.mode), every.amax(0))
    assert categorical.mode.dtype == torch.long
    assert torch.equal(
        bits.log_prob(bits.mode), torch.maximum(*(bits.log_prob(_t(b).expand(len(both[0]))) for b in (0.0, 1.0)))
    )
