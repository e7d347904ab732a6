"""The rate's table and the flow's likelihood of whole models, in the units of their data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.evaluation.test_chains import bits, bits_model
from tests.evaluation.test_likelihood import pixel_model, pixels, points_model
from unstir.data import Split
from unstir.errors import UserError
from unstir.evaluation import ode, rate
from unstir.evaluation.likelihood import measure


@pytest.mark.parametrize("batch", [7, 64])
def test_by_t_1_all_but_the_decoders_part_has_been_sent(batch: int) -> None:
    model, split = pixel_model(), pixels()
    result = rate.measure(model, split, images=30, seed=4, batch=batch)
    bound = measure(model, split, images=30, seed=4, terms=None)
    assert result.unit == bound.unit == "bits/dim"
    assert result.rate[-1] == pytest.approx(bound.prior + bound.steps, rel=1e-5)
    assert result.rate[0] == pytest.approx(bound.prior, rel=1e-5)
    assert result.times == tuple(range(40, 0, -1))
    assert list(result.rate) == sorted(result.rate)
    assert result.distortion[0] > 4 * result.distortion[-1]


def test_the_distortion_is_on_levels() -> None:
    """At T nothing is known: the guess is the data's mean, and its error their spread."""
    split = pixels(200)
    result = rate.measure(pixel_model(), split, images=200)
    assert result.distortion[0] == pytest.approx(float(np.std(split.x - 127.5)), rel=0.02)
    assert "0 … 255" in result.distortion_unit


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (10.0, 50.0)])
def test_points_are_in_their_own_units(scale: float, offset: float) -> None:
    split = Split(np.random.default_rng(2).normal(offset, scale, (2000, 2)), None)
    model = points_model(20, scale, offset)
    result = rate.measure(model, split, images=2000, batch=2000)
    assert result.unit == "bits/item"
    assert result.distortion[0] == pytest.approx(scale, rel=0.05)
    bound = measure(model, split, images=2000, terms=None, batch=2000)
    assert result.rate[-1] == pytest.approx(bound.prior + bound.steps, rel=1e-5)


def test_of_bits_it_is_the_share_that_is_wrong() -> None:
    split = bits()
    result = rate.measure(bits_model(), split)
    assert result.distortion == pytest.approx([split.x.mean()] * 12)  # the network's likeliest value is always 0
    assert "share" in result.distortion_unit


def test_the_table_has_ten_times_and_the_json_all_of_them() -> None:
    model, split = pixel_model(), pixels()
    result = rate.measure(model, split)
    lines = result.table().splitlines()
    rows = [[int(word) for word in line.split()[:2]] for line in lines[2:12]]
    assert rows == [[41 - r, r] for r in (40, 36, 32, 28, 24, 20, 16, 12, 8, 4)]
    assert f"{result.rate[39]:.5f}" in lines[2]
    assert f"{result.distortion[3]:.5f}" in lines[11]
    facts = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert len(facts["times"]) == len(facts["rate"]) == len(facts["distortion"]) == 40
    short = rate.measure(bits_model(T=3), bits())
    assert [int(line.split()[0]) for line in short.table().splitlines()[2:-1]] == [1, 2, 3]


# --- the flow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (10.0, 50.0), (0.01, -3.0)])
def test_points_score_their_density_in_their_own_units(scale: float, offset: float) -> None:
    """Of the exact model of N(offset, scale²) the flow's density is that of the data, less the noise it starts with."""
    x = np.random.default_rng(2).normal(offset, scale, (200, 2))
    result = ode.measure(points_model(200, scale, offset), Split(x, None), images=200)
    truth = float((0.5 * ((x - offset) / scale) ** 2 + math.log(scale * math.sqrt(2 * math.pi))).sum(1).mean())
    assert result.unit == "bits/item"
    assert result.exact
    assert result.total - result.start_shift == pytest.approx(truth / math.log(2), abs=1e-3)
    assert result.start == 1


def test_of_levels_it_is_bits_per_dim_just_below_the_bound() -> None:
    model, split = pixel_model(T=200), pixels(60)
    result = ode.measure(model, split, images=60)
    bound = measure(model, split, images=60, terms=None)
    assert result.unit == "bits/dim"
    assert bound.total - 0.25 < result.total < bound.total + 0.02
    facts = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert facts["items"] == 60
    assert f"{result.total:.4f} ± {result.half_width:.4f}" in result.table()


def test_a_network_of_real_times_is_followed_from_nearer_the_data() -> None:
    from dataclasses import replace

    model = points_model(50, 1.0, 0.0)
    real = replace(model, config=replace(model.config, times=replace(model.config.times, name="log-normal")))
    split = Split(np.random.default_rng(2).normal(0, 1, (5, 2)), None)
    a, b = ode.measure(model, split), ode.measure(real, split)
    assert a.start == 1 > b.start > 0
    assert b.noise == pytest.approx(1e-3, rel=1e-6)


def test_bits_are_refused() -> None:
    with pytest.raises(UserError, match="bits") as refusal:
        ode.measure(bits_model(), bits())
    assert "\n" not in str(refusal.value)
