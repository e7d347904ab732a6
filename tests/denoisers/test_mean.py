"""Networks that say the mean of the reverse step, and the variance that the 2015 paper learns beside it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.oracles import gaussian
from tests.oracles.curves import SCHEDULES, Curve
from tests.oracles.denoisers import gaussian_denoiser
from tests.oracles.discrete import pairs
from unstir.bound import variational_bound
from unstir.denoisers import Condition, Denoiser, DenoiserBase
from unstir.noise import TwoPoint
from unstir.objectives import MinSNR, Simple, Variational
from unstir.processes import Gaussian
from unstir.schedules import Cosine, EDMSigma, InverseTime, LinearBeta

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=40)


class SaysMean(nn.Module):
    """The exact mean of p(x_{t-1} | x_t), as a network that is told t - 1."""

    def __init__(self, exact: DenoiserBase) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return self.exact.predict(x, time + 1).reverse(time.double()).mean


class Says(nn.Module):
    """The same two numbers everywhere: z of the mean, and the spread."""

    def __init__(self, z: float, spread: float) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.tensor(z, dtype=F64))
        self.spread = nn.Parameter(torch.tensor(spread, dtype=F64))

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return torch.cat([self.z.expand_as(x), self.spread.expand_as(x)], 1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_x0_is_behind_it(name: str) -> None:
    process = Gaussian(SCHEDULES[name])
    exact = gaussian_denoiser(process, 0.4, 0.1)
    denoiser = Denoiser(SaysMean(exact), process, "mean")
    x_t = torch.linspace(-2, 2, 7, dtype=F64)[:, None]
    for t in (1.0, 2.0, process.T / 2 + 0.5, float(process.T)):
        said, true = denoiser.predict(x_t, t), exact.predict(x_t, t)
        torch.testing.assert_close(said.x0, true.x0, rtol=1e-8, atol=1e-9)
        s = torch.full((7,), t / 3, dtype=F64)  # so any other step follows
        torch.testing.assert_close(said.reverse(s).mean, true.reverse(s).mean, rtol=1e-9, atol=1e-10)


@LAW
@given(pairs(), st.integers(0, 1000))
def test_its_step_is_what_the_network_said(pair: tuple, seed: int) -> None:
    schedule, _, t = pair
    process = Gaussian(schedule)
    g = torch.Generator().manual_seed(seed)
    x_t, raw = torch.randn(2, 3, 4, dtype=F64, generator=g)
    prediction = Denoiser(nn.Identity(), process, "mean").interpret(
        raw, None, x_t, torch.full((3,), float(t), dtype=F64)
    )
    torch.testing.assert_close(prediction.reverse(torch.full((3,), t - 1.0, dtype=F64)).mean, raw, rtol=1e-9, atol=1e-9)


@LAW
@given(pairs(), st.integers(0, 1000))
def test_its_target_is_the_posteriors_mean(pair: tuple, seed: int) -> None:
    """[HO20 eq. 7] from the betas; and the raw error counts as MSE, and moves x0 by x0_error."""
    schedule, _, t = pair
    curve, process = Curve(schedule), Gaussian(schedule)
    x0, eps = torch.randn(2, 3, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))
    time = torch.full((3,), float(t), dtype=F64)
    denoiser = Denoiser(nn.Identity(), process, "mean")
    p = denoiser.parameterisation
    x_t = math.sqrt(curve(t)) * x0 + math.sqrt(1 - curve(t)) * eps
    from_t, from_0, _, _ = gaussian.coefficients(curve(t), curve(t - 1))
    target = from_t * x_t + from_0 * x0
    torch.testing.assert_close(p.error(target, x0, eps, time), torch.zeros_like(x0), rtol=0, atol=1e-18)
    torch.testing.assert_close(p.error(target + 0.1, x0, eps, time), torch.full_like(x0, 0.01), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(p.x0_error(time), torch.full((3,), 1 / from_0, dtype=F64), rtol=1e-9, atol=0)
    moved = denoiser.interpret(target + from_0, None, x_t, time).x0 - denoiser.interpret(target, None, x_t, time).x0
    torch.testing.assert_close(moved, torch.ones_like(x0), rtol=1e-6, atol=1e-8)


def test_within_the_first_step_the_mean_is_x0() -> None:
    """A real time below 1 has no whole step before it: what is left is the step to 0."""
    process = Gaussian(Cosine(20))
    x, raw = torch.randn(2, 3, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.01, 0.5, 1.0], dtype=F64)
    for variance, spread in (("small", None), ("free", torch.zeros_like(x))):
        prediction = Denoiser(nn.Identity(), process, "mean", variance).interpret(raw, spread, x, t)
        torch.testing.assert_close(prediction.x0, raw)
    gated = Denoiser(nn.Identity(), process, "gated_mean", "free").interpret(raw, torch.zeros_like(x), x, t)
    assert bool(gated.x0.isfinite().all())


def test_the_bound_does_not_depend_on_who_says_it() -> None:
    process = Gaussian(InverseTime(20))
    exact = gaussian_denoiser(process, 0.4, 0.1, "large")
    x0 = 0.4 + math.sqrt(0.1) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    noise = TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64))
    said = Denoiser(SaysMean(exact), process, "mean", "large")
    a, b = (variational_bound(d, x0, decoder="normal", noise=noise).total for d in (exact, said))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_simple_is_the_mean_square_of_its_error() -> None:
    process = Gaussian(LinearBeta.rescaled(30))
    exact = gaussian_denoiser(process, 0.4, 0.1)
    x0 = torch.tensor([[0.1], [0.9]], dtype=F64)
    t, eps = torch.tensor([3.0, 30.0], dtype=F64), torch.tensor([[1.0], [-0.5]], dtype=F64)
    x_t = process.marginal(x0, t).sample(eps)
    expected = (exact.predict(x_t, t).reverse(t - 1).mean - process.posterior(x_t, x0, t - 1, t).mean).square()[:, 0]
    denoiser = Denoiser(SaysMean(exact), process, "mean")
    torch.testing.assert_close(Simple()(denoiser, x0, t, eps), expected, rtol=1e-9, atol=1e-15)
    # Weighted objectives see the same error of x0 as through any other form.
    plain = (exact.predict(x_t, t).x0 - x0).square()[:, 0] * process.schedule.log_snr(t).exp().clamp(max=5)
    torch.testing.assert_close(MinSNR()(denoiser, x0, t, eps), plain, rtol=1e-8, atol=1e-14)


# --- the 2015 way -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [-3.0, 0.0, 2.0])
def test_the_gated_mean_is_the_papers_formula(spread: float) -> None:
    """mu = (x_t - z)(1 - Sigma) + z, Sigma = sigmoid(spread + logit beta_t) [SD15 App. D.2]."""
    process, z = Gaussian(LinearBeta.rescaled(10)), 0.7
    denoiser = Denoiser(Says(z, spread), process, "gated_mean", "free")
    x = torch.tensor([[-1.0, 0.2, 3.0]], dtype=F64)
    for t in (1, 2, 10):
        beta = float(process.schedule.betas[t - 1])
        gate = 1 / (1 + math.exp(-spread) * (1 - beta) / beta)
        step = denoiser.predict(x, t).reverse(torch.tensor([t - 1.0], dtype=F64))
        torch.testing.assert_close(step.mean, (x - z) * (1 - gate) + z, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(step.variance, torch.full_like(x, gate), rtol=1e-9, atol=1e-12)


@LAW
@given(pairs(), st.floats(-12, 12))
def test_the_free_variance_lies_between_0_and_1(pair: tuple, spread: float) -> None:
    schedule, s, t = pair
    x = torch.zeros(2, 3, dtype=F64)
    denoiser = Denoiser(Says(0.0, spread), Gaussian(schedule), "x0", "free")
    variance = denoiser.predict(x, t).reverse(torch.full((2,), float(s), dtype=F64)).variance
    large = 1 - Curve(schedule)(t) / Curve(schedule)(s)
    assert bool(((variance > 0) & (variance <= 1)).all())
    assert bool((variance < 1).all()) == (large < 1)
    if spread == 0:
        torch.testing.assert_close(variance, torch.full_like(x, large), rtol=1e-9, atol=1e-12)
    assert bool(((variance - large) * math.copysign(1, spread) >= -1e-9).all())


def test_spread_0_is_large_and_at_beta_1_the_variance_is_1_with_a_gradient() -> None:
    schedule = InverseTime(6)
    network = Says(0.0, 0.0)
    denoiser = Denoiser(network, Gaussian(schedule), "gated_mean", "free")
    x = torch.tensor([[0.5]], dtype=F64)
    for t in range(1, 7):
        said = denoiser.predict(x, t).reverse(torch.tensor([t - 1.0], dtype=F64)).variance
        assert said.item() == pytest.approx(float(schedule.betas[t - 1]), rel=1e-12)
    network.zero_grad()
    step = denoiser.predict(x, 6).reverse(torch.tensor([5.0], dtype=F64))
    assert step.variance.item() == 1
    (step.mean.sum() + step.variance.sum()).backward()
    assert network.z.grad is not None
    assert float(network.z.grad) == pytest.approx(1)  # where everything is forgotten the step goes to z
    assert network.spread.grad is not None
    assert math.isfinite(float(network.spread.grad))


def test_both_halves_learn_by_the_bound_and_by_it_alone() -> None:
    network = Says(0.2, 0.1)
    denoiser = Denoiser(network, Gaussian(LinearBeta.rescaled(8)), "gated_mean", "free")
    x0, eps = torch.tensor([[0.5], [-0.1]], dtype=F64), torch.tensor([[0.3], [1.0]], dtype=F64)
    for t in (1.0, 2.0, 8.0):
        network.zero_grad()
        time = torch.full((2,), t, dtype=F64)
        Variational("normal", "reverse")(denoiser, x0, time, eps).sum().backward()
        for weight in (network.z, network.spread):
            assert weight.grad is not None
            assert math.isfinite(float(weight.grad))
            assert float(weight.grad) != 0
        for objective in (Simple(), MinSNR()):
            with pytest.raises(ValueError, match="variational"):
                objective(denoiser, x0, time, eps)


def test_at_t_1_it_learns_the_best_width_through_the_decoder() -> None:
    """The bound's slope at t = 1 is 0 where Sigma is the error of x0, and falls towards it from both sides."""
    process, v = Gaussian(LinearBeta.rescaled(8)), 0.05
    x0 = math.sqrt(v) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=F64)
    eps = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]], dtype=F64)
    beta = float(process.schedule.betas[0])
    best = math.log(v / (1 - v)) - math.log(beta / (1 - beta))
    slopes = []
    for spread in (best - 0.5, best, best + 0.5):
        network = Says(0.0, spread)  # always says 0, whose error is v
        denoiser = Denoiser(network, process, "x0", "free")
        Variational("normal", "reverse")(denoiser, x0, torch.ones(4, dtype=F64), eps).mean().backward()
        assert network.spread.grad is not None
        slopes.append(float(network.spread.grad))
    assert slopes[0] < -0.1
    assert slopes[1] == pytest.approx(0, abs=1e-9)
    assert slopes[2] > 0.1


def test_what_does_not_go_together_is_refused() -> None:
    process = Gaussian(Cosine(5))
    for variance in ("small", "large", "learned", "analytic"):
        with pytest.raises(ValueError, match="needs variance free"):
            Denoiser(nn.Identity(), process, "gated_mean", variance)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Denoiser(nn.Identity(), Gaussian(EDMSigma(5)), "x0", "free")
    with pytest.raises(ValueError, match="'tiny'"):
        Denoiser(nn.Identity(), process, "x0", "tiny")
