"""Numbers beside the data: which item has which, how they are scaled, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unstir import data
from unstir.data import DataSpec
from unstir.errors import UserError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in two folders, picture i of the level 20 i."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        place = folder / ("even" if i % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.new("L", (8, 8), 20 * i).save(place / f"{i}.png")
    return folder


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def lines(names: list[str]) -> str:
    return "file,age,height\n" + "".join(f"{name},{i},{100 - 3 * i}\n" for i, name in enumerate(names))


FULL = [f"{'even' if i % 2 == 0 else 'odd'}/{i}.png" for i in range(12)]


@pytest.mark.parametrize(
    "names", [FULL, [name.rsplit("/", 1)[1] for name in FULL], [f"./{name}" for name in FULL], [*FULL, "even/99.png"]],
    ids=["paths", "file names", "dotted", "one too many"],
)  # fmt: skip
def test_every_item_has_its_own_row_scaled_by_the_training_items(
    photos: Path, tmp_path: Path, names: list[str]
) -> None:
    made = data.load(photos, vectors=table(tmp_path, lines(names)))
    assert made.spec.vectors is not None
    assert made.spec.vectors.names == ("age", "height")
    raw = {}
    for split in (made.train, made.heldout):
        assert split.vectors is not None
        assert split.vectors.dtype == np.float32
        back = split.vectors * made.spec.vectors.std + made.spec.vectors.mean
        raw |= {int(x[0, 0, 0]) // 20: row for x, row in zip(split.x, back)}
    assert len(raw) == 12
    for i, row in raw.items():
        np.testing.assert_allclose(row, [i, 100 - 3 * i], atol=1e-4)
    assert made.train.vectors is not None
    np.testing.assert_allclose(made.train.vectors.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(made.train.vectors.std(0), 1, atol=1e-6)
    assert any("of no item here" in line for line in made.log) == (len(names) > 12)
    part = made.train.take(np.array([3, 1]))
    assert np.array_equal(part.vectors, made.train.vectors[[3, 1]])


def test_the_description_travels_and_old_ones_have_none(photos: Path, tmp_path: Path) -> None:
    made, plain = data.load(photos, vectors=table(tmp_path, lines(FULL))), data.load(photos)
    written = json.loads(json.dumps(made.spec.to_json()))
    assert DataSpec.from_json(written) == made.spec
    old = plain.spec.to_json()
    del old["vectors"]
    assert DataSpec.from_json(old) == plain.spec
    other = data.load(photos, vectors=table(tmp_path, lines(FULL).replace("even/2.png,2", "even/2.png,3")))
    assert len({made.spec.hash, plain.spec.hash, other.spec.hash}) == 3


def test_points_have_theirs_row_by_row(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    np.save(tmp_path / "points.npy", x)
    made = data.load(
        tmp_path / "points.npy", vectors=table(tmp_path, "radius\n" + "".join(f"{r}\n" for r in np.hypot(*x.T)))
    )
    for split in (made.train, made.heldout):
        back = split.vectors * made.spec.vectors.std + made.spec.vectors.mean
        np.testing.assert_allclose(back[:, 0], np.hypot(*split.x.T), rtol=1e-4)
    batch, _ = made.train.batch(np.arange(3))
    assert batch.dtype == torch.float32


def test_a_column_that_never_changes_is_said_to(photos: Path, tmp_path: Path) -> None:
    made = data.load(photos, vectors=table(tmp_path, "file,one\n" + "".join(f"{name},1\n" for name in FULL)))
    assert not made.train.vectors.any()
    assert any("one is the same for every item" in line for line in made.log)


REFUSED = {
    "missing": (lines(FULL[:-2]), "has no row for .* and 1 others"),
    "twice": (lines([*FULL, FULL[0]]), "even/0.png has more than one row"),
    "text": (lines(FULL).replace(",5,", ",five,"), "is not a number"),
    "gap": (lines(FULL).replace(",5,", ",,"), "the value is missing"),
    "names alone": ("file\n" + "\n".join(FULL) + "\n", "no column of numbers"),
    "no names": ("age\n" + "".join(f"{i}\n" for i in range(12)), "no column holds file names"),
}


@pytest.mark.parametrize(("text", "match"), REFUSED.values(), ids=REFUSED)
def test_bad_tables_are_refused_in_one_line(photos: Path, tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(UserError, match=match) as refused:
        data.load(photos, vectors=table(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_other_numbers_of_rows_and_no_table_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(UserError, match="29 rows and no column of names, and the data have 30 items"):
        data.load(tmp_path / "points.npy", vectors=table(tmp_path, "r\n" + "1.5\n" * 29))
    with pytest.raises(UserError, match="cannot be read"):
        data.load(tmp_path / "points.npy", vectors=tmp_path / "none.csv")
