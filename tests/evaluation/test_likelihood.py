"""What ``measure`` says against closed forms, and its parts against each other."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import small
from unstir import schedules
from unstir.bound import bits_per_dim, variational_bound
from unstir.data import DataSpec, Split
from unstir.data.spec import Scaling
from unstir.denoisers import Denoiser
from unstir.evaluation.likelihood import measure
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.runs import Model, heldout, load
from unstir.schedules import Schedule


class GaussianEps(nn.Module):
    """The exact prediction of eps when x0 is N(0, I s²): ``sigma x_t / (alpha² s² + sigma²)``."""

    def __init__(self, schedule: Schedule, s: float) -> None:
        super().__init__()
        self.schedule, self.s = schedule, s
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, time: Tensor, condition: Any = None) -> Tensor:
        t = (time.double() + 1).reshape(-1, *(1,) * (x.ndim - 1))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return (sigma / (alpha**2 * self.s**2 + sigma**2) * x).to(x.dtype)


def points_model(T: int, scale: float, offset: float, variance: str = "large") -> Model:
    """The exact model of points from N(offset, scale²), two coordinates, in their own units."""
    config = small.config(schedule={"name": "cosine", "T": T})
    process = Gaussian(schedules.from_description(config.schedule))
    denoiser = Denoiser(GaussianEps(process.schedule, 1.0), process, "eps", variance)
    scaling = Scaling((offset, offset), scale)
    return Model(denoiser, DataSpec("points", (2,), False, (), "here", "", "", scaling), config)


def pixel_model(T: int = 40) -> Model:
    config = small.config(schedule={"name": "cosine", "T": T})
    process = Gaussian(schedules.from_description(config.schedule))
    denoiser = Denoiser(GaussianEps(process.schedule, 0.4), process, "eps", "large")
    return Model(denoiser, DataSpec("image", (1, 2, 3), True, (), "here", "", ""), config)


def pixels(number: int = 30) -> Split:
    x = np.random.default_rng(0).normal(127.5, 50, (number, 2, 3, 1)).clip(0, 255).astype(np.uint8)
    return Split(x, None)


def test_the_numbers_are_those_of_the_bound() -> None:
    model, split = pixel_model(), pixels()
    result = measure(model, split, images=30, terms=None, seed=4)
    bound = variational_bound(model._clipped(model.denoiser), model.inside(split.x), noise=NoiseSource(4, range(30)))
    totals = bound.bits_per_dim
    assert result.unit == "bits/dim"
    assert (result.items, result.calls, result.chain) == (30, 40, 40)
    assert result.total == pytest.approx(float(totals.mean()), rel=1e-9)
    assert (result.total, result.half_width) == pytest.approx(bound.interval(totals), rel=1e-9)
    dims = 6
    assert result.prior == pytest.approx(float(bits_per_dim(bound.prior, dims).mean()), rel=1e-9)
    assert result.decoder == pytest.approx(float(bits_per_dim(bound.decoder, dims).mean()), rel=1e-9)
    assert result.per_step == pytest.approx(bits_per_dim(bound.steps, dims).mean(0).tolist(), rel=1e-9)


@pytest.mark.parametrize("terms", [None, 7])
def test_the_parts_make_the_total(terms: int | None) -> None:
    result = measure(pixel_model(), pixels(), terms=terms)
    assert result.total == pytest.approx(result.prior + result.steps + result.decoder, rel=1e-9)
    assert sum(result.per_step) == pytest.approx(result.steps, rel=1e-9)
    assert result.calls == 1 + len(result.per_step)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_does_not_matter(batch: int) -> None:
    whole = measure(pixel_model(), pixels(), terms=9)
    part = measure(pixel_model(), pixels(), terms=9, batch=batch)
    assert part.total == pytest.approx(whole.total, rel=1e-5)
    assert part.half_width == pytest.approx(whole.half_width, rel=1e-4)


def test_items_are_spread_over_the_split() -> None:
    model, split = pixel_model(), pixels(30)
    every_third = Split(split.x[np.linspace(0, 29, 10).astype(int)], None)
    assert measure(model, split, images=10, terms=5) == measure(model, every_third, images=99, terms=5)


def test_an_estimate_agrees_with_all_terms() -> None:
    model, split = points_model(100, 10.0, 50.0), Split(np.random.default_rng(1).normal(50, 10, (400, 2)), None)
    whole = measure(model, split, images=400, terms=None, batch=400)
    part = measure(model, split, images=400, terms=20, batch=400)
    assert part.calls < 30
    assert abs(part.total - whole.total) < 2 * (part.half_width + whole.half_width)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (10.0, 50.0), (0.01, -3.0)])
@pytest.mark.parametrize("T", [1, 2, 20])
def test_points_score_their_entropy_in_their_own_units(T: int, scale: float, offset: float) -> None:
    """Of data that is N(0, 1) inside, every reverse step is known exactly, variance too: the mean of the bound is the entropy."""
    x = np.random.default_rng(2).normal(offset, scale, (4000, 2))
    result = measure(points_model(T, scale, offset), Split(x, None), images=4000, terms=None, batch=4000)
    entropy = 2 * math.log2(scale * math.sqrt(2 * math.pi * math.e))
    assert result.unit == "bits/item"
    assert result.half_width < 0.2
    assert abs(result.total - entropy) < 2 * result.half_width


def test_changing_the_units_moves_the_score_by_their_ratio() -> None:
    z = np.random.default_rng(3).normal(0, 1, (50, 2))
    plain = measure(points_model(30, 1.0, 0.0), Split(z, None), terms=None)
    stretched = measure(points_model(30, 8.0, 0.0), Split(8 * z, None), terms=None)
    assert stretched.total - plain.total == pytest.approx(2 * 3, abs=1e-4)


def test_labels_are_used_when_that_is_asked_for(digits_run: Path) -> None:
    model = load(digits_run)
    split = heldout(model)
    assert split.labels is not None
    known = measure(model, split, images=8, terms=5, given_labels=True)
    hidden = measure(model, split, images=8, terms=5)
    assert known.total != hidden.total
    assert hidden == measure(model, replace(split, labels=None), images=8, terms=5)
    assert (known.given_labels, hidden.given_labels) == (True, False)


def test_one_item_has_no_interval() -> None:
    result = measure(pixel_model(), pixels(1), terms=3)
    assert result.half_width == math.inf
    assert "inf" in result.table()
    facts = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert facts["half_width"] is None
    assert facts["total"] == result.total


def test_progress_counts_network_calls() -> None:
    seen: list[tuple[int, int]] = []
    result = measure(pixel_model(), pixels(), terms=6, batch=13, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == list(range(1, 3 * result.calls + 1))
    assert {total for _, total in seen} == {3 * result.calls}


def test_the_table_has_every_part() -> None:
    result = measure(pixel_model(), pixels(), terms=5)
    table = result.table()
    for value in (result.total, result.half_width, result.prior, result.steps, result.decoder):
        assert f"{value:.4f}" in table
    assert "30 held-out items" in table
