"""Scores of strangeness against closed forms of exact models, and what they may not depend on."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests import small
from tests.evaluation.test_chains import bits_model
from tests.evaluation.test_likelihood import pixel_model, points_model
from unstir import schedules
from unstir.data import Dataset, DataSpec, Split
from unstir.denoisers import Denoiser
from unstir.errors import UserError
from unstir.evaluation import score
from unstir.evaluation.score import Scores
from unstir.noise import NoiseSource
from unstir.processes import Categorical
from unstir.runs import Model
from unstir.sets.auroc import auroc


def dataset(model: Model, x: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = ()) -> Dataset:
    """Items whose every third is held out, as loading leaves them."""
    rows = np.arange(len(x))
    out = rows % 3 == 1
    splits = [Split(x[r], None if labels is None else labels[r], model.spec.codec, r) for r in (rows[~out], rows[out])]
    return Dataset(replace(model.spec, classes=classes), splits[0], splits[1], [])


def points(number: int, dims: int = 2, seed: int = 0, mean: float = 50.0, scale: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (number, dims)).astype(np.float32)


def measure(model: Model, x: np.ndarray, training: np.ndarray | None = None, **how: Any) -> Scores:
    usual = x if training is None else training
    return score.measure(model, dataset(model, x), lambda: Split(usual, None, model.spec.codec), **how)


@pytest.fixture
def gaussian() -> Model:
    """The exact model of N(50, 10²) in the plane."""
    return points_model(60, 10.0, 50.0)


# --- the scores themselves --------------------------------------------------------------------------------------------


def test_the_bits_are_those_of_the_bound() -> None:
    """All terms: the very number of ``Model.bound`` with the item's own noise, in the data's units."""
    x, model = points(4), points_model(12, 10.0, 50.0)
    result = measure(model, x, scores=("bits",), terms=None, seed=3)
    assert list(result.columns) == ["bits_per_item"]
    for i in range(4):
        bound = model.bound(x[i : i + 1], seed=3, indices=score._keys(x[i : i + 1]))
        assert result.columns["bits_per_item"][i] == pytest.approx(float(bound.bits[0]) + 2 * math.log2(10), rel=1e-6)


def test_an_estimate_is_as_sure_as_it_says(gaussian: Model) -> None:
    """Two estimates of the same bound differ by as many of their standard errors as independent draws do."""
    x = points(300)
    one, other = (measure(gaussian, x, scores=("bits",), draws=8, batch=300, seed=seed).columns for seed in (1, 2))
    error = np.hypot(one["bits_per_item_error"], other["bits_per_item_error"])
    apart = (one["bits_per_item"] - other["bits_per_item"]) / error
    assert apart.mean() == pytest.approx(0, abs=0.2)
    assert 0.85 < np.sqrt(np.mean(apart**2)) < 1.25


def test_too_likely_is_not_typical() -> None:
    """The middle of a normal law in 64 dimensions is its likeliest point, and no draw ever comes near it."""
    model = points_model(50, 1.0, 0.0, dims=64)
    usual, middle = points(40, 64, 1, 0, 1), np.zeros((2, 64), np.float32)
    result = measure(model, np.concatenate([usual, middle]), points(60, 64, 2, 0, 1), scores=("bits", "typicality"))
    bits, typicality = result.columns["bits_per_item"], result.columns["typicality"]
    assert bits[40:].max() < bits[:40].min()
    assert typicality[40:].min() > typicality[:40].max()
    error = result.columns["bits_per_item_error"][40]
    assert typicality[40] == pytest.approx(32 * math.log2(math.e), abs=4 * error)
    assert error < 10


@pytest.mark.parametrize("channels", [1, 3])
def test_pngs_bits_are_those_of_the_file(channels: int, tmp_path: Path) -> None:
    model = pixel_model()
    model = replace(model, spec=replace(model.spec, shape=(channels, 8, 9)))
    rng = np.random.default_rng(0)
    pictures = np.stack([np.full((8, 9, channels), 128), rng.integers(0, 256, (8, 9, channels))]).astype(np.uint8)
    result = measure(model, pictures, scores=("bits",))
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.squeeze()).save(tmp_path / "x.png", optimize=True)
        size = 8 * (tmp_path / "x.png").stat().st_size / picture.size
        less = result.columns["bits_per_dim"][i] - result.columns["bits_less_png"][i]
        assert less == pytest.approx(size, rel=1e-9)


def test_the_errors_are_those_of_the_exact_model(gaussian: Model) -> None:
    """Of N(0, 1) inside, ``E[x0 | x_t] = alpha x_t``: the error is ``sigma⁴ x0² + alpha² sigma²`` on average over noise; and DDIM in
    many steps turns no further than to x_t itself: ``(1 - alpha)² x0² + sigma²``."""
    z = np.random.default_rng(4).normal(0, 1, (400, 2)) * np.repeat([[0.3], [2.0]], 200, 0)
    schedule = gaussian.denoiser.process.schedule
    for steps in (1, 20):
        result = measure(
            gaussian, (50 + 10 * z).astype(np.float32), scores=("reconstruction",), steps=steps, draws=4, batch=400
        )
        errors = {int(name[7:]): column for name, column in result.columns.items() if name.startswith("error_t")}
        assert len(errors) == 3
        for t, found in errors.items():
            alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
            for half in (slice(200), slice(200, 400)):
                square = (z[half] ** 2).mean()
                one, many = sigma**4 * square + alpha**2 * sigma**2, (1 - alpha) ** 2 * square + sigma**2
                assert found[half].mean() == pytest.approx(one if steps == 1 else many, rel=0.15)


def test_levels_of_noise_are_where_the_signal_stands_to_it_as_stated(gaussian: Model) -> None:
    log_snr = gaussian.denoiser.process.schedule.log_snr(torch.tensor(score._times(gaussian)))
    assert log_snr.tolist() == pytest.approx([2, 0, -2], abs=0.1)
    assert score._times(points_model(2, 1.0, 0.0)) == [1]  # a short chain has one time for several


def test_reconstruction_is_in_spreads_of_training_items(gaussian: Model) -> None:
    """Of the training items themselves the mean is 0, and of a single level the spread would be 1."""
    x = points(200)
    result = measure(gaussian, x, scores=("reconstruction",), reference=200)
    rebuilt = result.columns["reconstruction"]
    assert rebuilt.mean() == pytest.approx(0, abs=1e-9)
    columns = [result.columns[name] for name in result.columns if name.startswith("error_t")]
    standard = np.mean([(c - c.mean()) / c.std(ddof=1) for c in columns], axis=0)
    np.testing.assert_allclose(rebuilt, standard, atol=1e-6)


def test_of_bits_it_is_how_surprising_each_one_is() -> None:
    """A network that says 1/2 of everything is surprised by one bit at each; of symbols by log2 K."""
    x = np.random.default_rng(0).random((9, 4)) < 0.3
    result = measure(bits_model(), x)
    assert result.columns["bits_per_item"].shape == (9,)
    for name, column in result.columns.items():
        if name.startswith("error_t"):
            np.testing.assert_allclose(column, 1, rtol=1e-6)
    assert np.isfinite(measure(bits_model("reverse"), x).columns["reconstruction"]).all()


def test_of_symbols_too() -> None:
    class Even(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
            return torch.zeros_like(x)

    process = Categorical(schedules.from_description({"name": "cosine", "T": 12}), classes=5)
    spec = DataSpec("symbols", (4,), False, (), "here", "", "", symbols=5)
    model = Model(Denoiser(Even(), process), spec, small.config())
    result = measure(model, np.random.default_rng(0).integers(0, 5, (6, 4)).astype(np.uint8))
    errors = [column for name, column in result.columns.items() if name.startswith("error_t")]
    np.testing.assert_allclose(errors, math.log2(5), rtol=1e-6)


def test_far_off_points_are_strange_by_every_score(gaussian: Model) -> None:
    x = np.concatenate([points(60), points(60, seed=1, mean=95)])
    labels, usual = np.repeat([0, 1], 60), Split(points(100, seed=2), None)
    data = dataset(gaussian, x, labels, ("near", "far"))
    result = score.measure(gaussian, data, lambda: usual, draws=4, batch=120)
    far, near = result.apart(["far"]), result.apart(["near"])
    assert list(far) == result.scores
    for name in ("bits_per_item", "typicality", "reconstruction"):
        column = result.columns[name]
        assert far[name].value > 0.97
        assert far[name] == auroc(column[60:], column[:60])
        assert near[name].value == pytest.approx(1 - far[name].value)


# --- what they may not depend on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 64])
def test_an_item_scores_the_same_alone_and_among_any_others_in_any_order(gaussian: Model, batch: int) -> None:
    x, training, how = points(8), points(4, seed=1), {"terms": 3, "draws": 2}
    order = np.random.default_rng(2).permutation(8)
    whole = measure(gaussian, x, training, **how).columns
    mixed = measure(gaussian, x[order], training, batch=batch, **how).columns
    alone = measure(gaussian, x[5:6], training, batch=batch, **how).columns
    for name, column in whole.items():
        np.testing.assert_allclose(mixed[name], column[order], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone[name], column[5:6], rtol=1e-4, atol=1e-5)
    assert not np.allclose(measure(gaussian, x, training, seed=1, **how).columns["error_t30"], whole["error_t30"])


def test_items_come_in_the_order_of_their_source(gaussian: Model) -> None:
    data = dataset(gaussian, points(10), np.arange(10) % 2, ("a", "b"))
    result = score.measure(gaussian, data, lambda: data.train, scores=("bits",))
    assert result.names == [f"#{i}" for i in range(10)]
    assert result.labels is not None
    assert result.labels.tolist() == [0, 1] * 5
    few = score.measure(gaussian, data, lambda: data.train, scores=("bits",), limit=4)
    assert few.names == ["#0", "#3", "#6", "#9"]
    np.testing.assert_allclose(few.columns["bits_per_item"], result.columns["bits_per_item"][::3], rtol=1e-5)


def test_a_single_item_is_scored_once(gaussian: Model) -> None:
    one = Split(points(1), None, gaussian.spec.codec, np.zeros(1, np.int64))
    result = score.measure(gaussian, Dataset(gaussian.spec, one, one, []), lambda: one, scores=("bits",))
    assert result.names == ["#0"]


def test_bits_alone_ask_for_no_training_data(gaussian: Model) -> None:
    def absent() -> Split:
        raise AssertionError

    assert score.measure(gaussian, dataset(gaussian, points(3)), absent, scores=("bits",)).reference == 0
    with pytest.raises(UserError, match="two training items"):
        measure(gaussian, points(3), points(1))


def test_keys_are_samples_of_a_seed() -> None:
    keys = score._keys(points(500))
    assert len(set(keys.tolist())) == 500
    assert NoiseSource(0, keys).uniform((), "any").mean() == pytest.approx(0.5, abs=0.06)


def test_progress_counts_items(gaussian: Model) -> None:
    seen: list[tuple[int, int]] = []
    measure(
        gaussian,
        points(10),
        points(5),
        batch=4,
        scores=("reconstruction",),
        draws=2,
        progress=lambda *at: seen.append(at),
    )
    assert seen == [(4, 15), (5, 15), (9, 15), (13, 15), (15, 15)]


# --- the table --------------------------------------------------------------------------------------------------------


def table(labels: np.ndarray | None = None) -> Scores:
    names = ['a, "b"/x.png', "ü\n.png", "#2", "=3"]
    columns = {"bits_per_dim": np.array([1 / 3, 2, np.inf, -1e-9]), "bits_per_dim_error": np.full(4, 0.1)}
    return Scores(names, labels, ("usual, or so", 'the "odd"'), columns, 0)


@pytest.mark.parametrize("labels", [None, np.array([0, 1, 1, 0])])
def test_the_table_reads_back(labels: np.ndarray | None) -> None:
    written, file = table(labels), io.StringIO()
    written.write(file)
    rows = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    assert [row["name"] for row in rows] == written.names
    assert ["label" in row for row in rows] == [labels is not None] * 4
    if labels is not None:
        assert [row["label"] for row in rows] == [written.classes[i] for i in labels]
    for name, column in written.columns.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], column, rtol=1e-8)
    assert written.scores == ["bits_per_dim"]


@pytest.mark.parametrize(
    ("labels", "strange", "said"),
    [
        (None, ["usual, or so"], "a folder for each class"),
        (np.array([0, 1, 1, 0]), ["wrong"], "no class 'wrong'"),
        (np.array([0, 0, 1, 0]), ['the "odd"'], "1 of the items are strange and 3 are not"),
        (np.array([0, 1, 1, 0]), ["usual, or so", 'the "odd"'], "4 of the items are strange and 0"),
    ],
)
def test_nothing_to_tell_apart(labels: np.ndarray | None, strange: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        table(labels).apart(strange)


@pytest.mark.parametrize(
    ("scores", "steps", "said"),
    [
        (["bits", "luck"], 1, "no score called 'luck'"),
        ([""], 1, "no score called ''"),
        ([], 1, "no score called"),
        (["reconstruction"], 0, "--steps"),
        (["reconstruction"], 61, "--steps"),
    ],
)
def test_what_cannot_be_measured_is_said_first(gaussian: Model, scores: list[str], steps: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        score.check(gaussian, scores, steps)


def test_bits_are_not_walked_back() -> None:
    with pytest.raises(UserError, match="bits are rebuilt in one look"):
        score.check(bits_model(), ["reconstruction"], 2)
