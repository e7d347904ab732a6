"""Edits on a walk: what they leave alone, what they refuse, and whose noise is whose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.oracles.denoisers import through
from unstir.denoisers import DenoiserBase, FiniteDenoiser, GaussianMixtureDenoiser
from unstir.distributions import Bernoulli, Categorical, Distribution, Normal
from unstir.editing import DENOISE, INPAINT, Guide, Multiply, Observe, denoise, inpaint, likelihood
from unstir.editing.factors import product
from unstir.processes import Binomial, Gaussian
from unstir.processes import Categorical as CategoricalChain
from unstir.samplers import DDIM, Ancestral, Grid, Heun, sample, walk
from unstir.schedules import Cosine, InverseTime

F64 = torch.float64
NUMBERS = GaussianMixtureDenoiser(
    Gaussian(Cosine(20)),
    torch.tensor([0.4, 0.6], dtype=F64),
    torch.tensor([[1.0, -1.0, 0.5], [-0.5, 0.3, 1.0]], dtype=F64),
    torch.eye(3, dtype=F64).expand(2, 3, 3) * 0.2,
    "large",
)
BITS = FiniteDenoiser(
    Binomial(InverseTime(20), prior=0.4), torch.tensor([[0.0, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=F64)
)
SYMBOLS = FiniteDenoiser(CategoricalChain(InverseTime(20), 3), torch.tensor([[0, 1, 2], [2, 2, 0], [1, 0, 1]]))
MASKED = FiniteDenoiser(CategoricalChain(InverseTime(20), 3, "absorbing"), SYMBOLS.points)
NOTHING: dict[str, tuple[DenoiserBase, Distribution]] = {
    "numbers": (NUMBERS, Normal(torch.full((1, 3), 7.0, dtype=F64), torch.tensor(math.inf, dtype=F64))),
    "bits": (BITS, Bernoulli(torch.zeros(1, 3))),
    "symbols": (SYMBOLS, Categorical(torch.zeros(1, 3, 3))),
    "masked symbols": (MASKED, Categorical(torch.zeros(1, 3, 3))),
}
GRID = Grid.trailing(InverseTime(20), 5)


@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_multiplying_by_one_changes_nothing_to_the_bit(kind: str, dtype: torch.dtype) -> None:
    denoiser, one = NOTHING[kind]
    plain = sample(denoiser, Ancestral(), GRID, (6, 3), seed=4, dtype=dtype)
    everywhere, nowhere = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    edits = [Multiply(one), Multiply(one, "fading"), Multiply(one, where=everywhere), Observe(one), Observe(one, 0.7)]
    wild = type(one)(*(torch.full_like(v, math.nan) for v in vars(one).values()))
    edits += [Multiply(wild, where=nowhere)]
    if kind == "numbers":
        edits += [Guide(lambda x, s: 0 * x.sum(1)), Observe(Normal(one.mean, torch.ones(())), where=nowhere)]  # pyright: ignore
    for edit in edits:
        assert torch.equal(sample(denoiser, Ancestral(), GRID, (6, 3), seed=4, dtype=dtype, edits=(edit,)), plain)
    if kind == "numbers":
        for sampler in (DDIM(), Heun()):
            for exact in (denoiser, through(denoiser, "eps")):
                a, b = (sample(exact, sampler, GRID, (6, 3), edits=e) for e in ((), (Observe(one),)))
                assert torch.equal(a, b)


@pytest.mark.parametrize("method", sorted({*DENOISE, *INPAINT} - {"matched"}))
@pytest.mark.parametrize("kind", ["numbers", "bits", "symbols"])
def test_a_sample_is_the_same_alone_and_in_any_batch(kind: str, method: str) -> None:
    """Trap 43, with edits: row i's observation goes with index i."""
    denoiser = NOTHING[kind][0]
    indices = [9, 2, 1 << 40, 4]
    y = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]])
    y = y if kind == "symbols" else y.double()
    mask = torch.tensor([[True, False, False]])

    def run(rows: list[int]) -> Tensor:
        options = {"seed": 3, "indices": [indices[r] for r in rows], "method": method}
        if method in DENOISE:
            return denoise(denoiser, y[rows], 0.2, GRID, **options)
        return inpaint(denoiser, y[rows], mask, GRID, **options)

    batch = run([0, 1, 2, 3])
    for row in range(4):
        torch.testing.assert_close(run([row])[0], batch[row], rtol=1e-9, atol=1e-9)
    assert torch.equal(run([0, 1, 2, 3]), batch)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(), DDIM(0.5), Heun()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_known_numbers_come_back_exactly_by_every_sampler(sampler: object, dtype: torch.dtype) -> None:
    x0 = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(0)).to(dtype)
    known = torch.tensor([[True, False, True]])
    for variance in ("small", "large"):
        denoiser = GaussianMixtureDenoiser(
            NUMBERS.process, torch.ones(1), torch.zeros(1, 3), 0.5 * torch.eye(3)[None], variance
        )
        for method in INPAINT if isinstance(sampler, Ancestral) else ("observed",):
            for spread in (1.0, "covariance"):
                hidden = torch.where(known, x0, math.nan)
                out = inpaint(denoiser, hidden, known, GRID, method=method, spread=spread, sampler=sampler)  # pyright: ignore
                assert out.dtype == dtype
                assert torch.equal(out[:, [0, 2]], x0[:, [0, 2]])
                assert bool(out.isfinite().all())


