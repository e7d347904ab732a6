"""Training of schedules, on data whose exact denoiser is known on every schedule."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles.denoisers import gaussian_denoiser
from tests.schedules.test_learned import numeric
from unstir.bound import variational_bound
from unstir.denoisers import GaussianMixtureDenoiser
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Gaussian
from unstir.schedule_fit import diffusion_nats, ends_nats, fit_betas, fit_log_snr, frozen_noise, k_bits
from unstir.schedules import Learned, LinearBeta, MonotoneLogSNR, Schedule

F64 = torch.float64
MEANS, SPREAD = (-0.9, 0.9), math.sqrt(1 - 0.81)  # two bumps of unit mean square together
V = 0.5


def mixture(schedule: Schedule, variance: str = "small") -> GaussianMixtureDenoiser:
    return GaussianMixtureDenoiser(
        Gaussian(schedule),
        torch.full((2,), 0.5, dtype=F64),
        torch.tensor(MEANS, dtype=F64)[:, None],
        torch.full((2, 1, 1), SPREAD**2, dtype=F64),
        variance,
    )


def points(n: int, seed: int) -> Tensor:
    """Draws from the mixture, (n, 1)."""
    noise = NoiseSource(seed, range(n))
    side = noise.uniform((1,), "side") < 0.5
    return torch.where(side, *MEANS) + SPREAD * noise.normal((1,), "spread", dtype=F64)


def test_k_is_the_bounds_own() -> None:
    """The 2015 number of `variational_bound`, on the same draws."""
    denoiser = mixture(LinearBeta.rescaled(12), "large")
    x0, signs = points(6, 0), torch.tensor([1.0, -1.0] * 3, dtype=F64)
    bound = variational_bound(denoiser, x0, decoder="forward", noise=TwoPoint(signs))
    found = k_bits(denoiser, x0, signs[None, :, None].expand(11, 6, 1))
    torch.testing.assert_close(found, bound.k_bits, rtol=1e-11, atol=1e-11)


def test_k_of_a_single_step_is_its_entropies() -> None:
    """T = 1: K = -H_p(x_1) / ln 2, whatever the denoiser."""
    x0 = points(4, 0)
    found = k_bits(mixture(Learned(1, 0.3)), x0, frozen_noise(x0, 1))
    torch.testing.assert_close(found, torch.full((4,), -0.5 * math.log2(2 * math.pi * math.e), dtype=F64))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_gradient_of_k_is_that_of_finite_differences(variance: str) -> None:
    x0 = points(5, 1)
    schedule = Learned(6, 0.02)
    denoiser, eps = mixture(schedule, variance), frozen_noise(x0, 6)
    (found,) = torch.autograd.grad(k_bits(denoiser, x0, eps).mean(), schedule.parameters())
    expected = numeric(lambda: k_bits(denoiser, x0, eps).mean(), schedule.logits)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert float(found.abs().min()) > 1e-6


@pytest.mark.parametrize(
    ("start", "variance"),
    [(Learned(8, 0.02), "small"), (Learned.from_schedule(LinearBeta.rescaled(8)), "large")],
    ids=["own start", "linear start"],
)
def test_learned_betas_raise_k(start: Learned, variance: str) -> None:
    """Also on data and noise that the training did not see; beta_1 stays, and every beta stays inside (0, 1)."""
    x0, kept = points(256, 2), start.logits.detach().clone()
    fit = fit_betas(lambda s: mixture(s, variance), start, x0, updates=30, learning_rate=0.2)
    learned = fit.schedule.betas.detach()
    assert bool(((learned > 0) & (learned < 1)).all())
    assert float(learned[0]) == start.first_beta
    assert torch.equal(start.logits, kept)
    watched = fit.history["k_bits"]
    assert watched[-1] > watched[0] + 0.02
    fresh = points(1000, 3)
    eps = frozen_noise(fresh, 8, NoiseSource(5, range(1000)))
    with torch.no_grad():
        before, after = (k_bits(mixture(s, variance), fresh, eps).mean() for s in (start, fit.schedule))
    assert float(after) > float(before) + (0.5 if variance == "small" else 0.01)
    # and K of the exact denoiser stays below the data's own: a bound, since the data's mean square is the prior's
    truth = mixture(start).log_prob(fresh, 0).mean() / math.log(2)
    assert float(after) < float(truth.detach())


def test_with_the_exact_reverse_k_has_no_slope() -> None:
    """Data N(0, 1) never changes along the chain, and `large` is then the exact variance: every schedule loses nothing."""
    schedule = Learned(5, 0.05)
    # every sign of x0 and eps: exact means of squares
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=2)), dtype=F64)
    denoiser = gaussian_denoiser(Gaussian(schedule), 0.0, 1.0, "large")
    k = k_bits(denoiser, signs[:, :1], signs[:, 1:].expand(4, 4, 1)).mean()
    assert float(k.detach()) == pytest.approx(-0.5 * math.log2(2 * math.pi * math.e), rel=1e-12)
    (slope,) = torch.autograd.grad(k, schedule.parameters())
    torch.testing.assert_close(slope, torch.zeros(4, dtype=F64), rtol=0, atol=1e-12)


def _nodes(of: str) -> tuple[Tensor, Tensor, Tensor]:
    """x0, eps and their probabilities: Gauss's quadrature of the data and of the noise, all pairs."""
    x, w = np.polynomial.hermite_e.hermegauss(12)
    w = w / w.sum()
    at, share = (
        (math.sqrt(V) * x, w)
        if of == "gaussian"
        else (np.concatenate([m + SPREAD * x for m in MEANS]), np.tile(w, 2) / 2)
    )
    x0, eps = (torch.tensor(a.flatten()) for a in np.meshgrid(at, x, indexing="ij"))
    return x0[:, None], eps[:, None], torch.tensor(np.outer(share, w).flatten())


