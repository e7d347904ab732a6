from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tests.reproduce import tiny
from unstir import data
from unstir.data import Dataset, DataSpec, Split
from unstir.data.codec import Codec, Scaling
from unstir.data.dead_leaves import NOISE
from unstir.data.dead_leaves import dead_leaves as windows
from unstir.reproduce import dead_leaves
from unstir.reproduce.experiment import Setting
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.schedules import FromBetas


def leaves() -> Dataset:
    scaling = Scaling((0.0,), 1.0)
    codec = Codec("image", scaling)
    spec = DataSpec("image", (1, 32, 32), False, (), "dead-leaves", "Leaves.", "hash", scaling)
    return Dataset(spec, Split(windows(24), None, codec), Split(windows(3, seed=1), None, codec), [])


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    made = leaves()
    monkeypatch.setattr(data, "load", lambda source: made)
    monkeypatch.setattr(dead_leaves, "T", 12)
    tiny.shorten(monkeypatch, dead_leaves)


def test_ours_steps_evenly_in_log_snr():
    chain = FromBetas(torch.tensor(dead_leaves.betas_even(), dtype=torch.float64))
    log_snr = chain.log_snr(torch.arange(1, dead_leaves.T + 1).double())
    assert chain.betas[0] == pytest.approx(dead_leaves.BETA_1)
    assert float(log_snr[-1]) == pytest.approx(-8)
    steps = log_snr.diff()
    assert steps.numpy() == pytest.approx(float(steps[0]) * np.ones(len(steps)), rel=1e-6)
    assert chain.prior_report() is None


def test_the_gaussians_density_is_scipys_with_the_covariance_of_all_eight_ways():
    train, heldout = windows(300, 4), windows(20, 4, seed=1)
    ways = [np.rot90(x, k, (1, 2)) for x in (train, train.swapaxes(1, 2)) for k in range(4)]
    flat = np.concatenate(ways).reshape(-1, 16).astype(np.float64)
    law = stats.multivariate_normal(flat.mean(0), np.cov(flat.T, bias=True))
    found = dead_leaves.gaussian_log2_density(train, heldout)
    np.testing.assert_allclose(found, law.logpdf(heldout.reshape(-1, 16)) / math.log(2), rtol=1e-4)
    np.testing.assert_allclose(found, dead_leaves.gaussian_log2_density(train, np.rot90(heldout, 1, (1, 2))), rtol=1e-4)


def test_the_ceiling_is_the_noises_entropy():
    deviation = NOISE / math.sqrt(1 + NOISE**2)
    assert dead_leaves.noise_bits() == pytest.approx(-stats.norm(scale=deviation).entropy() / math.log(2))


def test_quick_windows_are_the_quarters_of_the_whole_ones(little: None):
    whole, cut = dead_leaves.dataset(Setting(quick=False)), dead_leaves.dataset(Setting(quick=True))
    assert cut.train.x.shape == (96, 16, 16, 1)
    assert cut.spec.shape == (1, 16, 16)
    np.testing.assert_array_equal(cut.heldout.x[:3], whole.heldout.x[:, :16, :16])
    np.testing.assert_array_equal(cut.heldout.x[-3:], whole.heldout.x[:, 16:, 16:])


@pytest.mark.parametrize("quick", [True, False])
def test_every_variant_is_a_denoiser_of_windows_of_its_size(quick: bool):
    side = 16 if quick else 32
    for variant in dead_leaves.variants(Setting(quick=quick)):
        denoiser = denoiser_of(configs.from_dict(variant.config))
        x = torch.zeros(2, 1, side, side)
        assert denoiser.predict(x, torch.tensor([3.0, 1000.0]).double()).x0.shape == x.shape


def test_from_leaves_to_table(little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = tiny.carry_out("dead-leaves", tmp_path)
    names = [row.name for row in table.rows]
    assert table.columns == ("K (bits/pixel)", "K - L_null (bits/pixel)", "± over windows")
    assert names[2:4] == ["the paper's network", "ours"]
    rows = {row["name"]: row for row in table.to_json()["rows"]}
    assert rows["diffusion (paper, other leaves)"]["k_bits_pixel"] == 1.489
    assert rows["diffusion (paper, other leaves)"]["k_l_null_bits_pixel"] == 3.536
    for name in names[:4]:
        # L_null is the same for all that is measured on the same windows.
        null = rows[name]["k_bits_pixel"] - rows[name]["k_l_null_bits_pixel"]
        assert null == pytest.approx(-0.5 * math.log2(2 * math.pi * math.e), abs=0.4)
    assert "not used" in table.notes[0]
    assert all(Path(file).stat().st_size for file in table.files)
    tiny.forbid_training(monkeypatch)
    monkeypatch.setattr(dead_leaves, "_figures", lambda *_: table.files)
    assert tiny.carry_out("dead-leaves", tmp_path).to_json() == table.to_json()
