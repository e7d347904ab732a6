from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg

from unstir.data import load, to_float
from unstir.reproduce.frechet import Features, frechet, moments


def covariance(dims: int, seed: int, rank: int | None = None) -> torch.Tensor:
    a = torch.from_numpy(np.random.default_rng(seed).normal(size=(rank or 2 * dims, dims)))
    return a.T @ a


def test_it_is_the_formula_with_scipys_root():
    m1, m2 = torch.arange(5).double(), torch.ones(5).double()
    c1, c2 = covariance(5, 0), covariance(5, 1)
    root = linalg.sqrtm(c1.numpy() @ c2.numpy())
    expected = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * np.trace(root).real
    assert frechet((m1, c1), (m2, c2)) == pytest.approx(expected, rel=1e-10)


def test_independent_coordinates_add_up():
    """On a line it is ``(m1 - m2)² + (s1 - s2)²``."""
    m1, m2, s1, s2 = (torch.tensor(v).double() for v in ([0, 1], [3, 1], [1, 2], [2, 0.5]))
    found = frechet((m1, s1.square().diag()), (m2, s2.square().diag()))
    assert found == pytest.approx(float(((m1 - m2) ** 2 + (s1 - s2) ** 2).sum()))


def test_nothing_lies_between_a_law_and_itself_and_the_way_back_is_as_long():
    m, flat = torch.zeros(6).double(), covariance(6, 2, rank=3)  # half of its directions have no width
    assert frechet((m, flat), (m, flat)) == pytest.approx(0, abs=1e-6)
    other = (m + 1, covariance(6, 3))
    assert frechet((m, flat), other) == pytest.approx(frechet(other, (m, flat)))


def test_moments_are_numpys():
    x = np.random.default_rng(0).normal(size=(30, 4))
    mean, found = moments(torch.from_numpy(x))
    np.testing.assert_allclose(mean.numpy(), x.mean(0))
    np.testing.assert_allclose(found.numpy(), np.cov(x.T))


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return to_float(load("digits").train.x)


def test_on_its_own_data_features_are_centred_with_mean_square_1(digits: torch.Tensor):
    features = Features.fitted(digits)(digits)
    assert features.shape == (len(digits), 32)
    assert float(features.mean(0).abs().max()) < 1e-7
    assert float(features.var(0).sum()) == pytest.approx(1)


def test_it_sees_what_means_and_covariances_of_pixels_do_not(digits: torch.Tensor):
    mean, cov = moments(digits.flatten(1))
    values, vectors = torch.linalg.eigh(cov)
    normal = torch.from_numpy(np.random.default_rng(0).normal(size=(len(digits), 64)))
    fog = (mean + normal * values.clamp(min=0).sqrt() @ vectors.T).reshape(digits.shape)
    shuffled = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    features, (first, second) = Features.fitted(digits), shuffled.chunk(2)
    assert features.distance(fog, digits) > 2 * features.distance(first, second)
    # The halves are a half each, and yet the fog's pixels are nearer to all digits than one half's to the other's.
    assert frechet(moments(fog.flatten(1)), moments(digits.flatten(1))) < frechet(
        moments(first.flatten(1)), moments(second.flatten(1))
    )


def test_noise_and_a_missing_kind_take_samples_further_away(digits: torch.Tensor):
    labels = torch.from_numpy(load("digits").train.labels)
    features = Features.fitted(digits)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=digits.shape)).float()
    distances = [features.distance((digits + s * noise).clamp(-1, 1), digits) for s in (0, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances)
    kinds = [features.distance(digits[labels < k], digits) for k in (10, 9, 7, 4)]
    assert kinds == sorted(kinds)


def test_pictures_that_are_all_alike_have_no_distance():
    alike = torch.zeros(5, 1, 8, 8)
    assert Features.fitted(alike).distance(alike, alike) == pytest.approx(0)