def _exact(schedule: Schedule, of: str) -> GaussianMixtureDenoiser:
    return gaussian_denoiser(Gaussian(schedule), 0.0, V) if of == "gaussian" else mixture(schedule)


@torch.no_grad()
def _moments(schedule: MonotoneLogSNR, of: str) -> tuple[float, float]:
    """Mean and variance of one draw of the diffusion part, by quadrature over u, x0 and eps."""
    x0, eps, mass = _nodes(of)
    legendre, share = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(80))
    u = ((legendre + 1) / 2).repeat_interleave(len(x0))
    draws = diffusion_nats(_exact(schedule, of), x0.repeat(80, 1), u, eps.repeat(80, 1))
    mass = (share[:, None] / 2 * mass).flatten()
    mean = float((draws * mass).sum())
    return mean, float((draws**2 * mass).sum()) - mean**2


def _bent(seed: int) -> MonotoneLogSNR:
    wild = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))
    spread, centre = torch.tensor([[1.0], [3.0], [0.3]]), torch.tensor([[0.0], [8.0], [0.5]])
    return MonotoneLogSNR(50, (-6.0, 6.0), interior=centre + spread * wild)


@pytest.mark.parametrize("of", ["gaussian", "mixture"])
def test_the_expected_bound_knows_only_the_ends(of: str) -> None:
    """Kingma et al. 2021, eq. 18: the interior changes the draws, not their mean."""
    found = [_moments(_bent(seed), of) for seed in range(4)]
    means, variances = zip(*found)
    assert means == pytest.approx([means[0]] * 4, rel=2e-5)
    assert max(variances) > 1.2 * min(variances)
    if of == "gaussian":
        # ½ ∫ E|eps - eps_hat|² dgamma with E|…|² = V / (V + e^gamma)
        closed = 0.5 * math.log(
            (V + math.exp(6)) * math.exp(-6) / ((V + math.exp(-6)) * math.exp(6)) * math.exp(12) / 1
        )
        closed = 0.5 * (math.log(V * math.exp(6) + 1) - math.log(V * math.exp(-6) + 1))
        assert means[0] == pytest.approx(closed, rel=2e-5)