def test_noise_of_each_element_denoises_and_inpaints_at_once() -> None:
    y = torch.tensor([[0.5, -0.2, math.nan]], dtype=F64).expand(3, 3)
    noise = torch.tensor([0.0, 0.4, math.inf], dtype=F64)
    for method in ("observed", "constant", "fading", "carried"):
        out = denoise(NUMBERS, y, noise, GRID, method=method)
        assert out[:, 0].tolist() == [0.5] * 3
        assert bool(out.isfinite().all())


def test_an_edited_walk_leaves_no_graph_and_no_trace_in_its_inputs() -> None:
    weight = torch.nn.Parameter(torch.ones((), dtype=F64))

    class Learns(DenoiserBase):
        process = NUMBERS.process

        def predict(self, x_t: Tensor, t: object, condition: object = None):
            said = NUMBERS.predict(x_t, t)  # pyright: ignore
            learned = (weight * said.x0) ** 2  # a variance that hangs on the network, too
            return replace(said.with_x0(weight * said.x0), variance=lambda s, t: learned)

    y, v = torch.zeros(2, 3, dtype=F64), torch.ones(3, dtype=F64)
    kept = y.clone(), v.clone()
    for edit in (Observe(Normal(y, v)), Multiply(Normal(y, v)), Guide(lambda x, s: -(x**2).sum(1))):
        for state, prediction in walk(Learns(), Ancestral(), GRID, (2, 3), dtype=F64, edits=(edit,)):
            assert not state.x.requires_grad
            assert not prediction.x0.requires_grad
        assert weight.grad is None
    with torch.no_grad():
        said: Any = Observe(Normal(y, v))(Learns()).predict(torch.ones(2, 3, dtype=F64), 9.0)
    assert not said.reverse(torch.full((2,), 8.0, dtype=F64)).variance.requires_grad
    assert torch.equal(y, kept[0])
    assert torch.equal(v, kept[1])


def test_a_chain_that_ends_in_pure_noise_can_be_observed() -> None:
    """alpha_bar_T = 0: nothing is known of the covariance there, and everything stays finite."""
    denoiser = GaussianMixtureDenoiser(
        Gaussian(InverseTime(20)), torch.ones(1), torch.zeros(1, 3), 0.5 * torch.eye(3)[None], "large"
    )
    for dtype in (torch.float32, F64):
        y = torch.tensor([[0.3, -0.4, 0.0]], dtype=dtype)
        out = denoise(denoiser, y, torch.tensor([0.0, 0.1, math.inf]), GRID)
        assert bool(out.isfinite().all())
        assert float(out[0, 0]) == float(y[0, 0])


