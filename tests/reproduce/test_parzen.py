from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from unstir.reproduce.parzen import SIGMAS, kmeans, log_likelihood, parzen, squared_distances


def points(n: int, dims: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, dims)))


def test_one_centre_is_a_normal():
    x, centre = points(40), points(1, seed=1)
    for sigma, found in zip((0.3, 2.0), log_likelihood(x, centre, (0.3, 2.0))):
        expected = stats.multivariate_normal(centre[0].numpy(), sigma**2 * np.eye(3)).logpdf(x.numpy())
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_many_centres_are_the_mean_of_their_normals():
    x, centres = points(1203), points(70, seed=1)  # more rows than meet the centres at once
    found = log_likelihood(x, centres, [0.4])[0]
    each = [stats.multivariate_normal(c, 0.16 * np.eye(3)).logpdf(x.numpy()) for c in centres.numpy()]
    np.testing.assert_allclose(found.numpy(), logsumexp(each, axis=0, b=1 / 70), rtol=1e-11)


def test_far_from_zero_float32_still_tells_distances():
    x, centres = points(50, 20) + 1_000, points(50, 20, seed=1) + 1_000
    exact = log_likelihood(x.float().double(), centres.float().double(), [0.5])
    assert log_likelihood(x.float(), centres.float(), [0.5]) == pytest.approx(exact, rel=1e-4)


def test_distances():
    x, y = points(5), points(7, seed=1)
    assert squared_distances(x, y) == pytest.approx((x[:, None] - y).square().sum(2))


def test_sigma_is_the_best_on_the_validation_set_and_the_score_is_the_test_sets():
    samples, validation, test = points(200), points(300, seed=1), points(100, seed=2)
    found = parzen(samples, validation, test)
    best = SIGMAS[int(log_likelihood(validation, samples, SIGMAS).mean(1).argmax())]
    bits = log_likelihood(test, samples, [best])[0].numpy() / math.log(2)
    assert found.sigma == best
    assert found.bits == pytest.approx(bits.mean())
    assert found.standard_error == pytest.approx(stats.sem(bits))
    # Among points one apart neither a needle nor a fog is best.
    assert SIGMAS[0] < best < SIGMAS[-1]


def test_ten_widths_evenly_in_their_logarithm():
    assert np.geomspace(0.1, 1, 10) == pytest.approx(SIGMAS)


def test_centres_come_to_rest_at_the_means_of_what_is_nearest():
    x = points(400, 2)
    centres = kmeans(x, 6, 200)
    nearest = (x[:, None] - centres).square().sum(2).argmin(1)
    for j in range(6):
        assert centres[j] == pytest.approx(x[nearest == j].mean(0))


def test_centres_lie_nearer_with_every_move():
    x = points(300, 4)

    def error(centres: torch.Tensor) -> float:
        return float(squared_distances(x, centres).amin(1).mean())

    errors = [error(kmeans(x, 9, n, seed=3)) for n in range(5)]
    assert all(after < before for before, after in pairwise(errors))


def test_a_centre_without_rows_stays():
    x = torch.zeros(4, 2, dtype=torch.float64)  # all rows go to the first of equal centres
    assert torch.equal(kmeans(x, 3, 2), torch.zeros(3, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least as many rows"):
        kmeans(x, 5, 1)
