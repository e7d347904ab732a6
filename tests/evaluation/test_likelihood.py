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
from unstir.bound import Bound, bits_per_dim, variational_bound
from unstir.data import DataSpec, Split
from unstir.data.spec import Scaling
from unstir.denoisers import Denoiser
from unstir.errors import UserError
from unstir.evaluation.likelihood import Likelihood, _evenly, measure
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


def points_model(T: int, scale: float, offset: float, variance: str = "large", dims: int = 2) -> Model:
    """The exact model of points from N(offset, scale²) in every coordinate, in their own units."""
    config = small.config(schedule={"name": "cosine", "T": T})
    process = Gaussian(schedules.from_description(config.schedule))
    denoiser = Denoiser(GaussianEps(process.schedule, 1.0), process, "eps", variance)
    scaling = Scaling((offset,) * dims, scale)
    return Model(denoiser, DataSpec("points", (dims,), False, (), "here", "", "", scaling), config)


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
    bound = variational_bound(model.bounded, model.inside(split.x), noise=NoiseSource(4, range(30)))
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


# --- to a wanted precision --------------------------------------------------------------------------------------------


def normal_points(number: int, seed: int = 1) -> Split:
    return Split(np.random.default_rng(seed).normal(50, 10, (number, 2)), None)


def within(split: Split, half: float | None, **how: Any) -> Likelihood:
    return measure(
        points_model(1, 10.0, 50.0), split, **{"images": 40, "terms": None, "batch": 500, "within": half} | how
    )


def test_as_many_items_as_the_wanted_interval_takes() -> None:
    """Three times as precise, about nine times the items."""
    split = normal_points(4000)
    wide, narrow = within(split, 0.18), within(split, 0.06)
    assert 64 < wide.items < narrow.items < 4000
    for result, half in ((wide, 0.18), (narrow, 0.06)):
        assert 0.97 * half < result.half_width <= half
    assert narrow.items == pytest.approx(9 * wide.items, rel=0.25)
    assert "wanted" not in narrow.table()
    assert narrow.to_json()["within"] == 0.06


def test_a_pilot_that_is_precise_enough_is_all_there_is() -> None:
    split = normal_points(4000)
    result = within(split, 100.0)
    assert (result.items, result.half_width) == (64, pytest.approx(within(split, 50.0).half_width))
    assert result.half_width == pytest.approx(mean_half(split, 64), rel=1e-6)


def mean_half(split: Split, images: int) -> float:
    """What all items of a split of so many give."""
    return within(split.take(_evenly(len(split))[:images]), None, images=images).half_width


@pytest.mark.parametrize("half", [0.01, 1e-200, 5e-324])
def test_where_there_are_too_few_all_are_taken_and_that_is_said(half: float) -> None:
    """Also where the number it would take is none that a computer knows."""
    split = normal_points(100)
    result = within(split, half)
    assert result.items == 100
    assert result.half_width > half
    assert f"the interval wanted is ± {half:g}; all 100 held-out items give ± {result.half_width:.2g}" in result.table()


@pytest.mark.parametrize("how", [{"batch": 7}, {"images": 400}])
def test_neither_the_batch_nor_the_stages_change_an_item(how: dict[str, Any]) -> None:
    """All 400 items are needed: in one stage or two, in whatever batches, each has its own noise."""
    split = normal_points(400)
    one, other = within(split, 1e-3, terms=None), within(split, 1e-3, terms=None, **how)
    assert (other.items, other.total, other.half_width) == pytest.approx((400, one.total, one.half_width), rel=1e-5)


def test_the_interval_of_a_number_chosen_on_the_way_holds_the_truth_as_often_as_it_says() -> None:
    """Of the exact model of N(0, 1) at T = 1 the bound's mean is the entropy."""
    model, dims, trials, hits, rng = points_model(1, 1.0, 0.0, dims=64), 64, 200, 0, np.random.default_rng(5)
    entropy = dims / 2 * math.log2(2 * math.pi * math.e)
    for trial in range(trials):
        split = Split(rng.normal(0, 1, (600, dims)), None)
        result = measure(model, split, images=4, within=1.0, terms=None, batch=1000, seed=trial)
        assert result.half_width <= 1
        hits += abs(result.total - entropy) <= result.half_width
    assert hits / trials > 0.91


def test_every_beginning_of_the_order_is_spread() -> None:
    order = _evenly(1000)
    assert sorted(order) == list(range(1000))
    for number in (10, 37, 200):
        gaps = np.diff(np.sort(order[:number]), prepend=-1, append=1000)
        assert gaps.max() < 3 * 1000 / number


def test_progress_of_two_stages_ends_once_all_is_done() -> None:
    seen: list[tuple[int, int]] = []
    result = within(normal_points(4000), 0.2, batch=50, progress=lambda *at: seen.append(at))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    assert len(seen) >= result.calls * math.ceil(result.items / 50)


@pytest.mark.parametrize(("half", "images"), [(0.0, 40), (-1.0, 40), (math.nan, 40), (0.1, 1)])
def test_no_interval_can_be_aimed_at_from_nothing(half: float, images: int) -> None:
    with pytest.raises(UserError, match="wanted"):
        within(normal_points(100 if images > 1 else 1), half, images=images)


def test_the_interval_holds_the_truth_for_skewed_values_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lognormal bound, whose first 20 items tell too little of its spread: from them alone 84 % of the intervals would hold the
    mean. However many it takes, the half width is never above what was wanted."""
    model, trials, hits, rng = points_model(1, 1.0, 0.0), 300, 0, np.random.default_rng(7)

    def lognormal(self: Model, x: np.ndarray, *_: Any, **how: Any) -> Bound:
        nats = torch.from_numpy(np.exp(x[:, :1].astype(np.float64))) * math.log(2)
        return Bound(torch.zeros(len(x), dtype=torch.float64), nats, nats[:, 0] * 0, 2)

    monkeypatch.setattr(Model, "bound", lognormal)
    for _ in range(trials):
        result = measure(model, Split(rng.normal(0, 1, (6000, 2)), None), images=20, within=0.15, batch=10_000)
        assert result.half_width <= 0.15
        assert result.items < 6000
        hits += abs(result.total - math.exp(0.5)) <= result.half_width
    assert hits / trials > 0.9