def test_what_makes_no_sense_is_refused() -> None:
    point = Normal(torch.zeros(1, 3, dtype=F64), torch.zeros((), dtype=F64))
    for edit in (Multiply(point), Guide(lambda x, s: x.sum(1))):
        for sampler in (DDIM(), Heun()):
            with pytest.raises(ValueError, match="ancestral"):
                sample(NUMBERS, sampler, GRID, (1, 3), edits=(edit,))
    with pytest.raises(ValueError, match="'fast'"):
        Multiply(point, "fast")
    with pytest.raises(ValueError, match="'wide'"):
        Observe(point, "wide")
    for spread in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            Observe(point, spread)
    with pytest.raises(ValueError, match="same spread"):
        sample(NUMBERS, Ancestral(), GRID, (1, 3), edits=(Observe(point), Observe(point, 1.0)))
    with pytest.raises(ValueError, match="gradient"):
        sample(BITS, Ancestral(), GRID, (1, 3), edits=(Guide(lambda x, s: x.sum(1)),))
    with pytest.raises(ValueError, match="differentiable"):
        sample(NUMBERS, Ancestral(), GRID, (1, 3), edits=(Guide(lambda x, s: x.detach().sum(1)),))
    for edit in (Multiply(point), Observe(point)):
        with pytest.raises(ValueError, match="Bernoulli"):
            sample(BITS, Ancestral(), GRID, (1, 3), edits=(edit,))
    with pytest.raises(ValueError, match="Normal"):
        sample(NUMBERS, Ancestral(), GRID, (1, 3), edits=(Observe(Bernoulli(torch.zeros(1, 3))),))
    y = torch.zeros(1, 3, dtype=F64)
    with pytest.raises(ValueError, match="'best'"):
        denoise(NUMBERS, y, 1.0, GRID, method="best")
    with pytest.raises(ValueError, match="'best'"):
        inpaint(NUMBERS, y, y == 0, GRID, method="best")
    with pytest.raises(ValueError, match="bool"):
        inpaint(NUMBERS, y, y, GRID)
    with pytest.raises(ValueError, match="one number"):
        denoise(NUMBERS, y, torch.ones(3), GRID, method="matched")
    for noise in (0.0, 1e12):
        with pytest.raises(ValueError, match="start from"):
            denoise(NUMBERS, y, noise, GRID, method="matched")
    with pytest.raises(ValueError, match="start"):
        sample(NUMBERS, Ancestral(), GRID, (2, 3), start=y)


def test_matched_denoising_returns_draws_of_the_posterior() -> None:
    """Two far modes, noise of variance 1: how often each comes is what Bayes says, within four standard errors."""
    means = torch.tensor([[1.5], [-1.5]], dtype=F64)
    mixture = GaussianMixtureDenoiser(
        Gaussian(Cosine(60)),
        torch.tensor([0.5, 0.5], dtype=F64),
        means,
        torch.full((2, 1, 1), 0.01, dtype=F64),
        "small",
    )
    n, y = 4000, 0.3
    odds = math.exp(((y + 1.5) ** 2 - (y - 1.5) ** 2) / (2 * 1.01))
    expected = odds / (1 + odds)
    out = denoise(mixture, torch.full((n, 1), y, dtype=F64), 1.0, Grid.trailing(Cosine(60), 60), method="matched")
    assert float((out > 0).double().mean()) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))


@pytest.mark.parametrize("method", DENOISE)
def test_restoring_edits_none_of_its_inputs(method: str) -> None:
    process = Gaussian(Cosine(20))
    denoiser = GaussianMixtureDenoiser(process, torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    y = torch.tensor([[0.5, -1.0], [1.5, 0.2]])
    known = torch.tensor([[True, False], [False, True]])
    kept = [tensor.clone() for tensor in (y, known)]
    grid = Grid.uniform(process.schedule, 5)
    denoise(denoiser, y, 0.5, grid, method=method)
    if method in INPAINT:
        inpaint(denoiser, y, known, grid, method=method)
    inpaint(denoiser, y, known, grid, method="renoised")
    assert all(torch.equal(a, b) for a, b in zip(kept, (y, known)))


@pytest.mark.parametrize(
    ("process", "y"),
    [
        (Gaussian(Cosine(20)), torch.tensor([[math.nan, 1.0]])),
        (Gaussian(Cosine(20)), torch.tensor([[1, 2]])),
        (Binomial(InverseTime(20)), torch.tensor([[0.3, 2.0]])),
        (Binomial(InverseTime(20)), torch.tensor([[math.nan, 1.0]])),
        (CategoricalChain(InverseTime(20), 4), torch.tensor([[7, 1]])),
        (CategoricalChain(InverseTime(20), 4), torch.tensor([[0.5, 1.0]])),
        (CategoricalChain(InverseTime(20), 4, "absorbing"), torch.tensor([[4, 1]])),
    ],
)
def test_an_observation_that_is_no_data_is_refused(process: Gaussian | Binomial | CategoricalChain, y: Tensor) -> None:
    """Else it would come back as a confident answer. What was not observed has a noise that says so."""
    with pytest.raises(ValueError, match="an observation of"):
        likelihood(process, y, 0.1)


def test_what_was_not_observed_may_hold_anything() -> None:
    r = likelihood(Gaussian(Cosine(20)), torch.tensor([[math.nan, 1.0]]), torch.tensor([[math.inf, 0.1]]))
    assert product(Normal(torch.zeros(1, 2), torch.ones(())), r).mean[0, 0] == 0
