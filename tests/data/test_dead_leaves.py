"""The occlusion model against its theory."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from unstir.data import DataSpec, dead_leaves, inspect, load, toys
from unstir.errors import UserError

Z = 4.5  # standard errors


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    """Images without noise, (N, H, W)."""
    return toys.dead_leaves(700, noise=0.0)[..., 0].astype(np.float64)


def common(h: float, smallest: float, largest: float) -> float:
    """Mean area that a disc has in common with itself moved by h, radii of density ∝ r^-3, up to a constant."""

    def lens(r: float) -> float:
        if h >= 2 * r:
            return 0.0
        return 2 * r**2 * np.arccos(h / (2 * r)) - h / 2 * np.sqrt(4 * r**2 - h**2)

    edge = [h / 2] if smallest < h / 2 < largest else None
    return integrate.quad(lambda r: r**-3 * lens(r), smallest, largest, points=edge)[0]


@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (1, 0), (0, 3), (3, 4), (0, 16)])
def test_two_pixels_see_the_same_leaf_as_often_as_the_model_says(clean: np.ndarray, dy: int, dx: int) -> None:
    """The first leaf to hit either pixel hits both with probability γ(h) / (2 γ(0) - γ(h)), γ the common area
    (Lee, Mumford & Huang 2001)."""
    equal = clean[:, : 32 - dy, : 32 - dx] == clean[:, dy:, dx:]
    by_image = equal.mean(axis=(1, 2))  # images are independent, their pixels are not
    gamma, alone = (common(h, dead_leaves.SMALLEST, dead_leaves.LARGEST) for h in (float(np.hypot(dy, dx)), 0.0))
    expected = gamma / (2 * alone - gamma)
    assert abs(by_image.mean() - expected) < Z * by_image.std() / np.sqrt(len(by_image))


@pytest.mark.parametrize(("size", "smallest", "largest"), [(32, 2.0, 64.0), (2, 1.5, 40.0), (6, 1.0, 9.0)])
def test_radii_of_the_discs_that_can_be_seen_follow_their_density(size: int, smallest: float, largest: float) -> None:
    """∝ r^-3 times the area of the window grown by r."""
    u = np.random.default_rng(0).random((2, 100_000))
    r = dead_leaves._radii(*u, size, smallest, largest)
    edges = np.geomspace(smallest, largest, 41)
    masses = [integrate.quad(lambda r: r**-3 * (size + 2 * r) ** 2, a, b)[0] for a, b in pairwise(edges)]
    counts = np.histogram(r, edges)[0]
    assert counts.sum() == len(r)
    assert stats.chisquare(counts, np.array(masses) / sum(masses) * len(r)).pvalue > 1e-5


def test_neighbours_follow_their_law_whatever_the_window() -> None:
    """Small and large windows, narrow and wide ranges of radii."""
    for size, smallest, largest in ((2, 1.5, 40.0), (3, 1.0, 2.0), (48, 3.0, 6.0)):
        images = toys.dead_leaves(4000 if size < 9 else 150, size, smallest=smallest, largest=largest, noise=0)[..., 0]
        by_image = (images[:, :, 1:] == images[:, :, :-1]).mean(axis=(1, 2))
        gamma, alone = common(1, smallest, largest), common(0, smallest, largest)
        expected = gamma / (2 * alone - gamma)
        assert abs(by_image.mean() - expected) < Z * by_image.std() / np.sqrt(len(by_image))


def test_every_pixel_is_covered_by_a_uniform_grey(clean: np.ndarray) -> None:
    assert np.isfinite(clean).all()
    assert np.abs(clean).max() <= np.sqrt(3)
    uniform = stats.uniform(-np.sqrt(3), 2 * np.sqrt(3))
    for y, x in ((0, 0), (16, 16), (31, 5)):
        assert stats.kstest(clean[:, y, x], uniform.cdf).pvalue > 1e-5


def test_pixels_look_alike_wherever_they_are(clean: np.ndarray) -> None:
    """Nothing is different at the window's edge: boundaries are as frequent there as in the middle."""
    same = clean[:, :, 1:] == clean[:, :, :-1]
    edge, middle = same[:, :, [0, 30]].mean(axis=(1, 2)), same[:, :, 12:19].mean(axis=(1, 2))
    difference = edge - middle
    assert abs(difference.mean()) < Z * difference.std() / np.sqrt(len(difference))


