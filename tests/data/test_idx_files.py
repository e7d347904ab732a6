from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from unstir.data import load
from unstir.errors import UserError

RNG = np.random.default_rng(0)


def packed(data: bytes) -> bytes:
    """Gzip without the time of day, which would give tests that run side by side other names."""
    return gzip.compress(data, mtime=0)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def mnist(folder: Path, ending: str = ".gz", train: int = 40, test: int = 10) -> tuple[np.ndarray, np.ndarray]:
    images = RNG.integers(0, 256, (train + test, 7, 6), dtype=np.uint8)
    labels = np.arange(train + test, dtype=np.uint8) % 10
    for prefix, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", images[part])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", labels[part])
    return images, labels


@pytest.mark.parametrize("ending", [".gz", ""])
def test_mnist_as_published(tmp_path: Path, ending: str) -> None:
    images, labels = mnist(tmp_path, ending)
    dataset = load(tmp_path / f"train-images-idx3-ubyte{ending}")
    assert dataset.spec.shape == (1, 7, 6)
    assert dataset.spec.classes == tuple("0123456789")
    np.testing.assert_array_equal(dataset.train.x[..., 0], images[:40])
    np.testing.assert_array_equal(dataset.train.labels, labels[:40])
    np.testing.assert_array_equal(dataset.heldout.x[..., 0], images[40:])
    np.testing.assert_array_equal(dataset.heldout.labels, labels[40:])
    assert dataset.log == [
        f"held-out pictures taken from t10k-images-idx3-ubyte{ending} beside it",
        f"labels taken from train-labels-idx1-ubyte{ending} beside it",
    ]


def test_without_test_files_the_train_images_are_split(tmp_path: Path) -> None:
    mnist(tmp_path)
    for file in tmp_path.glob("t10k*"):
        file.unlink()
    dataset = load(tmp_path / "train-images-idx3-ubyte.gz")
    assert (len(dataset.train), len(dataset.heldout)) == (36, 4)


def test_without_labels_it_is_said_so(tmp_path: Path) -> None:
    mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    dataset = load(tmp_path / "train-images-idx3-ubyte.gz")
    assert dataset.train.labels is None
    assert dataset.spec.classes == ()
    assert "no labels: no labels file lies beside train-images-idx3-ubyte.gz" in dataset.log


def test_a_changed_neighbour_is_noticed(tmp_path: Path) -> None:
    _, labels = mnist(tmp_path)
    before = load(tmp_path / "train-images-idx3-ubyte.gz").spec.hash
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", labels[40:][::-1])
    assert load(tmp_path / "train-images-idx3-ubyte.gz").spec.hash != before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not data that can be read"),
        (packed(b"hello"), "not an idx file"),
        (packed(b"\0\0\x0d\x03" + b"\0" * 12), "idx values of type 0xd"),
        (packed(b"\0\0\x08\x03\0\0"), "truncated idx file"),
        (
            packed(b"\0\0\x08\x03" + struct.pack(">III", 2, 2, 2) + b"1234567"),
            "7 values where its header says 8",
        ),
        (packed(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\1\2"), "holds labels; give the images file"),
        (packed(b"\0\0\x08\x03" + struct.pack(">III", 0, 2, 2)), "no pictures"),
        (packed(b"\0\0\x08\x03" + bytes(RNG.bytes(1000)))[:-200], "damaged gzip"),
    ],
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(data)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "x-images-idx3-ubyte.gz")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(39))
    with pytest.raises(UserError, match="49 labels for 50 pictures"):
        load(tmp_path / "train-images-idx3-ubyte.gz")
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((10, 5, 5)))
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte"):
        load(tmp_path / "train-images-idx3-ubyte.gz")
