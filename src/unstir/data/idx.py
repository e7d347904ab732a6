"""The idx format of MNIST and its relatives, gzipped or plain.

Bytes 0 and 1 are zero, byte 2 the type (8: unsigned bytes), byte 3 the number of dimensions, then each dimension as a
big-endian 32-bit integer, then the values, last index fastest.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from unstir.data.raw import PictureArray, Source, index_labels
from unstir.errors import UserError

_UNSIGNED_BYTE = 8
_MAGIC = {b"\x00\x00\x08" + bytes([dimensions]) for dimensions in (1, 2, 3, 4)}


def is_idx(path: Path) -> bool:
    """Whether the file begins as idx does, or is gzipped (the only gzipped data read here)."""
    with path.open("rb") as file:
        start = file.read(4)
    return start in _MAGIC or start[:2] == b"\x1f\x8b"


def idx_source(path: Path) -> Source:
    """Images, with the labels and the test images (``t10k-…`` beside ``train-…``) that lie beside them as published."""
    labels = _beside(path, "images", "labels")
    test = _beside(path, "train", "t10k") or _beside(path, "train", "test")
    test_labels = _beside(test, "images", "labels") if test else None
    used = [file for file in (path, labels, test, test_labels) if file]
    return Source({file.name: file for file in used}, lambda: _read(path, labels, test, test_labels))


def _read(path: Path, labels: Path | None, test: Path | None, test_labels: Path | None) -> PictureArray:
    images = _images(path)
    log, heldout = [], None
    if test:
        images, train_images = np.concatenate([images, _like(images, test)]), images
        heldout = np.arange(len(images)) >= len(train_images)
        log.append(f"held-out pictures taken from {test.name} beside it")
    values = None
    if not labels or (test and not test_labels):
        log.append(f"no labels: no labels file lies beside {(test if labels and test else path).name}")
    else:
        parts = [read_idx(file) for file in (labels, test_labels) if file]
        values = np.concatenate(parts)
        log.append(f"labels taken from {labels.name} beside it")
        if len(values) != len(images):
            raise UserError(
                f"{labels.name}: {len(values):,} labels for {len(images):,} pictures; do they belong together?"
            )
    if values is None:
        return PictureArray(images, heldout=heldout, log=log)
    index, classes = index_labels(values, path.name)
    return PictureArray(images, index, classes, heldout, log)


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file of unsigned bytes.

    Raises:
        UserError: when the file is damaged or holds another type.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from error
    if len(data) < 4 or data[:2] != b"\0\0":
        raise UserError(f"{path}: not an idx file (MNIST's format)")
    kind, dimensions = data[2], data[3]
    if kind != _UNSIGNED_BYTE:
        raise UserError(f"{path}: idx values of type {kind:#x}; only unsigned bytes (0x8) are read")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise UserError(f"{path}: truncated idx file")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", dimensions, offset=4))
    if len(data) - start != math.prod(shape):
        raise UserError(
            f"{path}: {len(data) - start:,} values where its header says {math.prod(shape):,}; fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _images(path: Path) -> np.ndarray:
    images = read_idx(path)
    if images.ndim == 1:
        raise UserError(f"{path}: holds labels; give the images file, the labels beside it are found")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise UserError(f"{path}: no pictures in an idx array of shape {images.shape}")
    return images


def _like(images: np.ndarray, path: Path) -> np.ndarray:
    other = _images(path)
    if other.shape[1:] != images.shape[1:]:
        raise UserError(
            f"{path.name}: pictures of {other.shape[1:]} beside pictures of {images.shape[1:]}; move it away"
        )
    return other


def _beside(path: Path, word: str, other: str) -> Path | None:
    """The published name of the neighbour: train-images-idx3-ubyte.gz → train-labels-idx1-ubyte.gz, t10k-images-…"""
    if word not in path.name:
        return None
    name = path.name.replace(word, other)
    if other == "labels":
        name = name.replace("idx3", "idx1")
    stem = name.removesuffix(".gz")
    for candidate in (path.with_name(stem + ".gz"), path.with_name(stem)):
        if candidate.is_file() and candidate != path:
            return candidate
    return None
