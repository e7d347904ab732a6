"""NumPy's containers: ``.npz`` and ``.npy``, read without pickle.

- uint8 (N, H, W, C) with C = 1…4, or (N, H, W): pictures. (N, C, H, W) is transposed, and said so; where both readings
  are possible it is NHWC.
- uint16 pictures: scaled, 255 v / 65535; bool pictures: black and white.
- float (N, D): points, as float32.
- bool (N, D), or whole numbers (N, D) of which none is other than 0 and 1: bits; other whole numbers (N, D): symbols.
- anything else is refused by name.

In an ``.npz`` the data are ``arr_0`` and the labels ``arr_1``; without ``arr_0``, the only array that looks like
pictures (else like points, else like bits or symbols), and labels by their usual names.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from unstir.data.decode import sixteen_to_eight_bits
from unstir.data.raw import PictureArray, Source, Values, index_labels
from unstir.data.rows import interpret, looks_like_rows
from unstir.errors import UserError

_LABEL_NAMES = ("arr_1", "labels", "label", "targets", "target", "y", "classes", "class", "categories", "category")
_CHANNELS = (1, 2, 3, 4)
_ADVICE = "pictures are uint8 (N, H, W, C), points float (N, D), bits bool (N, D), symbols whole numbers (N, D)"


def array_source(path: Path) -> Source:
    """The pictures or rows of a ``.npz`` or ``.npy`` file."""
    return Source({path.name: path}, lambda: _read(path))


def _read(path: Path) -> PictureArray | Values:
    try:
        with path.open("rb") as file:  # NumPy leaves a file that it opened itself open when it is damaged
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _interpret(loaded, None, path.name, [])
            with loaded:
                return _read_npz(loaded, path)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        pickled = "pickle" in str(error)
        why = "it holds Python objects, which are never unpickled" if pickled else " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as NumPy data: {why}") from error


def _read_npz(stored: np.lib.npyio.NpzFile, path: Path) -> PictureArray | Values:
    headers = _headers(path)
    name = _choose(headers, path)
    if not headers[name][0]:
        raise UserError(f"{path}: {name} is a single number; {_ADVICE}")
    log = []
    if name != "arr_0":
        log.append(f"data taken from the array {name!r}: there is no arr_0")
    number = headers[name][0][0]
    for label_name in _LABEL_NAMES:
        shape, dtype = headers.get(label_name, ((), np.dtype(object)))
        if label_name != name and shape == (number,) and dtype.kind in "iubU":
            log.append(f"labels taken from the array {label_name!r}")
            return _interpret(stored[name], stored[label_name], f"{path.name}: {name}", log)
        if label_name == "arr_1" and label_name in headers and label_name != name:
            raise UserError(
                f"{path}: arr_1 is {dtype} {shape}; labels are one whole number or name for each of {number}"
            )
    return _interpret(stored[name], None, f"{path.name}: {name}", log)


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of every array, without reading the arrays."""
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if not member.endswith(".npy"):
                continue
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            headers[member.removesuffix(".npy")] = (shape, dtype)
    return headers


def _choose(headers: dict[str, tuple[tuple[int, ...], np.dtype]], path: Path) -> str:
    if "arr_0" in headers:
        return "arr_0"
    for looks_right in (_looks_like_pictures, _looks_like_points, looks_like_rows):
        names = [name for name, (shape, dtype) in headers.items() if looks_right(shape, dtype)]
        if len(names) == 1:
            return names[0]
        if names:
            raise UserError(
                f"{path}: several arrays could be the data ({', '.join(names)}); save the one meant as arr_0"
            )
    held = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in headers.items()) or "nothing"
    raise UserError(f"{path}: no array of pictures or rows in it: {_ADVICE}; it holds {held}")


def _looks_like_pictures(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    channels = len(shape) == 4 and (shape[-1] in _CHANNELS or shape[1] in _CHANNELS)
    return (dtype in (np.uint8, np.uint16) or dtype == np.bool_) and (channels or len(shape) == 3)


def _looks_like_points(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return dtype.kind == "f" and len(shape) == 2


def _interpret(x: np.ndarray, values: np.ndarray | None, where: str, log: list[str]) -> PictureArray | Values:
    if not x.size:
        raise UserError(f"{where}: the array is empty, {x.shape}")
    labels, classes = (None, ()) if values is None else index_labels(values, where)
    if looks_like_rows(x.shape, x.dtype):
        return interpret(x, labels, classes, where, log)
    if not _looks_like_pictures(x.shape, x.dtype):
        advice = _ADVICE
        if x.dtype.kind == "f" and x.ndim in (3, 4):
            advice = "pictures of floats have no stated range, save them as uint8 levels 0…255"
        raise UserError(f"{where}: {x.dtype} {x.shape} cannot be used: {advice}")
    if x.ndim == 3:
        x = x[..., None]
    elif x.shape[-1] not in _CHANNELS:
        log.append(f"channels come first, {x.shape}: moved to the end")
        x = np.moveaxis(x, 1, -1)
    return PictureArray(_eight_bit(x, log), labels, classes, log=log)


def _eight_bit(x: np.ndarray, log: list[str]) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    if x.dtype == np.bool_:
        log.append("true and false stored as white and black")
        return x.astype(np.uint8) * np.uint8(255)
    log.append("16-bit levels scaled to 8 bits")
    return sixteen_to_eight_bits(x)
