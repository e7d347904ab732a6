"""``hf:NAME``: data sets of the ``datasets`` library, here small ones on this disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import load
from unstir.data.sources import path_of
from unstir.errors import UserError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own cache is not the user's, and nothing is asked of the network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def levels(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def table(number: int = 12, first: int = 0) -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])})
    rows = {
        "image": [Image.fromarray(levels(i)) for i in range(first, first + number)],
        "label": [i % 3 for i in range(first, first + number)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    folder.mkdir()
    table().to_parquet(folder / "train-00000-of-00001.parquet")
    table(6, first=20).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


def test_every_picture_has_its_class(parquet: Path) -> None:
    dataset = load(f"hf:{parquet}")
    assert dataset.spec.classes == ("cat", "dog", "owl")
    assert dataset.log == ["classes taken from the column 'label'"]
    seen = set()
    for split in (dataset.train, dataset.heldout):
        assert split.labels is not None
        for x, label, name in zip(split.x, split.labels, split.names):
            assert (x == levels(int(name))).all(), name
            assert label == int(name) % 3
            seen.add(int(name))
    assert seen == set(range(12))
    assert load(f"hf:{parquet}").spec.hash == dataset.spec.hash
    assert path_of(f"hf:{parquet}") is None


def test_a_split_a_file_and_what_was_saved(parquet: Path, tmp_path: Path) -> None:
    test = load(f"hf:{parquet}:test")
    assert len(test.train) + len(test.heldout) == 6
    one = load(f"hf:{parquet / 'test-00000-of-00001.parquet'}")
    assert one.spec.hash == test.spec.hash
    table().save_to_disk(str(tmp_path / "saved"))
    assert load(f"hf:{tmp_path / 'saved'}").spec.hash == load(f"hf:{parquet}").spec.hash


def test_what_cannot_be_loaded_is_said_in_one_line(
    tmp_path: Path, parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="hf:no/such: cannot be loaded") as problem:
        load("hf:no/such")
    assert "\n" not in str(problem.value)
    datasets.Dataset.from_dict({"text": ["a", "b"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="no column of pictures among text"):
        load(f"hf:{tmp_path / 'text.parquet'}")
    folder = tmp_path / "files"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(levels(i)).save(folder / f"{i}.png")
    with pytest.raises(UserError, match="give the folder that they lie in"):
        load(f"hf:{folder}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'unstir\[data\]'"):
        load(f"hf:{parquet}")
