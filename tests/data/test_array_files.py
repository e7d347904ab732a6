from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unstir.data import Dataset, DataSpec, inspect, load
from unstir.errors import UserError

RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def everything(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.x, dataset.heldout.x])


def same_rows(a: np.ndarray, b: np.ndarray) -> bool:
    return sorted(row.tobytes() for row in a) == sorted(row.tobytes() for row in b)


def test_npz_holds_images_and_labels(tmp_path: Path) -> None:
    images, labels = noise(30, 6, 7, 3), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", images, labels)
    dataset = load(tmp_path / "a.npz")
    assert dataset.spec.shape == (3, 6, 7)
    assert dataset.spec.eight_bit
    assert dataset.spec.classes == ("0", "1", "2")
    assert dataset.log == ["labels taken from the array 'arr_1'"]
    assert same_rows(everything(dataset), images)
    for x, label in zip(dataset.train.x, dataset.train.labels):
        assert labels[(images == x).all(axis=(1, 2, 3))] == [label]


def test_npy_of_grey_images(tmp_path: Path) -> None:
    images = noise(12, 5, 5)
    np.save(tmp_path / "a.npy", images)
    dataset = load(tmp_path / "a.npy")
    assert dataset.spec.shape == (1, 5, 5)
    assert same_rows(everything(dataset), images)


def test_another_name_than_arr_0_is_read_and_said_so(tmp_path: Path) -> None:
    images = noise(12, 4, 4, 4)
    names = np.array([f"{i}.png" for i in range(12)])
    np.savez_compressed(tmp_path / "a.npz", x=images, category=np.array(["b", "a"] * 6), name=names)
    dataset = load(tmp_path / "a.npz", background=(10, 20, 30))
    assert "data taken from the array 'x': there is no arr_0" in dataset.log
    assert "labels taken from the array 'category'" in dataset.log
    assert "RGBA pictures: transparency laid over the background" in dataset.log
    assert dataset.spec.classes == ("a", "b")
    behind = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
    for x in images:
        laid = np.asarray(Image.alpha_composite(behind, Image.fromarray(x)))[..., :3].astype(int)
        assert (np.abs(everything(dataset).astype(int) - laid).max(axis=(1, 2, 3)) <= 1).any()


def test_an_array_and_the_same_pictures_in_a_folder_hold_the_same_data(tmp_path: Path) -> None:
    for channels in (1, 2, 3, 4):
        images = noise(12, 9, 9, channels)
        folder = tmp_path / str(channels)
        folder.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[..., 0] if channels == 1 else image).save(folder / f"{i:02}.png")
        np.savez(tmp_path / f"{channels}.npz", images)
        for options in ({}, {"size": 4}, {"mode": "L"}, {"mode": "RGB", "background": (1, 2, 3)}):
            assert load(folder, **options).spec.hash == load(tmp_path / f"{channels}.npz", **options).spec.hash


def test_channels_first_is_moved_and_said_so(tmp_path: Path) -> None:
    images = noise(12, 3, 8, 9)
    np.savez(tmp_path / "a.npz", images)
    dataset = load(tmp_path / "a.npz")
    assert dataset.spec.shape == (3, 8, 9)
    assert dataset.log == ["channels come first, (12, 3, 8, 9): moved to the end"]
    assert same_rows(everything(dataset), images.transpose(0, 2, 3, 1))


