"""Pictures in files: a folder, or a ``.zip`` of one.

A picture is a file with a picture's suffix. Hidden files and folders and what archivers leave behind are passed over;
other files are counted in the log. The classes are the folders that the pictures lie in, counted from the first level
where they part; ``dataset.json`` (EDM's list of file names and labels) takes precedence.
"""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unstir.data.raw import PictureFiles, Source, index_labels
from unstir.errors import UserError

SUFFIXES = frozenset(
    {
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jp2",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".avif",
    }
    | {".heic", ".heif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".ico", ".qoi", ".pcx", ".sgi", ".psd", ".dds"}
)
_LABELS = "dataset.json"
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
_LARGEST_FILE = 2**30  # bytes: a zip member may claim any size


def folder_source(folder: Path) -> Source:
    """All pictures below a folder, in the order of their names."""
    paths: dict[str, Path] = {}
    for directory, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not passed_over(name)]
        for name in names:
            if not passed_over(name):
                path = Path(directory, name)
                paths[path.relative_to(folder).as_posix()] = path
    names, others = _sort_out(paths)
    inputs = {name: paths[name] for name in [*names, *(other for other in others if other == _LABELS)]}

    def open_folder() -> PictureFiles:
        labels = paths[_LABELS].read_bytes() if _LABELS in paths else None
        return _picture_files(names, others, lambda i: paths[names[i]].read_bytes(), labels, str(folder))

    return Source(inputs, open_folder)


def zip_source(path: Path) -> Source:
    """All pictures in a ``.zip``, in the order of their names; nothing is unpacked."""

    def open_zip() -> PictureFiles:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{path}: cannot be read as a zip file ({error})") from error
        members = {
            member.filename: member
            for member in archive.infolist()
            if not member.is_dir() and not any(passed_over(part) for part in member.filename.split("/"))
        }
        names, others = _sort_out(members)

        def read(i: int) -> bytes:
            member = members[names[i]]
            if member.file_size > _LARGEST_FILE:
                raise OSError(f"{member.file_size:,} bytes, more than {_LARGEST_FILE:,}")
            return archive.read(member)

        labels = archive.read(members[_LABELS]) if _LABELS in members else None
        return _picture_files(names, others, read, labels, str(path))

    return Source({path.name: path}, open_zip)


def shown(name: str) -> str:
    """A file name that can be printed and stored: one line, valid UTF-8."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def passed_over(name: str) -> bool:
    """Whether a file or folder of this name is one that no user means: hidden, or left behind by a system."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _sort_out(names: dict[str, object] | dict[str, Path] | dict[str, zipfile.ZipInfo]) -> tuple[list[str], list[str]]:
    """Pictures and other files, each in the order of their names."""
    ordered = sorted(names)
    pictures = [name for name in ordered if os.path.splitext(name)[1].lower() in SUFFIXES]
    return pictures, sorted(set(ordered) - set(pictures))


def _picture_files(
    names: list[str], others: list[str], read: Callable[[int], bytes], labels: bytes | None, where: str
) -> PictureFiles:
    if not names:
        held = f"{len(others)} other files, e.g. {shown(others[0])}" if others else "it is empty"
        raise UserError(f"{where}: no pictures in it ({held}); pictures are files such as .png, .jpg, .webp, .tif")
    log = []
    unused = [shown(name) for name in others if name != _LABELS]
    if unused:
        log.append(f"{some(unused)}: no picture's suffix, ignored")
    index, classes = _edm_labels(labels, names, log) if labels is not None else folder_labels(names, where, log)
    return PictureFiles([shown(name) for name in names], read, index, classes, log)


def some(names: Sequence[str], most: int = 3) -> str:
    """``a``, ``a, b, c``, ``a, b, c and 14 more``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def folder_labels(names: list[str], where: str, log: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Classes from the folders that pictures lie in, counted from the first level where they part."""
    folders = [name.split("/")[:-1] for name in names]
    # Of sorted sequences the first and the last differ earliest.
    ends = zip(min(folders), max(folders))
    depth = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))
    first = [folder[depth] if len(folder) > depth else "" for folder in folders]
    classes = sorted(set(first) - {""})
    if len(classes) > 1 and {name.lower() for name in classes} <= _SPLITS:
        raise UserError(
            f"{where}: its folders are {', '.join(map(shown, classes))}, splits rather than classes; give one"
        )
    if not classes:
        return None, ()
    if "" in first:
        log.append(f"no classes: {first.count('')} pictures lie beside the folders {some(list(map(shown, classes)))}")
        return None, ()
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[name] for name in first], np.int64), tuple(map(shown, classes))


def _edm_labels(data: bytes, names: list[str], log: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """``{"labels": [["00000/img00000000.png", 6], …]}``, or null for none."""
    try:
        pairs = json.loads(data)["labels"]
        given = None if pairs is None else {str(name): label for name, label in pairs}
        if given and any(isinstance(label, list | dict) for label in given.values()):
            raise ValueError("a label is one whole number or name")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{_LABELS}: expected {{'labels': [['name.png', 6], …]}} ({error})") from error
    if given is None:
        log.append(f"no classes: {_LABELS} says so")
        return None, ()
    missing = [shown(name) for name in names if name not in given]
    if missing:
        log.append(f"no classes: {_LABELS} has no label for {some(missing)}")
        return None, ()
    log.append(f"labels taken from {_LABELS}")
    return index_labels(np.array([given[name] for name in names]), _LABELS)
