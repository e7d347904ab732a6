"""Neighbours and nearly equal pairs: by brute force, whatever the blocks, the order and the origin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstir.sets import nearest
from unstir.sets.nearest import Rows, nearly_equal, neighbours


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def rows(x: Tensor) -> Rows:
    return lambda index: x[torch.from_numpy(index)]


def search(new: Tensor, old: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    return neighbours(rows(new), len(new), rows(old), np.arange(len(old)), k)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    n=st.integers(1, 20), m=st.integers(1, 60), dims=st.integers(1, 9), k=st.integers(1, 12), seed=st.integers(0, 999),
    block=st.sampled_from([7, 40, 1 << 20]), far=st.sampled_from([0.0, 1e4]), grid=st.booleans(),
)  # fmt: skip
def test_they_are_the_nearest_in_any_blocks(
    n: int, m: int, dims: int, k: int, seed: int, block: int, far: float, grid: bool
) -> None:
    new, old = normal(n, dims, seed=seed) + far, normal(m, dims, seed=seed + 1) + far
    if grid:
        new, old = new.round(), old.round()
    k = min(k, m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "BLOCK", block)
        patch.setattr(nearest, "_QUERIES", 3)
        found, squares = search(new, old, k)
    expected = (new[:, None] - old).square().sum(2).sort(1).values[:, :k]
    assert squares == pytest.approx(expected.numpy(), rel=1e-12, abs=1e-20)
    chosen = (new[:, None] - old[torch.from_numpy(found)]).square().sum(2)
    assert squares == pytest.approx(chosen.numpy(), rel=1e-12, abs=1e-20)
    assert all(len(set(row)) == k for row in found.tolist())


def test_many_dimensions_and_items_agree_with_torch() -> None:
    new, old = normal(70, 300), normal(3000, 300, seed=1)
    expected = torch.cdist(new, old).topk(5, largest=False)
    found, squares = search(new, old, 5)
    assert (found == expected.indices.numpy()).all()
    assert np.sqrt(squares) == pytest.approx(expected.values.numpy(), rel=1e-9)


def test_copies_are_at_0_and_nearly_copies_are_told_apart_far_from_the_origin() -> None:
    old = normal(500, 50) + 1e3
    new = torch.cat([old[:10], old[:10] + 1e-7])
    found, squares = search(new, old, 1)
    assert (found[:, 0] == np.tile(np.arange(10), 2)).all()
    assert (squares[:10] == 0).all()
    assert np.sqrt(squares[10:]) == pytest.approx(1e-7 * 50**0.5, rel=1e-4)


def test_items_closer_together_than_float32_can_tell_are_told_apart() -> None:
    """Six of each, 1e-8 apart at a distance of 7 from the middle: the new item equals one of them."""
    base = normal(200, 50)
    old = torch.cat([base + i * 1e-8 for i in range(6)])
    for which in range(6):
        found, squares = search(old[200 * which : 200 * (which + 1)], old, 1)
        assert (found[:, 0] == 200 * which + np.arange(200)).all()
        assert (squares == 0).all()


def test_only_those_asked_for_are_neighbours_and_all_that_is_done_is_told() -> None:
    old, told = normal(40, 3), []
    among = np.arange(1, 40, 2)
    found, _ = neighbours(rows(old), 40, rows(old), among, 2, progress=lambda done, whole: told.append((done, whole)))
    assert set(found.ravel()) <= set(among)
    assert told[-1] == (40, 40)
    with pytest.raises(ValueError, match="from 1 to 20"):
        neighbours(rows(old), 40, rows(old), among, 21)


@settings(deadline=None, derandomize=True, max_examples=30)
@given(n=st.integers(2, 60), dims=st.integers(1, 12), seed=st.integers(0, 999), within=st.floats(0.01, 3))
def test_nearly_equal_pairs_are_all_of_them_nearest_first(n: int, dims: int, seed: int, within: float) -> None:
    x = normal(n, dims, seed=seed)
    distance = (x[:, None] - x).square().sum(2).sqrt()
    found = nearly_equal(x, within)
    assert {(i, j) for i, j, _ in found} == {
        (i, j) for i in range(n) for j in range(i + 1, n) if distance[i, j] <= within
    }
    assert [d for _, _, d in found] == sorted(d for _, _, d in found)
    assert [d for _, _, d in found] == pytest.approx([float(distance[i, j]) for i, j, _ in found])
    assert len(nearly_equal(x, 100, most=3)) == min(3, n * (n - 1) // 2)
