"""A user's own pictures, and masks of them, made what a run's network takes by the rules of its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unstir.data.decode import Refused, decode, fit
from unstir.data.files import SUFFIXES, folder_source
from unstir.data.pixels import in_mode
from unstir.data.raw import PictureFiles
from unstir.errors import UserError
from unstir.runs.build import colour_of
from unstir.runs.model import Model
from unstir.runs.reading import everything

MASKS = ("left", "right", "top", "bottom", "middle")
"""Masks that need no file: what is hidden."""

_WHITE = (255, 255, 255)
_UNKNOWN = 128  # levels from here on are white in a mask


@dataclass(frozen=True)
class Given:
    """Items that a user named.

    Args:
        x: as users hold them, (N, …). names: what each is called, (N,). log: what was done to them, in sentences.
    """

    x: np.ndarray
    names: list[str]
    log: list[str] = field(default_factory=list)


def read(model: Model, sources: Sequence[str | Path], *, size: tuple[int, int] | None = None) -> Given:
    """Items for a model: picture files, folders of them, or any data that it could be measured on.

    A picture is decoded, laid on the run's background, cut to the shape, resized and made grey or coloured as the run's own were.

    Args:
        sources: files and folders, in their order.
        size: (width, height) of pictures, instead of the run's.

    Raises:
        UserError: for what is not there, cannot be read, or is of another kind than the run's data.
    """
    parts = [_one(model, Path(source), size) for source in sources]
    if not parts:
        raise UserError("nothing was given to edit: name pictures or a folder of them, or items of the held-out data")
    x = np.concatenate([part.x for part in parts])
    said = dict.fromkeys(line for part in parts for line in part.log)  # what holds of every source is said once
    return Given(x, [n for part in parts for n in part.names], list(said))


def masks(model: Model, named: str | Path, count: int) -> np.ndarray:
    """Where ``count`` items are unknown, bool (1 or N, H, W), or (1 or N, D) of sequences and points.

    In a picture of a mask white is unknown, and so is what is transparent; one of another size is cut and resized as a picture
    would be, by nearest pixels.

    Args:
        named: one of :data:`MASKS`; a picture, for all items; a folder with one for each, in the order of their names; or an
            ``.npy`` of bool.

    Raises:
        UserError: for what cannot be read, and another number of masks.
    """
    event = model.spec.shape[1:] if model.spec.kind == "image" else model.spec.shape
    if isinstance(named, str) and named in MASKS:
        return _part(named, event)[None]
    path = Path(named)
    if path.suffix.lower() == ".npy":
        return _array(path)
    _check_pictures(model)
    files = _files(path)
    if len(files.names) not in (1, count):
        raise UserError(f"{path}: {len(files.names)} masks for {count} pictures: give one, or one for each")
    read = [_decoded(files, i, _WHITE, []) for i in range(len(files.names))]
    levels = [np.asarray(fit(image.convert("L"), _size(model), Image.Resampling.NEAREST)) for image in read]
    return np.stack(levels) >= _UNKNOWN


def _part(name: str, event: tuple[int, ...]) -> np.ndarray:
    """A half of an event, or its middle: half as long as the whole each way."""
    if name in ("top", "bottom") and len(event) < 2:
        raise UserError(f"only pictures have a {name}: say left or right, or give an .npy")
    mask = np.zeros(event, bool)
    axis = 0 if name in ("top", "bottom") else len(event) - 1
    side = event[axis]
    if name == "middle":
        mask[tuple(slice(n // 4, n - n // 4) for n in event)] = True
    else:
        half = slice(0, side // 2) if name in ("top", "left") else slice(side // 2, side)
        mask[(*(slice(None),) * axis, half)] = True
    return mask


def _array(path: Path) -> np.ndarray:
    try:
        mask = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder") from None
    except (OSError, ValueError, EOFError):
        raise UserError(f"{path}: cannot be read as an array") from None
    if mask.dtype != np.bool_ and not np.isin(mask, (0, 1)).all():
        raise UserError(f"{path}: a mask is true where something is unknown, false elsewhere, not {mask.dtype}")
    return mask.astype(bool)


def _one(model: Model, path: Path, size: tuple[int, int] | None) -> Given:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        _check_pictures(model)
        return _pictures(model, _files(path), size or _size(model))
    found = everything(model, str(path))
    if size not in (None, _size(model) if model.spec.kind == "image" else None):
        raise UserError(f"{path}: pictures of another size than the run's are read from files or a folder of them")
    splits = (found.train, found.heldout)
    rows = np.concatenate([np.arange(len(s)) if s.rows is None else s.rows for s in splits])
    order = rows.argsort(kind="stable")
    names = [name for split in splits for name in split.names]
    x = np.concatenate([np.asarray(split.x) for split in splits])[order]
    return Given(x, [names[i] for i in order], found.log)


def _pictures(model: Model, files: PictureFiles, size: tuple[int, int]) -> Given:
    mode = "L" if model.spec.shape[0] == 1 else "RGB"
    background = colour_of(model.config.data.background)
    rows, log, sizes = [], [], set()
    for i, name in enumerate(files.names):
        notes: list[str] = []
        image = _decoded(files, i, background, notes)
        log += [f"{name}: {note}" for note in notes]
        sizes.add(image.size)
        levels = np.asarray(fit(image, size).convert("RGB"))
        rows.append(in_mode(levels[None], mode)[0])
    if sizes != {size}:
        log.append(f"pictures cut to their middle and resized to {size[0]}×{size[1]}")
    return Given(np.stack(rows), list(files.names), log)


def _files(path: Path) -> PictureFiles:
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        files: Any = folder_source(path).open()
        return files
    read: Callable[[int], bytes] = lambda _: path.read_bytes()  # noqa: E731 - one file, whatever its number
    return PictureFiles([path.name], read)


def _decoded(files: PictureFiles, i: int, background: tuple[int, int, int], notes: list[str]) -> Image.Image:
    try:
        return decode(files.read(i), background, notes.append)[0]
    except Refused as refused:
        raise UserError(f"{files.names[i]}: {refused}") from None
    except OSError as error:
        raise UserError(f"{files.names[i]}: cannot be read ({error.strerror or error})") from None


def _size(model: Model) -> tuple[int, int]:
    return model.spec.shape[2], model.spec.shape[1]


def _check_pictures(model: Model) -> None:
    if model.spec.kind != "image":
        raise UserError(f"the run is of {model.spec.kind}, and pictures were given")
    if not model.spec.eight_bit:
        raise UserError("the run is of real numbers, which no picture file holds: give an .npy of the same kind")
