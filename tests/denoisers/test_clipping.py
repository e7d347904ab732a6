"""Clipping: what it makes of x0, against plain numpy, and that eps follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.denoisers import Constant
from unstir.denoisers import CLIPS, FiniteDenoiser, Prediction, clipped
from unstir.denoisers.clipping import Clipped, Thresholded
from unstir.processes import Binomial, Gaussian
from unstir.schedules import InverseTime, LinearBeta

F64 = torch.float64
LAW = settings(deadline=None, derandomize=True, max_examples=60)
PROCESS = Gaussian(LinearBeta())
RANGES = [(-1.0, 1.0), (0.0, 1.0), (-3.0, 0.5)]


def _says(x0: torch.Tensor) -> Constant:
    return Constant(PROCESS, x0)


def _thresholded(x0: np.ndarray, low: float, high: float, share: float) -> np.ndarray:
    """One sample, by sorting."""
    middle, half = (low + high) / 2, (high - low) / 2
    sizes = np.sort(np.abs(x0 - middle), axis=None)
    s = max(half, sizes[math.ceil(share * x0.size) - 1])
    return middle + np.clip(x0 - middle, -s, s) / s * half


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_new_pair_still_makes_x_t(kind: str, low: float, high: float) -> None:
    """Trap 5: ``alpha_t x0 + sigma_t eps == x_t``, whatever was said; with the old eps samplers drift."""
    g = torch.Generator().manual_seed(0)
    x_t, x0 = torch.randn(4, 3, 5, dtype=F64, generator=g), 3 * torch.randn(4, 3, 5, dtype=F64, generator=g)
    for t in (1.0, 300.0, 999.5):
        plain = _says(x0).predict(x_t, t)
        prediction = clipped(_says(x0), kind, low, high).predict(x_t, t)
        assert isinstance(prediction, Prediction)
        alpha, sigma = PROCESS.schedule.alpha(t), PROCESS.schedule.sigma(t)
        torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x_t, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(prediction.v, alpha * prediction.eps - sigma * prediction.x0)
        assert not torch.allclose(prediction.eps, plain.eps)
        assert low <= float(prediction.x0.min()) < float(prediction.x0.max()) <= high


def test_static_clipping_is_a_clamp() -> None:
    x0 = torch.tensor([[-5.0, -0.99, 0.0, 0.7, 1.01]])
    assert Clipped(_says(x0)).within(x0).tolist() == [pytest.approx([-1, -0.99, 0, 0.7, 1])]
    assert Clipped(_says(x0), 0.0, 0.5).within(x0).tolist() == [[0, 0, 0, 0.5, 0.5]]


@LAW
@given(
    st.integers(1, 40),
    st.floats(0.01, 1),
    st.sampled_from(RANGES),
    st.sampled_from([0.2, 1.0, 4.0]),
    st.integers(0, 1 << 30),
)
def test_dynamic_thresholding_by_sorting(
    size: int, share: float, limits: tuple[float, float], scale: float, seed: int
) -> None:
    """Each sample's s is the ceil(share n)-th smallest distance from the middle; its numbers keep their order."""
    low, high = limits
    x0 = scale * torch.randn(3, size, dtype=F64, generator=torch.Generator().manual_seed(seed)) + (low + high) / 2
    found = Thresholded(_says(x0), low, high, share).within(x0)
    for row, given_row in zip(found, x0):
        np.testing.assert_allclose(
            row.numpy(), _thresholded(given_row.numpy(), low, high, share), rtol=1e-12, atol=1e-12
        )
        assert bool((row[given_row.argsort()].diff() >= -1e-15).all())


def test_a_sample_within_the_range_is_clipped_as_statically() -> None:
    """Where the share lies within the range s is 1: the few numbers beyond it are cut off, and nothing is scaled."""
    x0 = torch.linspace(-0.9, 0.9, 200, dtype=F64).repeat(2, 1)
    x0[1, 7], x0[1, 100] = 2.5, -1.5  # 1 % of the second row
    torch.testing.assert_close(Thresholded(_says(x0), share=0.99).within(x0), x0.clamp(-1, 1), rtol=0, atol=0)


def test_all_of_a_sample_is_scaled_when_all_of_it_is_kept() -> None:
    """share = 1: nothing is cut off, so the numbers keep their ratios and the largest lies on the border."""
    x0 = torch.tensor([[0.5, -4.0, 2.0], [0.5, -0.4, 0.2]], dtype=F64)
    expected = torch.stack([x0[0] / 4, x0[1]])
    torch.testing.assert_close(Thresholded(_says(x0), share=1.0).within(x0), expected)


def test_every_sample_has_a_threshold_of_its_own() -> None:
    g = torch.Generator().manual_seed(1)
    x0 = torch.randn(5, 2, 4, 4, generator=g) * torch.tensor([0.1, 1, 3, 10, 100]).reshape(5, 1, 1, 1)
    together = Thresholded(_says(x0)).within(x0)
    for row in range(5):
        assert torch.equal(Thresholded(_says(x0)).within(x0[row : row + 1])[0], together[row])


def test_clipping_is_chosen_by_name_and_bad_choices_are_refused() -> None:
    x0 = torch.zeros(1, 2)
    plain = _says(x0)
    assert clipped(plain, "none") is plain
    assert {type(clipped(plain, kind)) for kind in CLIPS if kind != "none"} == {Clipped, Thresholded}
    with pytest.raises(ValueError, match="'hard'"):
        clipped(plain, "hard")
    for kind in ("static", "dynamic"):
        with pytest.raises(ValueError, match="from low to high"):
            clipped(plain, kind, 1.0, 1.0)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="share"):
            Thresholded(plain, share=share)
    bits = FiniteDenoiser(Binomial(InverseTime(9)), torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match="real numbers"):
        clipped(bits, "static").predict(torch.zeros(1, 1), 3)
