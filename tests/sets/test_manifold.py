"""Precision, recall, density and coverage: by hand, by brute force, and what they are on average between equal laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstir.sets import manifold
from unstir.sets.manifold import Overlap, precision_recall


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def brute_force(real: Tensor, fake: Tensor, k: int, density_k: int) -> Overlap:
    """The definitions, a pair at a time, distances from differences."""
    x, y = real.numpy(), fake.numpy()
    slack = 1 + 1e-9

    def radius(points: np.ndarray, i: int, k: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - p)) for j, p in enumerate(points) if j != i)[k - 1] * slack

    def inside(centres: np.ndarray, k: int, others: np.ndarray) -> np.ndarray:
        radii = [radius(centres, i, k) for i in range(len(centres))]
        return np.array([[np.linalg.norm(c - o) <= r for o in others] for c, r in zip(centres, radii)])

    wide = inside(x, density_k, y)
    return Overlap(
        precision=float(inside(x, k, y).any(0).mean()),
        recall=float(inside(y, k, x).any(0).mean()),
        density=float(wide.sum() / (density_k * len(y))),
        coverage=float(wide.any(1).mean()),
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    n=st.integers(5, 16), m=st.integers(5, 16), dims=st.integers(1, 5), k=st.integers(1, 4), density_k=st.integers(1, 4),
    seed=st.integers(0, 1000), grid=st.booleans(),
)  # fmt: skip
def test_they_are_their_definitions_on_grids_too(
    n: int, m: int, dims: int, k: int, density_k: int, seed: int, grid: bool
) -> None:
    """On a grid most distances are ties, and many points are copies of one another."""
    real, fake = normal(n, dims, seed=seed), 0.5 + normal(m, dims, seed=seed + 1)
    if grid:
        real, fake = real.round(), fake.round()
    found = precision_recall(real, fake, k, density_k=density_k)
    assert found == pytest.approx(brute_force(real, fake, k, density_k))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    n=st.integers(8, 30), m=st.integers(8, 30), dims=st.integers(1, 6), seed=st.integers(0, 1000), grid=st.booleans()
)
def test_neither_order_nor_axes_nor_origin_nor_blocks_change_them(
    n: int, m: int, dims: int, seed: int, grid: bool
) -> None:
    real, fake = normal(n, dims, seed=seed), normal(m, dims, seed=seed + 1)
    if grid:
        real, fake = real.round(), fake.round()
    turn = torch.linalg.qr(normal(dims, dims, seed=seed))[0]
    found = precision_recall(real, fake)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert precision_recall(real[order], fake.flip(0)) == pytest.approx(found)
    assert precision_recall(real @ turn, fake @ turn) == pytest.approx(found)
    assert precision_recall(1e6 + 3 * real, 1e6 + 3 * fake) == pytest.approx(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifold, "BLOCK", 50)
        assert precision_recall(real, fake) == pytest.approx(found)
    back = precision_recall(fake, real)
    assert (back.precision, back.recall) == pytest.approx((found.recall, found.precision))


def test_sets_that_are_far_apart_share_nothing() -> None:
    assert precision_recall(normal(50, 4), 100 + normal(40, 4, seed=1)) == (0, 0, 0, 0)


@pytest.mark.parametrize(("k", "density_k"), [(1, 1), (3, 5), (7, 2)])
def test_a_set_against_itself_overlaps_wholly(k: int, density_k: int) -> None:
    """Each ball holds its own centre and its k neighbours: density 1 + 1/k."""
    x = normal(60, 8)
    assert precision_recall(x, x.clone(), k, density_k=density_k) == pytest.approx((1, 1, 1 + 1 / density_k, 1))


def test_a_subset_is_precise_and_recalls_less() -> None:
    """On a line: the real 0 … 9 and 100 … 109, the generated 0 … 9, one neighbour. All samples are real, half is found; each of
    the real first ten has a ball of itself and its neighbours, 2 + 8·3 + 2 = 28 pairs of ten samples."""
    low = torch.arange(10.0)[:, None]
    real = torch.cat([low, 100 + low])
    assert precision_recall(real, low, 1, density_k=1) == pytest.approx((1, 0.5, 2.8, 0.5))


def test_a_lone_picture_makes_everything_precise_and_nothing_dense() -> None:
    """Its ball reaches over all that lies between it and the rest: Naeem et al.'s case for density."""
    real, fake = torch.tensor([[0.0], [1.0], [2.0], [1000.0]]), torch.tensor([[500.0], [501.0], [502.0]])
    assert precision_recall(real, fake, 2, density_k=2) == pytest.approx((1, 0, 1 / 2, 1 / 4))


def test_copies_stand_in_each_others_balls() -> None:
    """Two distinct pictures, each many times: radii are 0, and yet a generated copy is within."""
    real = torch.tensor([[0.1, 0.7], [0.3, 1e3]]).double().repeat(6, 1)
    assert precision_recall(real, real[:2].repeat(4, 1)) == pytest.approx((1, 1, 6 / 5, 1))
    assert precision_recall(real, real[:1].repeat(4, 1)) == pytest.approx((1, 0.5, 6 / 5, 0.5))


def test_between_equal_laws_density_is_1_and_coverage_what_counting_gives() -> None:
    """Naeem et al. 2020, lemmas 1 and 2: a ball is missed when its centre's k nearest of all other n + m - 1 are real ones."""
    n, m, k = 40, 30, 3
    found = torch.tensor(
        [precision_recall(normal(n, 5, seed=2 * i), normal(m, 5, seed=2 * i + 1), density_k=k)[2:] for i in range(600)],
        dtype=torch.float64,
    )
    missed = math.prod((n - 1 - j) / (n + m - 1 - j) for j in range(k))
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - torch.tensor([1, 1 - missed])).abs() < 3.3 * error).all()


def test_what_cannot_be_measured_is_refused_with_a_sentence() -> None:
    x = normal(10, 3)
    for call, words in [
        (lambda: precision_recall(x, normal(10, 4)), "one extractor"),
        (lambda: precision_recall(x[:5], x), "at least 6"),
        (lambda: precision_recall(x, x[:3]), "at least 4"),
        (lambda: precision_recall(x, x, 0), "from 1"),
        (lambda: precision_recall(x.log(), x), "not finite"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
