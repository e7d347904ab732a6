"""The classifier of the user's own classes: it learns them, it is the same each time, and its file says what it is."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from tests import small
from tests.evaluation.test_extractors import PICTURES, POINTS
from unstir.data import Dataset, DataSpec, Split, load
from unstir.data.codec import Codec, Scaling
from unstir.errors import UserError
from unstir.evaluation.extractors import classifier, find
from unstir.sets.distances import frechet_distance


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def taught(digits: Dataset) -> classifier.Taught:
    return classifier.teach(digits, images=4000)


@pytest.fixture(scope="module")
def file(taught: classifier.Taught, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier") / "digits.safetensors"
    taught.save(path)
    return path


def rows(kind: str, data: np.ndarray, labels: np.ndarray, codec: Codec) -> Dataset:
    spec = DataSpec(kind, data.shape[1:], False, ("a", "b"), "x", "", "0", codec.scaling, codec.symbols)
    half = len(data) // 2
    return Dataset(spec, Split(data[:half], labels[:half], codec), Split(data[half:], labels[half:], codec), [])


def test_it_learns_the_digits(taught: classifier.Taught, digits: Dataset):
    assert taught.accuracy > 0.93
    assert (taught.images, taught.heldout) == (4000, len(digits.heldout))
    x, labels = digits.heldout.batch(np.arange(len(digits.heldout)))
    assert labels is not None
    right = taught.network(x).argmax(1) == labels
    assert taught.accuracy == pytest.approx(float(right.double().mean()))


def test_a_seed_and_a_budget_make_the_same_weights(digits: Dataset):
    first, again, other = (classifier.teach(digits, images=200, seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    classifier.teach(digits, images=8)
    assert torch.equal(torch.rand(3), drawn), "the caller's random numbers are left alone"


def test_every_item_is_shown_once_before_any_is_shown_again():
    shown = np.concatenate([classifier._order(np.arange(i, min(i + 7, 60)), 20, 3) for i in range(0, 60, 7)])
    epochs = [shown[i : i + 20].tolist() for i in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_minutes_become_a_number_of_images(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    """With a clock that moves a second a batch: 2 minutes are 120 batches, less what is kept in hand; and that number makes
    the same weights again."""
    clock = itertools.count()
    monkeypatch.setattr(classifier.time, "perf_counter", lambda: float(next(clock)))
    seen: list[tuple[int, int]] = []
    taught = classifier.teach(digits, minutes=2, batch=8, progress=lambda *done: seen.append(done))
    assert taught.images == seen[-1][0] == seen[-1][1]
    assert 110 * 8 <= taught.images <= 120 * 8
    assert len({total for _, total in seen}) == 1
    exact = classifier.teach(digits, images=taught.images, batch=8).network.state_dict()
    assert all(torch.equal(exact[name], value) for name, value in taught.network.state_dict().items())


def test_bits_points_and_symbols_can_be_learned_too(tmp_path: Path):
    """Two classes that only a product of coordinates sets apart: no linear map of the data could."""
    generator = np.random.default_rng(0)
    bits = generator.random((4000, 5)) < 0.5
    points = generator.normal(50, 10, (4000, 2)).astype(np.float32)
    symbols = generator.integers(0, 4, (4000, 3)).astype(np.uint8)
    for data in (
        rows("bits", bits, (bits[:, 0] ^ bits[:, 1]).astype(np.int64), Codec("bits")),
        rows(
            "points", points, ((points > 50).sum(1) == 1).astype(np.int64), Codec("points", Scaling((50.0, 50.0), 10.0))
        ),
        rows("symbols", symbols, ((symbols[:, 0] + symbols[:, 1]) % 2).astype(np.int64), Codec("symbols", None, 4)),
    ):
        taught = classifier.teach(data, images=12_000)
        assert taught.accuracy > 0.93, data.spec.kind
        taught.save(tmp_path / "x.safetensors")
        x, _ = data.heldout.batch(np.arange(20))
        features = find(str(tmp_path / "x.safetensors"), data.spec)(x)(x)
        assert features.shape == (20, 64)


def test_its_features_are_what_it_decides_by(taught: classifier.Taught, digits: Dataset, file: Path):
    x, _ = digits.heldout.batch(np.arange(60))
    extractor = find(str(file), digits.spec)(x)
    features = extractor(x)
    assert (features.shape, features.dtype) == ((60, 64), torch.float64)
    torch.testing.assert_close(taught.network.head(features.float()), taught.network(x), rtol=1e-5, atol=1e-5)
    assert extractor.name == f"classifier-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    assert "10 classes" in extractor.rule


def test_a_rows_features_are_its_own(digits: Dataset, file: Path):
    """Trap 33: batch norms look at the batch in training alone."""
    x, _ = digits.train.batch(np.arange(600))
    extractor = find(str(file), digits.spec)(x)
    together = extractor(x)
    torch.testing.assert_close(extractor(x[577:578]), together[577:578], rtol=0, atol=1e-5)
    torch.testing.assert_close(extractor(x.flip(0)), together.flip(0), rtol=0, atol=1e-5)


def test_a_missing_class_shows_in_its_features(digits: Dataset, file: Path):
    x, labels = digits.train.batch(np.arange(len(digits.train)))
    assert labels is not None
    extractor = find(str(file), digits.spec)(x)
    mixed = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    halves = extractor(x[mixed]).chunk(2)
    assert frechet_distance(extractor(x[labels < 9]), extractor(x)) > 3 * frechet_distance(*halves)


def test_its_file_describes_itself(taught: classifier.Taught, digits: Dataset, file: Path):
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()[classifier.KEY])
    assert DataSpec.from_json(facts["data"]) == digits.spec
    assert facts["accuracy"] == taught.accuracy
    assert (facts["images"], facts["seed"], facts["heldout"]) == (4000, 0, len(digits.heldout))
    assert [path.name for path in file.parent.iterdir()] == [file.name], "nothing half-written is left"


def test_points_in_other_units_are_brought_to_its_own(tmp_path: Path):
    """A run may scale the same numbers otherwise; what the classifier sees are the numbers."""
    points = np.random.default_rng(0).normal(50, 10, (100, 2)).astype(np.float32)
    data = rows("points", points, (points[:, 0] > 50).astype(np.int64), Codec("points", Scaling((50.0, 50.0), 10.0)))
    classifier.teach(data, images=640).save(tmp_path / "x.safetensors")
    path, other = str(tmp_path / "x.safetensors"), replace(data.spec, scaling=Scaling((0.0, 20.0), 3.0))
    own, theirs = data.spec.inside(points), other.inside(points)
    torch.testing.assert_close(find(path, other)(theirs)(theirs), find(path, data.spec)(own)(own), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_taught_is_said(digits: Dataset):
    bare = replace(digits, train=replace(digits.train, labels=None), spec=replace(digits.spec, classes=()))
    for changed, said in (
        (bare, "digits has no labels, which a classifier learns from"),
        (replace(digits, spec=replace(digits.spec, classes=("a",))), "digits has one class alone"),
    ):
        with pytest.raises(UserError, match=said):
            classifier.teach(changed, images=8)
    for budget in ({}, {"images": 0}, {"images": 8, "minutes": 1.0}, {"minutes": 0.0}):
        with pytest.raises(UserError, match="a budget is minutes or images"):
            classifier.teach(digits, **budget)


def test_files_that_are_something_else_are_told_apart(
    digits: Dataset, file: Path, digits_run: Path, tmp_path: Path, taught: classifier.Taught
):
    text, damaged = tmp_path / "text.safetensors", tmp_path / "damaged.safetensors"
    text.write_text("no weights")
    del taught.network.state_dict()["head.bias"]
    replace(taught, network=torch.nn.ModuleDict({"head": taught.network.head})).save(damaged)
    for path, spec, said in (
        (digits_run / "model.safetensors", digits.spec, "is a run's model, which draws data"),
        (text, digits.spec, "cannot be read as safetensors"),
        (damaged, digits.spec, "is damaged: teach the classifier again"),
        (file, POINTS, "was taught on image 1×8×8, and this run is of points 2"),
        (file, replace(PICTURES, shape=(1, 16, 16)), "was taught on image 1×8×8, and this run is of image 1×16×16"),
        (file, replace(PICTURES, eight_bit=False), "this run is of real-valued image"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            find(str(path), spec)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"accuracy": None},
        {"accuracy": "x"},
        {"accuracy": math.nan},
        {"format": "x"},
        {"data": "x"},
        {"scale": 0.0},
        {"scale": "x"},
        {"offset": [math.nan, 0.0]},
    ],
)
def test_a_file_that_says_what_cannot_be_is_damaged(tmp_path: Path, changed: dict[str, Any]):
    points = np.random.default_rng(0).normal(50, 10, (40, 2)).astype(np.float32)
    data = rows("points", points, (points[:, 0] > 50).astype(np.int64), Codec("points", Scaling((50.0, 50.0), 10.0)))
    path = tmp_path / "x.safetensors"
    classifier.teach(data, images=8).save(path)
    run = replace(data.spec, scaling=Scaling((0.0, 20.0), 3.0))
    find(str(path), run)
    with safe_open(path, framework="pt") as opened:
        facts, weights = json.loads(opened.metadata()[classifier.KEY]), {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
    for name, value in changed.items():
        (facts if name in facts else facts["data"]["scaling"])[name] = value
    path.write_bytes(save(weights, {classifier.KEY: json.dumps(facts)}))
    with pytest.raises(UserError, match="is damaged: teach the classifier again"):
        find(str(path), run)
    del facts["accuracy"]
    path.write_bytes(save(weights, {classifier.KEY: json.dumps(facts)}))
    with pytest.raises(UserError, match="is damaged"):
        find(str(path), run)


def test_pictures_of_any_size_end_in_64_features():
    for side, channels in ((4, 1), (8, 3), (28, 1), (33, 3), (128, 3)):
        spec = replace(PICTURES, shape=(channels, side, side + 5), classes=("a", "b", "c"))
        network = classifier.Classifier(spec).eval()
        assert network.features(torch.zeros(2, *spec.shape)).shape == (2, 64)
        assert network(torch.zeros(2, *spec.shape)).shape == (2, 3)


def test_pictures_of_three_classes_can_be_learned():
    assert classifier.teach(small.pictures(), images=64).images == 64
