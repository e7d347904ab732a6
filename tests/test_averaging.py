"""Averages that were stored on the way make the ones that were not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.integrate import quad

import unstir
from tests import small
from unstir.averaging import combination, gamma_of, overlap
from unstir.errors import UserError
from unstir.runs import Run
from unstir.runs.averages import WIDTHS, reconstruct, stored
from unstir.training.ema import PowerEMA


def profile(tau: np.ndarray | float, t: float, gamma: float) -> np.ndarray:
    inside = np.asarray(tau, dtype=np.float64)
    return np.where(inside <= t, (gamma + 1) * (inside / t) ** gamma / t, 0.0)


@pytest.mark.parametrize("a", [(1.0, 6.9), (0.3, 16.0), (0.7, 1.5)])
@pytest.mark.parametrize("b", [(1.0, 6.9), (0.5, 0.0), (0.9, 40.0)])
def test_the_overlap_is_the_integral(a: tuple[float, float], b: tuple[float, float]) -> None:
    end = min(a[0], b[0])
    expected = quad(lambda tau: float(profile(tau, *a) * profile(tau, *b)), 0, end, epsabs=1e-13, epsrel=1e-12)[0]
    assert overlap(a, b) == pytest.approx(expected, rel=1e-10)
    assert overlap(b, a) == pytest.approx(overlap(a, b), rel=1e-14)


def snapshots(number: int, t: float = 1.0) -> list[tuple[float, float]]:
    return [(t * (k + 1) / number, gamma_of(width)) for k in range(number) for width in WIDTHS]


@pytest.mark.parametrize("width", [0.03, 0.07, 0.15, 0.25])
def test_no_other_shares_come_nearer(width: float) -> None:
    """The distance is what it says, by quadrature; and to first order no change that keeps the sum lowers it."""
    parts, wanted = snapshots(6), (1.0, gamma_of(width))
    x, left = combination(parts, wanted)
    assert x.sum() == pytest.approx(1, abs=1e-9)
    tau = (np.arange(400_000) + 0.5) / 400_000

    def distance(shares: np.ndarray) -> float:
        gap = sum(share * profile(tau, *part) for share, part in zip(shares, parts)) - profile(tau, *wanted)
        return float(np.sqrt((gap**2).mean() / (profile(tau, *wanted) ** 2).mean()))

    assert distance(x) == pytest.approx(left, rel=1e-3, abs=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(5):
        change = rng.normal(size=len(x))
        assert distance(x + 1e-2 * (change - change.mean())) > left


@pytest.mark.parametrize("width", WIDTHS)
def test_what_was_stored_comes_back_alone(width: float) -> None:
    x, left = combination(snapshots(8, 1234.0), (1234.0, gamma_of(width)))
    expected = np.zeros(16)
    expected[14 + WIDTHS.index(width)] = 1
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert left < 1e-6


def test_more_stored_come_nearer() -> None:
    for width in (0.03, 0.15, 0.25):
        left = [combination(snapshots(number), (1.0, gamma_of(width)))[1] for number in (2, 4, 8, 16)]
        assert left == sorted(left, reverse=True)
        assert left[-1] < 0.25 * left[0]


@pytest.mark.parametrize("width", [0.05, 0.08, 0.15, 0.2])
def test_it_is_the_average_that_was_not_kept(width: float) -> None:
    """Of weights that wander at random, against the very average followed all the way."""
    n, number = 800, 16
    history = np.random.default_rng(1).normal(size=(n, 200)).cumsum(0) / n**0.5
    followed = PowerEMA([torch.zeros(200)], width)
    emas = [PowerEMA([torch.zeros(200)], w) for w in WIDTHS]
    kept, profiles = [], []
    for i, row in enumerate(history, start=1):
        for ema in (followed, *emas):
            ema.update([torch.from_numpy(row)])
        if i * number % n == 0:
            kept += [ema.values[0].double().numpy() for ema in emas]
            profiles += [(float(i), ema.gamma) for ema in emas]
    x, _ = combination(profiles, (float(n), followed.gamma))
    gap = np.stack(kept).T @ x - followed.values[0].double().numpy()
    spread = followed.values[0].double().numpy() - history[-1]
    assert np.sqrt((gap**2).mean()) < 0.02 * np.sqrt((spread**2).mean())


# --- in a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small.train(tmp_path_factory.mktemp("averages") / "run", "digits", 320, averages=4)


def test_a_run_stores_them_at_even_places(run: Run) -> None:
    assert [(one.images, one.width) for one in stored(run)] == [(n, w) for n in (80, 160, 240, 320) for w in WIDTHS]
    assert [one.updates for one in stored(run)] == [images // 8 for images in (80, 160, 240, 320) for _ in WIDTHS]


def test_the_width_that_was_followed_anyway_comes_back(run: Run, tmp_path: Path) -> None:
    left = reconstruct(run, 0.1, tmp_path / "again.safetensors")
    assert left < 1e-6
    made, kept = load_file(tmp_path / "again.safetensors"), load_file(run.model)
    for name, value in kept.items():
        torch.testing.assert_close(made[name], value, rtol=2e-3, atol=1e-6)  # stored in half precision
    model = unstir.load(tmp_path / "again.safetensors")
    assert model.images == 320
    assert model.sample(2, steps=2).shape == (2, 8, 8, 1)
    reconstruct(run, 0.2, tmp_path / "other.safetensors")
    assert unstir.load(tmp_path / "other.safetensors").config.ema_width == 0.2


def test_continued_from_a_checkpoint_they_are_the_same(tmp_path: Path) -> None:
    settings, dataset = small.config(averages=4), small.pictures()
    whole, first = small.trainer(settings, dataset), small.trainer(settings, dataset)
    for _ in range(7):
        whole.update()
    for _ in range(3):
        first.update()
    again = small.trainer(settings, dataset)
    again.restore(first.checkpoint())
    for _ in range(4):
        again.update()
    for part in ("ema", "ema-0.05", "ema-0.1"):
        assert again.emas[part].updates == 7
        assert all(torch.equal(a, b) for a, b in zip(whole.emas[part].values, again.emas[part].values))


def test_what_cannot_be_made_is_said(run: Run, tmp_path: Path) -> None:
    for width in (0.0, 0.3, float("nan")):
        with pytest.raises(UserError, match="width"):
            reconstruct(run, width, tmp_path / "x.safetensors")
    without = small.train(tmp_path / "without", "digits", 16)
    with pytest.raises(UserError, match="--averages 8"):
        reconstruct(without, 0.1, tmp_path / "x.safetensors")
    (without.path / "averages").mkdir()
    save_file(
        {"w": torch.ones(2)}, without.path / "averages" / "0000000016-0.05.safetensors", {"other": json.dumps({})}
    )
    with pytest.raises(UserError, match=r"0000000016-0.05.safetensors is damaged"):
        reconstruct(without, 0.1, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_a_flipped_bit_is_noticed(run: Run, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
    path = stored(copy)[-1].path
    content = bytearray(path.read_bytes())
    content[-9] ^= 64
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match its checksum"):
        reconstruct(copy, 0.07, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
