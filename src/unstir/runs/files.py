"""Samples as files: a grid, arrays, or one picture each."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unstir.data import contact_sheet
from unstir.data.codec import LEVELS, Codec
from unstir.data.sources import path_of
from unstir.errors import UserError

_OURS = re.compile(r"\d{6,}\.png")  # what write puts into a folder


def check(target: Path, *, codec: Codec = LEVELS, source: str = "") -> None:
    """Refuses a target that :func:`write` could not write, or should not, before the samples are drawn.

    Args:
        codec: what the samples will be: of data that are no pictures there are neither grids nor folders.
        source: the data that the model was trained on, which samples must not fall among.
    """
    suffix = target.suffix.lower()
    if codec.kind != "image" and suffix not in (".npz", ".npy"):
        raise UserError(f"samples of {codec.kind} cannot be written as {suffix or 'a folder'}: give x.npz or x.npy")
    if suffix not in ("", ".png", ".npz", ".npy"):
        raise UserError(f"samples cannot be written as {suffix}: give x.png, x.npz, x.npy, or a folder")
    if target.is_dir() if suffix else target.is_file():
        raise UserError(f"{target} is already there, as a {'folder' if suffix else 'file'}: choose another --out")
    if source:
        check_apart(target, source, "the data that this run was trained on")
    if target.is_dir():
        seen = (path.name for path in target.iterdir() if not path.name.startswith("."))
        strange = sorted(name for name in seen if not _OURS.fullmatch(name))
        if strange:
            raise UserError(f"{target} holds other things than samples, such as {strange[0]}: choose another --out")
    check_place(target)


def check_apart(target: Path, source: str, what: str) -> None:
    """Refuses to write over data, or into its folder.

    Args:
        what: the data are, for the error.
    """
    own = path_of(source)
    if own is None or not own.exists():
        return
    place = target.resolve()
    if any(path.exists() and path.samefile(own) for path in (place, *place.parents)):
        raise UserError(f"{target} is among {what}, {source}: choose another --out")


def check_place(target: Path) -> None:
    """Refuses a file or folder that cannot be made, or written beside its place and renamed.

    A file without a name is made in the nearest folder that is there, and goes: what is allowed, as to root in /proc, may yet
    not be possible.
    """
    there = next(path for path in (target, *target.absolute().parents) if path.exists())
    if there != target and not there.is_dir():
        raise UserError(f"{target} cannot be made: {there} is not a folder")
    folder = there if there.is_dir() else there.absolute().parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        raise UserError(f"{target} cannot be written: {folder} does not allow it") from None
    if not os.access(there, os.W_OK):
        raise UserError(f"{target} cannot be written: {there} does not allow it")


def write(
    data: np.ndarray, target: Path, indices: Sequence[int], *, codec: Codec = LEVELS, columns: int | None = None
) -> Path:
    """Writes samples in the form that the target's name asks for.

    Args:
        data: as users hold it, see :mod:`unstir.data.codec`.
        target: ``x.png`` for one grid (images only), ``x.npz`` or ``x.npy`` for arrays, else a folder of PNGs named by index.
        codec: what the data are.
        indices: the samples' indices, (N,).
        columns: of a grid; by default about as many as rows.

    Returns:
        What was written.

    Raises:
        UserError: as :func:`check`.
    """
    check(target, codec=codec)
    suffix = target.suffix.lower()
    if not suffix:
        write_pictures(data, target, indices, codec=codec)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            if suffix == ".png":
                contact_sheet(codec.levels(data), columns).save(file, "png")
            else:
                np.savez_compressed(file, data) if suffix == ".npz" else np.save(file, data)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def write_pictures(data: np.ndarray, folder: Path, indices: Sequence[int], *, codec: Codec = LEVELS) -> None:
    """One PNG for each sample, under :func:`name_of` its index: written aside and renamed, so that a name means a whole picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in zip(indices, codec.levels(data), strict=True):
        aside = folder / f".{index}.{os.getpid()}"
        try:
            with aside.open("wb") as file:
                Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image).save(file, "png")
            aside.replace(folder / name_of(index))
        finally:
            aside.unlink(missing_ok=True)


def is_sample(name: str) -> bool:
    """Whether a file's name is one that :func:`name_of` gives."""
    return bool(_OURS.fullmatch(name))


def name_of(index: int) -> str:
    """The file of a sample, in a folder of them."""
    return f"{index:06d}.png"
