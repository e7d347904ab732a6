from __future__ import annotations

import numpy as np
import pytest
import torch

from unstir.data import load, to_float
from unstir.evaluation.distances import frechet_distance, moments
from unstir.reproduce.frechet import Features


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
    assert frechet_distance(fog.flatten(1), digits.flatten(1)) < frechet_distance(first.flatten(1), second.flatten(1))


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
