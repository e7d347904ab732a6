"""The swiss roll: its forty steps, and what is measured against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unstir.bound import variational_bound
from unstir.data import toys
from unstir.denoisers import GaussianMixtureDenoiser
from unstir.processes import Gaussian
from unstir.reproduce import swiss_roll
from unstir.reproduce.experiment import Setting
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.schedules import from_description


def test_the_schedule_has_forty_steps_and_ends_in_noise() -> None:
    schedule = from_description(swiss_roll.schedule(0.07))
    assert schedule.T == 40
    t = torch.arange(1, 41, dtype=torch.float64)
    assert bool((schedule.log_snr(t).diff() < 0).all())
    assert float(schedule.log_snr(1)) == pytest.approx(-2 * math.log(0.07) + 6)
    assert schedule.prior_report() is None


def test_the_exact_denoiser_is_short_of_the_truth_by_little() -> None:
    """The roll as a mixture of many narrow normals: with these forty steps and a variance fitted to data, K nearly is the truth."""
    from unstir.denoisers.analytic import analytic_variance

    noise = toys.SWISS_ROLL_NOISE
    thickness = toys.swiss_roll_thickness(noise)
    process = Gaussian(from_description(swiss_roll.schedule(thickness)))
    curve = toys.swiss_roll(400_000, 1e-9)  # points of the spiral itself, scaled by a hair less
    angles = np.linspace(0, len(curve) - 1, 300).astype(int)
    order = np.argsort(np.hypot(*(curve * math.sqrt(1 - thickness**2)).T))
    centres = torch.from_numpy(curve[order][angles] * math.sqrt(1 - thickness**2)).double()
    eye = torch.eye(2, dtype=torch.float64) * thickness**2
    weights = torch.full((300,), 1 / 300, dtype=torch.float64)
    x0 = torch.from_numpy(toys.swiss_roll(400, seed=1)).double()
    exact = GaussianMixtureDenoiser(process, weights, centres, eye.expand(300, 2, 2), "small")
    rule = analytic_variance(exact, torch.from_numpy(toys.swiss_roll(400)).double())
    fitted = GaussianMixtureDenoiser(process, weights, centres, eye.expand(300, 2, 2), rule)
    bound = variational_bound(fitted, x0, decoder="forward", draws=2)
    log_density = torch.from_numpy(toys.swiss_roll_log_density(x0.numpy())) / math.log(2)
    short, half = bound.interval(log_density - bound.k_bits, z=4)
    assert -half < short < 0.25 + half


def test_the_variants_make_denoisers() -> None:
    for variant in swiss_roll.variants(Setting()):
        denoiser = denoiser_of(configs.from_dict(variant.config))
        x = torch.randn(3, 2)
        prediction = denoiser.predict(x, 40)
        assert bool((prediction.variance(torch.full((3,), 39.0).double(), prediction.t) > 0).all())  # type: ignore[attr-defined]


def test_the_table_counts_from_the_truth(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swiss_roll, "_pictures", lambda folder, setting: tmp_path / "none.png")
    table = swiss_roll.report(
        {"ours": [{swiss_roll.SHORT: 0.05}, {swiss_roll.SHORT: 0.07}]}, tmp_path, Setting(seeds=2)
    )
    truth, *_, ours = table.to_json()["rows"]
    assert truth["k_bits"] == pytest.approx(-toys.swiss_roll_entropy_bits())
    assert ours["k_bits"] == pytest.approx(truth["k_bits"] - 0.06)
    assert ours["k_minus_null_bits"] == pytest.approx(ours["k_bits"] + math.log2(2 * math.pi * math.e))
