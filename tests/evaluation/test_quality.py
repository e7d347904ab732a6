"""Sample quality of a model: what is compared with what, and in which words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unstir.data import Split
from unstir.errors import UserError
from unstir.evaluation import extractors, quality
from unstir.evaluation.extractors import Components
from unstir.evaluation.sampling import Sampling, draw
from unstir.runs import Model, dataset, heldout, load, training
from unstir.sets.distances import frechet_distance, kernel_distance
from unstir.sets.manifold import precision_recall


def measured(model: Model, samples: int, seed: int = 0, held: Split | None = None) -> quality.Quality:
    data = dataset(model)
    data = data if held is None else replace(data, heldout=held)
    reference = quality.reference(model, data, extractors.find(None, model.spec))
    return quality.measure(draw(model, samples, reference.extractor, Sampling.of(model, seed=seed)), reference)


@pytest.fixture(scope="module")
def points(points_run: Path) -> quality.Quality:
    return measured(load(points_run), 200, seed=3)


def test_the_numbers_are_those_of_the_samples_that_anyone_can_draw(points_run: Path, points: quality.Quality) -> None:
    model = load(points_run)
    train, held = training(model), heldout(model)
    own, others = model.inside(train.x), model.inside(held.x)
    features = Components.fitted(own)
    seen, own, others = features(model.inside(model.sample(200, seed=3))), features(own), features(others)
    assert points.values["frechet"] == pytest.approx(frechet_distance(own, seen), rel=1e-6)
    assert points.values["frechet_heldout"] == pytest.approx(frechet_distance(own, others), rel=1e-9)
    assert (points.values["kernel"], points.values["kernel_error"]) == pytest.approx(
        kernel_distance(own, seen), rel=1e-6
    )
    evenly = own[torch.linspace(0, len(own) - 1, 200).round().long()]
    assert points.values["recall"] == precision_recall(evenly, seen).recall
    assert (points.samples, points.real, points.heldout) == (200, len(train), len(held))
    assert points.extractor == "components-v1"


def test_samples_that_are_the_data_score_as_the_data_do(points_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor, and no more: held-out data in the place of samples."""
    model = load(points_run)
    held = heldout(model)
    monkeypatch.setattr(type(model), "sample", lambda self, n, *, indices, **_: held.x[list(indices)])
    found = measured(model, len(held)).values
    for name in ("frechet", "kernel", "precision", "recall", "density", "coverage"):
        assert found[name] == pytest.approx(found[f"{name}_heldout"], rel=1e-9)
    assert found["kernel"] < 3 * found["kernel_error"]
    moved = held.x + 30
    monkeypatch.setattr(type(model), "sample", lambda self, n, *, indices, **_: moved[list(indices)])
    far = measured(model, len(held)).values
    assert far["frechet"] > 100 * found["frechet"]
    assert far["kernel"] > 10 * far["kernel_error"]
    assert far["precision"] < 0.2


def test_a_number_is_named_with_its_features(points: quality.Quality) -> None:
    text = points.table()
    for name in ("frechet", "kernel", "overlap"):
        assert f"{name}@components-v1" in text
    assert "fewer than 2,048 samples" in text
    assert "FID" not in text
    assert json.loads(json.dumps(points.to_json(), allow_nan=False))["extractor"] == "components-v1"


def test_pictures_are_seen_through_filters(digits_run: Path, unstir: Callable[..., Any]) -> None:
    ended = unstir("evaluate", digits_run, "--metrics", "frechet,kernel", "--samples", 30, "--json")
    assert ended.code == 0, ended.err
    facts = json.loads(ended.out)["quality"]
    assert facts["extractor"] == "random-filters-v2"
    assert set(facts["values"]) == {
        "frechet", "frechet_half", "frechet_infinite", "frechet_heldout", "frechet_halves",
        "kernel", "kernel_error", "kernel_heldout", "kernel_heldout_error",
    }  # fmt: skip
    assert facts["drawn"] == "dpm++2m, 20 steps spread log-snr:last=1, seed 0, ema weights"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--features", "inception"),
            "there are no features called 'inception'; there are random-filters, random-filters-v1, components",
        ),
        (("--samples", 5), "sample quality takes at least 20 samples, not 5"),
        (
            ("--features", "random-filters"),
            "random-filters look at pictures, and this run is of points: use components",
        ),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_is_drawn(
    points_run: Path, unstir: Callable[..., Any], words: tuple[object, ...], said: str
) -> None:
    ended = unstir("evaluate", points_run, "--metrics", "frechet", *words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_too_little_data_is_said(points_run: Path) -> None:
    model = load(points_run)
    few = Split(np.zeros((5, 2), np.float32), None)
    with pytest.raises(UserError, match="20 items at least"):
        measured(model, 20, held=few)


def test_a_variance_is_fitted_for_steps_alone(points_run: Path, unstir: Callable[..., Any]) -> None:
    """Samples and the flow do not take it, so nothing is fitted and then left unused."""
    for metrics in ("frechet", "ode", "kernel,ode"):
        ended = unstir("evaluate", points_run, "--metrics", metrics, "--variance", "analytic")
        assert (ended.code, ended.out) == (2, "")
        assert "--variance is about the reverse steps of bound and rate" in ended.err
