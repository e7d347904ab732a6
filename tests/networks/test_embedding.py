from __future__ import annotations

import math

import torch

from unstir.networks.embedding import TimeEmbedding, sinusoidal


def test_sinusoids_are_the_formula() -> None:
    time = torch.tensor([0.0, 1.0, 12.5, 999.0], dtype=torch.float64)
    for shift in (0, 1):
        waves = sinusoidal(time, 8, shift=shift)
        for row, t in enumerate(time.tolist()):
            for k in range(4):
                angle = t * 10000 ** (-k / (4 - shift))
                assert math.isclose(waves[row, k].item(), math.sin(angle), abs_tol=1e-12)
                assert math.isclose(waves[row, 4 + k].item(), math.cos(angle), abs_tol=1e-12)


def test_cosine_first_swaps_the_halves() -> None:
    time = torch.rand(3) * 1000
    waves = sinusoidal(time, 8)
    torch.testing.assert_close(sinusoidal(time, 8, cosine_first=True), waves.roll(4, 1), rtol=0, atol=0)


def test_neighbouring_times_stay_apart_in_low_precision() -> None:
    time = torch.tensor([998, 999])
    assert sinusoidal(time, 32).dtype == torch.float32
    embedding = TimeEmbedding(32, 64).bfloat16()
    with torch.no_grad():
        first, second = embedding(time.float())
    assert (first - second).abs().max() > 0