def test_sixteen_bits_and_bools_are_scaled(tmp_path: Path) -> None:
    levels = RNG.integers(0, 65536, (12, 4, 4, 1)).astype(np.uint16)
    np.save(tmp_path / "a.npy", levels)
    dataset = load(tmp_path / "a.npy")
    assert dataset.log == ["16-bit levels scaled to 8 bits"]
    assert same_rows(everything(dataset), np.round(levels * 255.0 / 65535).astype(np.uint8))
    bits = noise(12, 4, 4) > 127
    np.save(tmp_path / "b.npy", bits)
    assert same_rows(everything(load(tmp_path / "b.npy")), bits.astype(np.uint8) * 255)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_float_rows_are_points(tmp_path: Path, dtype: type) -> None:
    x = RNG.normal(size=(40, 2)).astype(dtype)
    np.savez(tmp_path / "a.npz", x, np.arange(40) % 2)
    dataset = load(tmp_path / "a.npz")
    assert (dataset.spec.kind, dataset.spec.shape, dataset.spec.eight_bit) == ("points", (2,), False)
    assert dataset.train.x.dtype == np.float32
    assert (len(dataset.train), len(dataset.heldout)) == (36, 4)
    rows, labels = dataset.train.batch(np.array([3, 1]))
    assert rows.dtype == torch.float32
    scaling = dataset.spec.scaling
    np.testing.assert_allclose(scaling.outside(rows.numpy()), dataset.train.x[[3, 1]], atol=1e-6)
    seen = dataset.train.batch(np.arange(36))[0].double()
    np.testing.assert_allclose([*seen.mean(0), seen.square().mean()], [0, 0, 1], atol=1e-6)
    assert DataSpec.from_json(json.loads(json.dumps(dataset.spec.to_json()))) == dataset.spec
    assert labels.tolist() == dataset.train.labels[[3, 1]].tolist()
    assert same_rows(everything(dataset), x.astype(np.float32))
    with pytest.raises(UserError, match="holds points, of which no contact sheet"):
        inspect(tmp_path / "a.npz").sheet()
    with pytest.raises(UserError, match="leave size and mode out"):
        load(tmp_path / "a.npz", size=8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros((2, 4, 4, 3), np.float32)}, "pictures of floats have no stated range"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.int64)}, r"int64 \(2, 4, 4, 3\) cannot be used"),
        ({"arr_0": np.zeros((2, 16), complex)}, r"complex128 \(2, 16\) cannot be used"),
        ({"arr_0": np.array([[0, 1], [2, -3]])}, "-3 at row 1, column 1 .*: symbols are 0, 1, 2"),
        ({"arr_0": np.array([[0, 1], [256, 3]])}, "257 symbols, and 256 is the most"),
        ({"arr_0": np.zeros((0, 4, 4, 3), np.uint8)}, "is empty"),
        ({"arr_0": np.full((2, 2), np.nan)}, "4 values are infinite or not a number"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(3, int)}, "arr_1 is int64"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(2)}, "arr_1 is float64"),
        ({"a": np.zeros((2, 4, 4), np.uint8), "b": np.zeros((2, 4, 4), np.uint8)}, r"several arrays .*\(a, b\)"),
        ({"a": np.zeros(3)}, "no array of pictures or rows .* it holds a float64"),
        ({"arr_0": np.array([{}])}, "Python objects, which are never unpickled"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.npz", "a.npy"])
def test_damaged_files_are_one_clear_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (np.savez if name.endswith("z") else np.save)(path, noise(50, 8, 8, 3))
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match="cannot be read as NumPy data"):
            load(path)


def test_labels_with_gaps_or_names_are_numbered(tmp_path: Path) -> None:
    for values, classes in [
        (np.array([5, 100, 5, 7] * 3), ("5", "7", "100")),
        (np.array([-1, 1, 1, 1] * 3), ("-1", "1")),
        (np.array(["x", "y", "z", "x"] * 3), ("x", "y", "z")),
        (np.array([0, 1, 3, 3] * 3), ("0", "1", "2", "3")),
    ]:
        np.savez(tmp_path / "a.npz", noise(12, 4, 4, 1), values)
        dataset = load(tmp_path / "a.npz")
        assert dataset.spec.classes == classes
        labels = np.concatenate([dataset.train.labels, dataset.heldout.labels])
        assert sorted(classes[k] for k in labels) == sorted(map(str, values))
