"""Every item is called what the user calls it, however the data were loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import Dataset, Split, load, values
from unstir.data.options import Options
from unstir.data.split import content_hash
from unstir.data.survey import Survey

NUMBER = 12


def picture(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def folder(path: Path) -> Path:
    """Pictures in two classes; one file that is none lies between them."""
    for i in range(NUMBER):
        place = path / ("a, or b" if i % 2 else 'the "ü"')
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(place / f"{i:02}.png")
    (path / "a, or b" / "02 bad.png").write_text("hello")
    return path


def zipped(path: Path) -> Path:
    source = folder(path / "files")
    with zipfile.ZipFile(path / "x.zip", "w") as archive:
        for file in sorted(source.rglob("*.png")):
            archive.write(file, file.relative_to(source).as_posix())
    return path / "x.zip"


def both(dataset: Dataset) -> list[tuple[int, str, np.ndarray]]:
    """(row, name, item) of both splits."""
    found = []
    for split in (dataset.train, dataset.heldout):
        assert split.rows is not None
        assert len(split.rows) == len(split.names) == len(split)
        found += zip(split.rows.tolist(), split.names, split.x)
    return found


@pytest.fixture(params=["first", "cached", "in memory"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Dataset]:
    """``load``, in each of the ways that data come."""

    def again(source: str | Path) -> Dataset:
        if request.param == "in memory":
            (tmp_path / "no folder").write_text("")
            return load(source, cache=tmp_path / "no folder")
        first = load(source)
        return first if request.param == "first" else load(source)

    return again


@pytest.mark.parametrize("make", [folder, zipped])
def test_pictures_from_files_are_called_by_their_path(
    make: Callable[[Path], Path], loaded: Callable[..., Dataset], tmp_path: Path
) -> None:
    found = both(loaded(make(tmp_path / "data")))
    assert len(found) == NUMBER
    for _, name, x in found:
        place, file = name.split("/")
        i = int(file.removesuffix(".png"))
        assert place == ("a, or b" if i % 2 else 'the "ü"')
        np.testing.assert_array_equal(x, picture(i))
    # The bad file, 02 in the order of names, has a row in the source that nothing is kept of.
    in_order = [name for _, name, _ in sorted(found, key=lambda item: item[0])]
    assert in_order == sorted(in_order)
    assert sorted(row for row, _, _ in found) == sorted(set(range(NUMBER + 1)) - {1})


def test_rows_are_called_by_their_place(loaded: Callable[..., Dataset], tmp_path: Path) -> None:
    pictures = np.stack([picture(i) for i in range(NUMBER)])
    points = np.random.default_rng(0).normal(size=(NUMBER, 2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", pictures, np.arange(NUMBER) % 2)
    np.save(tmp_path / "x.npy", points)
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{float(a)!r},{float(b)!r}\n" for a, b in points))
    for name, data in (("x.npz", pictures), ("x.npy", points), ("x.csv", points)):
        found = both(loaded(tmp_path / name))
        assert sorted(row for row, _, _ in found) == list(range(NUMBER))
        for row, called, x in found:
            assert called == f"#{row}"
            np.testing.assert_array_equal(x, data[row])


def test_data_that_come_with_the_package_and_their_own_split(loaded: Callable[..., Dataset]) -> None:
    for source in ("digits", "heartbeat", "moons"):
        found = both(loaded(source))
        assert sorted(row for row, _, _ in found) == list(range(len(found)))


def test_values_kept_in_the_cache_keep_their_rows(tmp_path: Path) -> None:
    dataset = load("moons")
    meta = values.write(dataset, Survey(len(dataset.train) + len(dataset.heldout)), tmp_path)
    for before, after in zip(both(dataset), both(values.read(tmp_path, meta, "moons", Options())[0]), strict=True):
        assert before[:2] == after[:2]


def test_the_hash_of_data_knows_no_names(loaded: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = loaded(folder(tmp_path / "data"))
    splits = (dataset.train, dataset.heldout)
    assert dataset.spec.hash == content_hash(array for split in splits for array in (split.x, split.labels))


def test_names_are_a_sequence() -> None:
    split = Split(np.zeros((5, 2)), None, rows=np.array([3, 1, 4, 0, 2]), files=[*"abcde"])
    assert list(split.names) == [*"dbeac"]
    assert (split.names[-1], split.names[1:3]) == ("c", ["b", "e"])
    with pytest.raises(IndexError):
        split.names[5]
    assert list(Split(np.zeros((2, 2)), None).names) == ["#0", "#1"]


def test_names_of_a_million_rows_take_no_memory() -> None:
    import tracemalloc

    split = Split(np.zeros((1_000_000, 1), np.uint8), None, rows=np.arange(1_000_000))
    tracemalloc.start()
    assert split.names[999_999] == "#999999"
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