@pytest.mark.parametrize("of", ["gaussian", "mixture"])
def test_the_inner_objective_lowers_the_variance_and_keeps_the_mean(of: str) -> None:
    start = MonotoneLogSNR(50, (-6.0, 6.0), width=12)
    x0 = points(256, 4)
    if of == "gaussian":
        x0 = math.sqrt(V) * torch.randn(256, 1, dtype=F64, generator=torch.Generator().manual_seed(0))
    fit = fit_log_snr(lambda s: _exact(s, of), start, x0, updates=80, learning_rate=0.15, ends=False)
    (mean, variance), (mean_after, variance_after) = _moments(start, of), _moments(fit.schedule, of)
    assert torch.equal(fit.schedule.ends, start.ends)
    assert mean_after == pytest.approx(mean, rel=2e-4)
    assert variance_after < 0.7 * variance
    if of == "gaussian":
        # By Cauchy and Schwarz no interior does better than a steady gamma'(u) E|eps - eps_hat|²; a draw is then that times
        # a chi-square of one, of variance 2 mean². The fit comes near.
        assert 2 * mean**2 <= variance_after < 1.2 * 2 * mean**2


def test_learned_ends_lower_the_bound() -> None:
    """From ends that see too little of the data and forget too little of it; the given schedule stays as it was."""
    start, x0 = MonotoneLogSNR(50, (-1.0, 1.0), width=8), points(128, 5)
    kept = start.describe()
    fit = fit_log_snr(mixture, start, x0, updates=60, learning_rate=0.2)
    assert start.describe() == kept
    assert float(fit.schedule.ends[0].detach()) < -2
    assert float(fit.schedule.ends[1].detach()) > 1.2

    @torch.no_grad()
    def bound(schedule: MonotoneLogSNR) -> float:
        nodes, eps, mass = _nodes("mixture")
        return _moments(schedule, "mixture")[0] + float((ends_nats(mixture(schedule), nodes, eps) * mass).sum())

    nodes, _, mass = _nodes("mixture")
    entropy = -float((mixture(LinearBeta()).log_prob(nodes, 0) * mass).sum())
    assert entropy < bound(fit.schedule) < bound(start) - 0.08


def test_many_steps_approach_the_continuous_bound() -> None:
    """The frozen chain's own steps, with the posterior's variance, fall to the continuous-time part at rate 1/T."""
    gaps = []
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=2)), dtype=F64)
    for T in (26, 51, 101):
        schedule = MonotoneLogSNR(T, (-6.0, 6.0), width=4)
        frozen = gaussian_denoiser(Gaussian(schedule.freeze()), 0.0, V)
        bound = variational_bound(frozen, math.sqrt(V) * signs[:, :1], decoder="normal", noise=TwoPoint(signs[:, 1]))
        gaps.append(float(bound.steps.sum(1).mean()) - _moments(schedule, "gaussian")[0])
    assert gaps[0] > gaps[1] > gaps[2] > 0
    ratios = [a / b for a, b in itertools.pairwise(gaps)]
    assert ratios == pytest.approx([2, 2], abs=0.16)
    assert abs(ratios[1] - 2) < abs(ratios[0] - 2)


def test_frozen_noise_is_keyed_by_sample_and_step() -> None:
    x0 = torch.zeros(5, 2, dtype=F64)
    drawn = frozen_noise(x0, 4, NoiseSource(3, range(5)))
    assert drawn.shape == (3, 5, 2)
    assert torch.equal(drawn[:, 2:4], frozen_noise(x0[:2], 4, NoiseSource(3, [2, 3])))
    assert not torch.equal(drawn[0], drawn[1])


def test_what_does_not_fit_is_refused() -> None:
    x0 = points(3, 0)
    with pytest.raises(ValueError, match="noise of shape"):
        k_bits(mixture(Learned(4)), x0, torch.zeros(4, 3, 1, dtype=F64))
    with pytest.raises(ValueError, match="with a gamma, not LinearBeta"):
        diffusion_nats(mixture(LinearBeta()), x0, torch.full((3,), 0.5, dtype=F64), torch.zeros(3, 1, dtype=F64))


def test_no_call_edits_its_inputs() -> None:
    x0, u = points(3, 0), torch.tensor([0.1, 0.5, 1.0], dtype=F64)
    eps = frozen_noise(x0, 4)
    kept = [a.clone() for a in (x0, u, eps)]
    k_bits(mixture(Learned(4)), x0, eps)
    diffusion_nats(mixture(_bent(0)), x0, u, eps[0])
    ends_nats(mixture(_bent(0)), x0, eps[0])
    fit_betas(mixture, Learned(4), x0, updates=1)
    fit_log_snr(mixture, _bent(0), x0, updates=1)
    assert all(torch.equal(a, b) for a, b in zip(kept, (x0, u, eps)))
