"""Denoising and inpainting as experiments: what they measure, on small things."""

from __future__ import annotations

import math

import pytest
import torch

from unstir.reproduce import denoise, inpaint, pictures
from unstir.reproduce.experiment import Setting


def test_the_hole_is_the_middle_and_its_border_is_counted() -> None:
    x = torch.zeros(1, 1, 8, 8)
    mask = inpaint.hole(x)
    assert mask.sum() == 16
    assert bool(mask[0, 0, 2:6, 2:6].all())
    x[mask] = 1.0
    x[..., 0, 0] = 1.0
    # 16 neighbours cross the border of a 4×4 hole; the lone corner gives two jumps among the other 112 - 16.
    assert inpaint.seam(x, mask) == pytest.approx(math.sqrt(1.0 / (2 / 96)))


def test_error_is_in_standard_deviations_of_the_data() -> None:
    x0 = 3 * torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert pictures.error(x0 + x0.std(), x0) == pytest.approx(1, rel=1e-5)
    mask = inpaint.hole(x0)
    assert pictures.error(torch.where(mask, x0 + 2 * x0.std(), x0), x0, mask) == pytest.approx(2, rel=1e-5)


def test_multiplying_by_r_mends_heartbeats() -> None:
    wrong = denoise.flips_left(Setting(quick=True))
    assert wrong[denoise.NOISY] == pytest.approx(1 - 0.9**20, abs=0.06)
    assert wrong[denoise.PAPER] < 0.35 * wrong[denoise.NOISY]


def test_each_kind_of_picture_has_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pictures.SOURCES, "texture", "digits")  # leaves take seconds to draw
    made = pictures.variants(Setting(quick=True))
    assert [variant.name for variant in made] == ["digits", "texture"]
    assert pictures.variants(Setting(quick=True, data="digits"))[0].data == "digits"
