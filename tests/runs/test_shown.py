"""Pictures and vectors as they are typed: fitted by the run's rules, small ones as they are, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.data import DataSpec
from unstir.data.vectors import Vectors
from unstir.errors import UserError
from unstir.runs import Model
from unstir.runs.build import denoiser_of
from unstir.runs.shown import given


def model(condition: str, channels: int = 4) -> Model:
    """An untrained model of 8×8 pictures in colour."""
    network = {"in_channels": 3, "out_channels": 3, "classes": 0, "vector": 2, "image_channels": channels}
    settings = small.config(condition=condition, network=network)
    vectors = Vectors(("age", "height"), (5.0, 100.0), (2.0, 10.0))
    spec = DataSpec("image", (3, 8, 8), True, (), "pictures", "as they are.", "hash", vectors=vectors)
    return Model(denoiser_of(settings).eval(), spec, settings)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shown") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    return path


def test_a_picture_of_any_size_is_fitted_and_its_known_part_comes_back(photo: Path) -> None:
    made = model("mask")
    options, facts = given(made, "3,90", photo, "left")
    assert options["image"].shape == (1, 8, 8, 3)
    assert options["vector"] == [3.0, 90.0]
    assert json.loads(json.dumps(facts)).keys() == {"vector", "like", "mask"}
    drawn = made.sample(2, steps=2, **options)
    right = np.s_[:, :, 4:]
    assert np.array_equal(drawn[right], np.repeat(options["image"], 2, 0)[right])
    assert not np.array_equal(drawn, np.repeat(options["image"], 2, 0))
    again, same = given(made, "3,90", photo, "left")
    assert same == facts
    assert given(made, "3,90", photo, "right")[1]["mask"] != facts["mask"]
    assert np.array_equal(again["image"], options["image"])


def test_a_picture_that_is_small_already_is_taken_as_it_is(photo: Path, tmp_path: Path) -> None:
    made = model("super-resolution:4", 3)
    little = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [200, 210, 220]]], np.uint8)
    Image.fromarray(little).save(tmp_path / "little.png")
    options, _ = given(made, like=tmp_path)
    assert np.array_equal(options["image"][0], little)
    condition = made.condition(None, [0], **options)
    assert condition is not None
    assert condition.image is not None
    assert np.array_equal(made.outside(condition.image)[0, ::4, ::4], little)
    assert given(made, like=photo)[0]["image"].shape == (1, 8, 8, 3)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no such file": ("mask", {"like": Path("none.png")}, "no such file"),
    "mask alone": ("mask", {"mask": "left"}, "give the picture with --like"),
    "mask of another run": ("super-resolution:4", {"like": True, "mask": "left"}, "has no mask"),
    "a run without": ("", {"like": True}, "shown no pictures"),
    "words": ("mask", {"vector": "old,tall"}, "numbers with commas"),
    "one number": ("mask", {"vector": "3"}, "2 numbers"),
    "an unknown part": ("mask", {"like": True, "mask": "edges"}, "no such file"),
}


@pytest.mark.parametrize(("condition", "words", "match"), REFUSED.values(), ids=REFUSED)
def test_the_rest_is_refused(photo: Path, condition: str, words: dict[str, Any], match: str) -> None:
    words = {name: photo if value is True else value for name, value in words.items()}
    with pytest.raises(UserError, match=match):
        given(model(condition, {"mask": 4, "": 0}.get(condition, 3)), **words)
