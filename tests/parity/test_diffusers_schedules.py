"""Our schedules beside those of diffusers that mean the same thing, to the float32 of their tables.

Their "sigmoid" is ours in beta (GeoDiff's), their "scaled_linear" our quadratic. They have no sigmoid in alpha_bar. Their
EDM sigmas fall from index 0; ours rise with t, so their i is our n - i.
"""

from __future__ import annotations

import pytest
import torch

from unstir.schedules import EDMSigma, Quadratic, Schedule, SigmoidAlphaBar, SigmoidBeta

diffusers = pytest.importorskip("diffusers")


def _theirs(name: str, T: int, beta_start: float, beta_end: float):
    return diffusers.DDPMScheduler(num_train_timesteps=T, beta_start=beta_start, beta_end=beta_end, beta_schedule=name)


@pytest.mark.parametrize("T", [50, 1000])
@pytest.mark.parametrize("ends", [(1e-4, 0.02), (0.00085, 0.012)], ids=str)
@pytest.mark.parametrize(("name", "kind"), [("sigmoid", SigmoidBeta), ("scaled_linear", Quadratic)])
def test_the_tables_agree_to_their_float32(name: str, kind: type, ends: tuple[float, float], T: int) -> None:
    ours: Schedule = kind(T, *ends)
    theirs = _theirs(name, T, *ends)
    torch.testing.assert_close(ours.betas.float(), theirs.betas, rtol=2e-5, atol=1e-8)
    torch.testing.assert_close(ours.alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=5e-5, atol=1e-8)


def test_their_sigmoid_is_not_the_one_in_alpha_bar() -> None:
    theirs = _theirs("sigmoid", 1000, 1e-4, 0.02)
    assert float((SigmoidAlphaBar(1000).alpha_bar[1:] - theirs.alphas_cumprod).abs().max()) > 0.1


@pytest.mark.parametrize("n", [2, 18, 40])
@pytest.mark.parametrize("rho", [7.0, 3.0])
def test_the_grid_of_sigmas_agrees(n: int, rho: float) -> None:
    theirs = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=rho)
    theirs.set_timesteps(n)
    ours = EDMSigma(n, 0.002, 80.0, rho).sigma(torch.arange(n, -1, -1))
    torch.testing.assert_close(ours.float(), theirs.sigmas, rtol=2e-5, atol=0)
