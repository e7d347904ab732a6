"""Toys against their written laws: densities, entropies, patterns."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from unstir.data import inspect, load, toys
from unstir.errors import UserError

Z = 4.5  # standard errors: a right result passes but once in 150,000 seeds


def grid(step: float, reach: float) -> np.ndarray:
    side = np.arange(-reach, reach, step)
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


@pytest.mark.parametrize(("log_density", "noise"), [(toys.swiss_roll_log_density, 1.0), (toys.moons_log_density, 0.3)])
def test_densities_integrate_to_one_with_mean_0_and_variance_1(log_density: Callable, noise: float) -> None:
    x, step = grid(0.05, 5.0), 0.05
    weights = np.exp(log_density(x, noise)) * step**2
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(weights @ x, [0, 0], atol=1e-6)
    assert weights @ np.square(x).sum(1) / 2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("log_density", "entropy", "noise"),
    [
        (toys.swiss_roll_log_density, toys.swiss_roll_entropy_bits, 1.0),
        (toys.moons_log_density, toys.moons_entropy_bits, 0.3),
    ],
)
def test_entropy_is_the_integral_of_the_density_on_another_grid(
    log_density: Callable, entropy: Callable, noise: float
) -> None:
    log_p = log_density(grid(0.05, 5.0), noise)
    assert entropy(noise) == pytest.approx(-np.sum(np.exp(log_p) * log_p) * 0.05**2 / np.log(2), abs=1e-6)


@pytest.mark.parametrize("noise", [2.0, 0.5, 0.1])
def test_the_rolls_entropy_is_its_mean_surprise(noise: float) -> None:
    bits = -toys.swiss_roll_log_density(toys.swiss_roll(3000, noise, seed=3), noise) / np.log(2)
    assert abs(bits.mean() - toys.swiss_roll_entropy_bits(noise)) < Z * bits.std() / np.sqrt(len(bits))


def test_the_moons_entropy_is_their_mean_surprise() -> None:
    bits = -toys.moons_log_density(toys.moons(3000, seed=3)[0]) / np.log(2)
    assert abs(bits.mean() - toys.moons_entropy_bits()) < Z * bits.std() / np.sqrt(len(bits))


def test_a_thin_roll_has_the_entropy_of_its_length_and_thickness() -> None:
    """Across the curve it is Gaussian; along it the density is 1/(3π |c'|), |c'|² = 1 + phi²."""
    noise = 0.03
    phi = np.linspace(1.5 * np.pi, 4.5 * np.pi, 100_001)
    along = np.log2(3 * np.pi) + np.trapezoid(np.log2(1 + phi**2) / 2, phi) / (3 * np.pi)
    across = np.log2(2 * np.pi * np.e * noise**2) / 2
    mean = np.array([np.trapezoid(phi * f(phi), phi) for f in (np.cos, np.sin)]) / (3 * np.pi)
    square = np.trapezoid(phi**2, phi) / (3 * np.pi)
    scale = np.log2((square - mean @ mean) / 2 + noise**2)  # twice the logarithm of the square root
    assert toys.swiss_roll_entropy_bits(noise) == pytest.approx(along + across - scale, abs=2e-3)


def test_the_density_of_one_point_is_the_mixture_it_is_defined_by() -> None:
    noise, z = 0.5, np.array([[0.3, -1.1], [1.2, 0.4], [6.0, 6.0]])
    phi = np.linspace(1.5 * np.pi, 4.5 * np.pi, 400_001)
    mean = np.array([2.0, 2 / (3 * np.pi)])
    scale = np.sqrt((9.75 * np.pi**2 - mean @ mean) / 2 + noise**2)
    curve = phi[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=1)
    for point, log_p in zip(z, toys.swiss_roll_log_density(z, noise)):
        exponents = -np.square(scale * point + mean - curve).sum(1) / (2 * noise**2)
        most = exponents.max()
        integral = np.trapezoid(np.exp(exponents - most), phi) / (3 * np.pi)
        assert log_p == pytest.approx(most + np.log(integral * scale**2 / (2 * np.pi * noise**2)), rel=1e-10)


def test_rolls_are_scaled_to_variance_1() -> None:
    for noise in (0.5, 3.0):
        z = toys.swiss_roll(100_000, noise).astype(np.float64)
        np.testing.assert_allclose([*z.mean(0), np.square(z).mean()], [0, 0, 1], atol=0.02)


def test_moons_are_labelled_by_which_they_are() -> None:
    z, labels = toys.moons(4000, noise=1e-3)
    x = z * np.sqrt(21 / 32 - 1 / (2 * np.pi) + 1e-6) + [0.5, 0.25]
    for label, centre, side in ((0, [0, 0], 1), (1, [1, 0.5], -1)):
        away = x[labels == label] - centre
        np.testing.assert_allclose(np.hypot(*away.T), 1, atol=6e-3)
        assert (side * away[:, 1] > -6e-3).all()
    assert stats.binomtest(int(labels.sum()), 4000).pvalue > 1e-5


def test_heartbeats_are_exactly_the_five_sequences() -> None:
    x = toys.heartbeat(5000)
    assert (x.dtype, x.shape) == (np.bool_, (5000, 20))
    possible = {tuple(bool(i % 5 == phase) for i in range(20)) for phase in range(5)}
    found, counts = np.unique(x, axis=0, return_counts=True)
    assert {tuple(map(bool, row)) for row in found} == possible
    assert stats.chisquare(counts).pvalue > 1e-5
    assert (x.sum(1) == 4).all()
    assert toys.heartbeat_entropy_bits() == np.log2(5)
    odd = toys.heartbeat(200, length=7, period=3)
    assert {tuple(np.flatnonzero(row)) for row in odd} == {(0, 3, 6), (1, 4), (2, 5)}


def test_a_seed_names_the_same_items_for_every_number_of_them() -> None:
    makers: list[Callable] = [
        toys.swiss_roll,
        toys.heartbeat,
        toys.dead_leaves,
        lambda n, seed: toys.moons(n, seed=seed)[0],
    ]
    for make in makers:
        few, many, other = make(3, seed=7), make(5, seed=7), make(3, seed=8)
        np.testing.assert_array_equal(few, many[:3])
        assert len(make(0, seed=7)) == 0
        assert make is toys.heartbeat or not np.isin(few, other).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toys.swiss_roll(5, noise=0), "noise is a positive number, not 0"),
        (lambda: toys.swiss_roll(5, seed=-1), "a seed is a whole number"),
        (lambda: toys.swiss_roll_entropy_bits(-1), "noise is a positive number"),
        (lambda: toys.swiss_roll_log_density(np.zeros(2)), r"expected points \(N, 2\)"),
        (lambda: toys.heartbeat(5, length=3), "a period of 5 does not fit into 3 bins"),
        (lambda: toys.dead_leaves(1, smallest=5, largest=5), "0 < smallest < largest"),
        (lambda: toys.dead_leaves(1, size=0), "side 0"),
        (lambda: load("swiss-rol"), "digits, swiss-roll, moons, heartbeat, dead-leaves"),
        (lambda: load("heartbeat", size=8), "holds bits, which have no pixels; leave size and mode out"),
    ],
)
def test_what_cannot_be_made_is_one_clear_line(call: Callable, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind", "shape", "numbers"),
    [
        ("swiss-roll", "points", (2,), (100_000, 10_000)),
        ("moons", "points", (2,), (20_000, 2_000)),
        ("heartbeat", "bits", (20,), (20_000, 2_000)),
    ],
)
def test_toys_by_name(name: str, kind: str, shape: tuple, numbers: tuple, cache_of_its_own: Path) -> None:
    dataset = load(name)
    spec = dataset.spec
    assert (spec.kind, spec.shape, spec.source, spec.eight_bit) == (kind, shape, name, False)
    assert (len(dataset.train), len(dataset.heldout)) == numbers
    assert load(name).spec.hash == spec.hash
    assert list(cache_of_its_own.iterdir()) == []
    if kind == "points":
        assert not {row.tobytes() for row in dataset.heldout.x} & {row.tobytes() for row in dataset.train.x}
        np.testing.assert_array_equal(dataset.train.batch(np.arange(9))[0].numpy(), dataset.train.x[:9])


def test_moons_have_two_classes() -> None:
    dataset = load("moons")
    assert dataset.spec.classes == ("upper", "lower")
    assert set(inspect("moons").classes) == {"upper", "lower"}
    assert dataset.train.x[dataset.train.labels == 0][:, 1].mean() > 0.3


def test_a_path_of_a_toys_name_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("./moons", Path("moons"), f".{os.sep}heartbeat"):
        with pytest.raises(UserError, match="no such file or folder"):
            load(path)


def test_a_name_wins_over_a_folder_as_with_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heartbeat").mkdir()
    assert load("heartbeat").spec.kind == "bits"
    with pytest.raises(UserError, match="no pictures in it"):
        load("./heartbeat")


def test_the_hash_is_of_both_parts() -> None:
    """Not the content alone: which rows are held out counts, too."""
    dataset = load("heartbeat")
    total = hashlib.sha256()
    for x in (dataset.train.x, dataset.heldout.x):
        total.update(f"|b1{x.shape};".encode() + x.tobytes() + b"none;")
    assert dataset.spec.hash == total.hexdigest()
