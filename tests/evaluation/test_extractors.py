from __future__ import annotations

import numpy as np
import pytest
import torch

from unstir.data import load, to_float
from unstir.evaluation.distances import frechet_distance, moments
from unstir.evaluation.extractors import Components, Extractor, RandomFilters


def _distance(features: Extractor, first: torch.Tensor, second: torch.Tensor) -> float:
    return frechet_distance(features(first), features(second))


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return to_float(load("digits").train.x)


def test_on_its_own_data_features_are_centred_with_mean_square_1(digits: torch.Tensor):
    features = RandomFilters.fitted(digits)(digits)
    assert features.shape == (len(digits), 32)
    assert float(features.mean(0).abs().max()) < 1e-7
    assert float(features.var(0).sum()) == pytest.approx(1)


def test_it_sees_what_means_and_covariances_of_pixels_do_not(digits: torch.Tensor):
    mean, cov = moments(digits.flatten(1))
    values, vectors = torch.linalg.eigh(cov)
    normal = torch.from_numpy(np.random.default_rng(0).normal(size=(len(digits), 64)))
    fog = (mean + normal * values.clamp(min=0).sqrt() @ vectors.T).reshape(digits.shape)
    shuffled = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    features, (first, second) = RandomFilters.fitted(digits), shuffled.chunk(2)
    assert _distance(features, fog, digits) > 2 * _distance(features, first, second)
    # The halves are a half each, and yet the fog's pixels are nearer to all digits than one half's to the other's.
    assert frechet_distance(fog.flatten(1), digits.flatten(1)) < frechet_distance(first.flatten(1), second.flatten(1))


def test_noise_and_a_missing_kind_take_samples_further_away(digits: torch.Tensor):
    labels = torch.from_numpy(load("digits").train.labels)
    features = RandomFilters.fitted(digits)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=digits.shape)).float()
    distances = [_distance(features, (digits + s * noise).clamp(-1, 1), digits) for s in (0, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances)
    kinds = [_distance(features, digits[labels < k], digits) for k in (10, 9, 7, 4)]
    assert kinds == sorted(kinds)


def test_pictures_that_are_all_alike_have_no_distance():
    alike = torch.zeros(5, 1, 8, 8)
    for kind in (RandomFilters, Components):
        assert _distance(kind.fitted(alike), alike, alike) == pytest.approx(0)


@pytest.mark.parametrize("kind", [RandomFilters, Components])
def test_a_rows_features_are_its_own(digits: torch.Tensor, kind: type[RandomFilters] | type[Components]):
    """Trap 33: whatever stands beside it, and in whatever order."""
    features = kind.fitted(digits)
    together = features(digits[:600])
    torch.testing.assert_close(features(digits[577:578]), together[577:578], rtol=0, atol=1e-6)
    torch.testing.assert_close(features(digits[:600].flip(0)), together.flip(0), rtol=0, atol=1e-6)


def test_components_keep_what_numbers_say_up_to_one_scale():
    """Few coordinates lose nothing: distances between rows are those of the data, times one number."""
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 6.0)
    seen = Components.fitted(x)(x)
    ratio = torch.cdist(seen, seen)[0, 1:] / torch.cdist(x, x)[0, 1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)
    assert float(seen.square().sum(1).mean()) == pytest.approx(1, rel=0.01)


def test_symbols_are_taken_one_hot():
    """Exchanging the names of two classes changes no distance."""
    x = torch.randint(0, 4, (300, 3), generator=torch.Generator().manual_seed(0))
    renamed = torch.tensor([2, 1, 0, 3])[x]
    a, b = Components.fitted(x)(x), Components.fitted(renamed)(renamed)
    torch.testing.assert_close(torch.cdist(a, a), torch.cdist(b, b), rtol=0, atol=1e-6)
