"""Our tables and steps beside those of diffusers' DDPMScheduler and DDIMScheduler, element by element.

Times: theirs are ours minus 1, and their "previous" -1 is our 0. To compare definitions rather than roundings, their
schedulers are given our float64 table in place of their float32 one, except where the tables themselves are compared.

Where the definitions differ, and so are not compared:

- DDIM with ``linspace``, or with ``trailing`` when n does not divide T: their step goes to ``t - T // n``, which is not the
  next time of their own grid (our pairs are: each s is the next t). Shown below, since it is the reason for Grid.
- DDIM clips x0 and keeps the unclipped eps by default: the pair no longer makes x_t. Ours derives eps again, as theirs
  does under ``use_clipped_model_output=True``.
- DDPM with ``trailing`` adds noise on the last step to t = 0 (it asks for t > 0, not for a previous t > 0); with
  ``fixed_large`` that leaves visible noise in the picture. Ours returns the mean at s = 0.
- DDPM's ``fixed_large_log`` takes the square root of a logarithm: NaN. Ours has one ``large``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from unstir.denoisers import Clipped, Condition, Denoiser, DenoiserBase
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, Sampler
from unstir.schedules import Cosine, LinearBeta, Schedule

diffusers = pytest.importorskip("diffusers")
F64 = torch.float64
SCHEDULES = {"linear": LinearBeta(), "squaredcos_cap_v2": Cosine()}
SAYS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class Given(nn.Module):
    """Says what it was told to."""

    def __init__(self, raw: Tensor) -> None:
        super().__init__()
        self.raw = raw

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return self.raw


class GivenNoise(NoiseSource):
    """Draws what it was told to."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(0, range(len(z)))
        self.z = z

    def normal(
        self, shape: Sequence[int], purpose: str, step: int | Tensor = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        return self.z.to(dtype)


def _randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def _theirs(kind: type, schedule_name: str, n: int, spacing: str, **options: object):
    scheduler = kind(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule=schedule_name,
        timestep_spacing=spacing,
        **{"clip_sample": False, **options},
    )
    scheduler.set_timesteps(n)
    scheduler.alphas_cumprod = SCHEDULES[schedule_name].alpha_bar[1:].clone()
    return scheduler


def _our_step(denoiser: DenoiserBase, sampler: Sampler, x: Tensor, t: float, s: float, z: Tensor) -> Tensor:
    state = sampler.start(x, torch.tensor([t, s], dtype=F64))
    return sampler.advance(state, denoiser.predict(*sampler.query(state)), GivenNoise(z)).x


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("T", [50, 1000])
def test_the_tables_agree_to_their_float32(name: str, T: int) -> None:
    ours: Schedule = LinearBeta(T) if name == "linear" else Cosine(T)
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T, beta_start=1e-4, beta_end=0.02, beta_schedule=name)
    torch.testing.assert_close(ours.betas.float(), theirs.betas, rtol=2e-5, atol=1e-8)
    torch.testing.assert_close(ours.alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("n", [1, 4, 7, 10, 13, 250, 1000])
def test_the_grids_agree(n: int) -> None:
    schedule = LinearBeta()
    theirs = _theirs(diffusers.DDIMScheduler, "linear", n, "leading", steps_offset=0).timesteps
    assert (Grid.leading(schedule, n).times[:-1] - 1).tolist() == theirs.tolist()
    if 1000 % n == 0:  # else a half is rounded up here and to even there
        theirs = _theirs(diffusers.DDIMScheduler, "linear", n, "trailing").timesteps
        assert (Grid.trailing(schedule, n).times[:-1] - 1).tolist() == theirs.tolist()


@pytest.mark.parametrize("name", SCHEDULES)
def test_noising_and_velocity_agree(name: str) -> None:
    schedule = SCHEDULES[name]
    theirs = _theirs(diffusers.DDPMScheduler, name, 1000, "leading")
    x0, eps = _randn(6, 3, 2, 2, seed=0), _randn(6, 3, 2, 2, seed=1)
    t = torch.tensor([1, 2, 300, 500, 999, 1000])
    ours = Gaussian(schedule).marginal(x0, t).sample(eps)
    torch.testing.assert_close(ours, theirs.add_noise(x0, eps, t - 1), rtol=1e-10, atol=1e-12)
    v = Denoiser(Given(eps), Gaussian(schedule), "v").parameterisation.target(x0, eps, t.double())
    torch.testing.assert_close(v, theirs.get_velocity(x0, eps, t - 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize(
    ("spacing", "n"), [("leading", 1000), ("leading", 7), ("leading", 50), ("trailing", 10), ("trailing", 1000)]
)
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_steps_agree(name: str, spacing: str, n: int, says: str, clip: bool) -> None:
    schedule = SCHEDULES[name]
    theirs = _theirs(
        diffusers.DDIMScheduler, name, n, spacing, prediction_type=SAYS[says], clip_sample=clip, set_alpha_to_one=True
    )
    x, raw, z = (_randn(2, 3, 2, 2, seed=seed) for seed in range(3))
    denoiser: DenoiserBase = Denoiser(Given(raw), Gaussian(schedule), says)
    denoiser = Clipped(denoiser) if clip else denoiser
    pairs = Grid.named(spacing, schedule, n).pairs()
    for t, s in (pairs[0], pairs[len(pairs) // 2], pairs[-1]):
        for eta in (0.0, 0.4, 1.0):
            expected = theirs.step(
                raw, int(t) - 1, x, eta=eta, use_clipped_model_output=clip, variance_noise=z if eta else None
            ).prev_sample
            ours = _our_step(denoiser, DDIM(eta), x, t, s, z)
            torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
@pytest.mark.parametrize(
    ("ours", "type_name"), [("small", "fixed_small"), ("large", "fixed_large"), ("learned", "learned_range")]
)
@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize(("spacing", "n"), [("leading", 1000), ("leading", 7), ("leading", 50), ("trailing", 1000)])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ddpm_steps_agree(name: str, spacing: str, n: int, says: str, ours: str, type_name: str, clip: bool) -> None:
    schedule = SCHEDULES[name]
    theirs = _theirs(
        diffusers.DDPMScheduler, name, n, spacing, prediction_type=SAYS[says], clip_sample=clip, variance_type=type_name
    )
    x, raw = _randn(2, 3, 2, 2, seed=0), _randn(2, 3, 2, 2, seed=1)
    if ours == "learned":
        raw = torch.cat([raw, _randn(2, 3, 2, 2, seed=2).tanh()], 1)
    denoiser: DenoiserBase = Denoiser(Given(raw), Gaussian(schedule), says, variance=ours)
    denoiser = Clipped(denoiser) if clip else denoiser
    pairs = Grid.named(spacing, schedule, n).pairs()
    for t, s in (pairs[0], pairs[len(pairs) // 2], pairs[-2], pairs[-1]):
        generator = torch.Generator().manual_seed(9)
        expected = theirs.step(raw, int(t) - 1, x, generator=generator).prev_sample
        z = _randn(*(raw.shape if ours != "learned" else x.shape), seed=9)
        found = _our_step(denoiser, Ancestral(), x, t, s, z)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_their_strides_leave_their_own_grid(spacing: str) -> None:
    """Why ours are explicit pairs: at n = 7 their step lands on a time at which the next one does not begin."""
    theirs = _theirs(diffusers.DDIMScheduler, "linear", 7, spacing)
    times = theirs.timesteps.tolist()
    stride = 1000 // 7
    assert any(t - stride != following for t, following in itertools.pairwise(times))
    x, raw = _randn(1, 1, 2, 2, seed=0), _randn(1, 1, 2, 2, seed=1)
    denoiser = Denoiser(Given(raw), Gaussian(LinearBeta()))
    t, following = next((t, s) for t, s in itertools.pairwise(times) if t - stride != s)
    step = theirs.step(raw, t, x).prev_sample
    where_it_lands = _our_step(denoiser, DDIM(), x, t + 1, t + 1 - stride, x)
    where_it_should = _our_step(denoiser, DDIM(), x, t + 1, following + 1, x)
    torch.testing.assert_close(step, where_it_lands, rtol=1e-9, atol=1e-9)
    assert float((step - where_it_should).abs().max()) > 1e-6


def test_their_trailing_ddpm_leaves_noise_in_the_end() -> None:
    """With fixed_large, by sigma of the last time: .32 at ten steps, 41 grey levels of 255."""
    theirs = _theirs(diffusers.DDPMScheduler, "linear", 10, "trailing", variance_type="fixed_large")
    x, raw = _randn(1, 1, 2, 2, seed=0), _randn(1, 1, 2, 2, seed=1)
    found = theirs.step(raw, 99, x, generator=torch.Generator().manual_seed(9)).prev_sample
    ours = _our_step(Denoiser(Given(raw), Gaussian(LinearBeta()), variance="large"), Ancestral(), x, 100, 0, x)
    left = LinearBeta().sigma(100) * _randn(1, 1, 2, 2, seed=9)
    torch.testing.assert_close(found, ours + left, rtol=1e-8, atol=1e-9)