def test_leaves_are_discs() -> None:
    """Of one radius that is large against the window, boundaries are arcs: rows change their grey rarely more than twice."""
    images = toys.dead_leaves(50, smallest=19.9, largest=20.1, noise=0)[..., 0]
    changes = (images[:, :, 1:] != images[:, :, :-1]).sum(axis=2)
    assert changes.mean() < 2


def test_pixels_have_variance_1_and_the_noise_that_was_asked_for() -> None:
    images = toys.dead_leaves(400, noise=0.5)[..., 0].astype(np.float64)
    by_image = np.square(images).mean(axis=(1, 2))
    assert abs(by_image.mean() - 1) < Z * by_image.std() / 20
    apart = images * np.sqrt(1.25) - toys.dead_leaves(400, noise=0)[..., 0]
    assert apart.std() == pytest.approx(0.5, rel=0.01)
    assert stats.kstest(apart.ravel()[:5000] / 0.5, "norm").pvalue > 1e-5
    assert abs((apart[:, :, 1:] * apart[:, :, :-1]).mean()) < 0.25 * Z / np.sqrt(apart.size)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The toy with fewer images; one item for every time that images are made."""
    calls: list[int] = []

    def fewer(n: int, **options: int) -> np.ndarray:
        calls.append(n)
        return dead_leaves.dead_leaves(n // 250, **options)

    monkeypatch.setattr(toys, "dead_leaves", fewer)
    return calls


def test_by_name_it_is_made_once_and_then_mapped(few: list[int]) -> None:
    first, second = load("dead-leaves"), load("dead-leaves")
    assert few == [10_000, 1_000]
    assert isinstance(second.train.x, np.memmap)
    assert first.spec == second.spec
    assert (len(second.train), len(second.heldout)) == (40, 4)
    np.testing.assert_array_equal(second.heldout.x, toys.dead_leaves(1000, seed=1))
    assert (second.spec.kind, second.spec.shape, second.spec.eight_bit) == ("image", (1, 32, 32), False)
    assert DataSpec.from_json(json.loads(json.dumps(second.spec.to_json()))) == second.spec


def test_a_size_is_refused_whether_cached_or_not(few: list[int]) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match="real-valued pictures, which keep their size; leave size and mode out"):
            load("dead-leaves", size=16)
        load("dead-leaves")


def test_without_a_cache_it_is_kept_in_memory(few: list[int], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    dataset = load("dead-leaves", cache=tmp_path / "file")
    assert len(dataset.train) == 40
    assert "kept in memory, because the cache cannot be used" in dataset.log[0]


def test_a_batch_is_scaled_channels_first_and_comes_back(few: list[int]) -> None:
    dataset = load("dead-leaves")
    x, labels = dataset.train.batch(np.array([3, 1]))
    assert (tuple(x.shape), labels) == ((2, 1, 32, 32), None)
    np.testing.assert_array_equal(x[:, 0].numpy(), dataset.train.x[[3, 1], :, :, 0])
    np.testing.assert_array_equal(dataset.spec.outside(x), dataset.train.x[[3, 1]])


def test_its_sheet_shows_greys(few: list[int]) -> None:
    found = inspect("dead-leaves")
    sheet = np.asarray(found.sheet(1))
    first = found.dataset.train.x[0, :, :, 0]
    expected = np.clip(np.rint((first / 2 + 1) * 127.5), 0, 255)
    np.testing.assert_array_equal(sheet[2:66:2, 2:66:2], expected)
