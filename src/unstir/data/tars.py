"""Pictures in ``.tar`` shards, as webdataset lays them out: one file, a folder of them, or ``train-{000..010}.tar``.

A sample is what has one name up to the first dot: ``0017.jpg`` the picture, ``0017.cls`` its class, a number or a name. Where
there is no ``.cls`` the classes are folders, as in a folder of pictures. Nothing is unpacked: pictures are read where they lie
in the shards, so those must not be compressed.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unstir.data.files import SUFFIXES, folder_labels, passed_over, shown, some
from unstir.data.raw import PictureFiles, Source, index_labels
from unstir.errors import UserError

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CLASS = "cls"
_LONGEST_LABEL = 1_000  # bytes


@dataclass(frozen=True)
class _Picture:
    """Where a picture lies, and what is said of it."""

    shard: Path
    name: str
    start: int
    size: int
    label: str | None


def is_pattern(source: str) -> bool:
    """Whether this names shards by a range or by wildcards."""
    return source.endswith(".tar") and bool(_RANGE.search(source) or set("*?[") & set(source))


def found(source: str | Path) -> list[Path]:
    """The shards that are named, in order; none where a folder holds none.

    Raises:
        UserError: when one of a range is not there, or wildcards match nothing.
    """
    text, path = str(source), Path(source)
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    span = _RANGE.search(text)
    if span is None:
        paths = sorted(path.parent.glob(path.name)) if is_pattern(text) else [path]
        if not paths:
            raise UserError(f"{source}: no such shards")
        return paths
    first, last = int(span[1]), int(span[2])
    paths = [Path(f"{text[: span.start()]}{i:0{len(span[1])}}{text[span.end() :]}") for i in range(first, last + 1)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise UserError(f"{source}: {some(missing) or 'an empty range'}: no such shards")
    return paths


def tar_source(shards: list[Path], where: str) -> Source:
    """All pictures in shards, in the order of the shards and in them of their places."""
    return Source({str(path): path for path in shards}, lambda: _open(shards, where))


def _open(shards: list[Path], where: str) -> PictureFiles:
    pictures, log = [], []
    others: list[str] = []
    for path in shards:
        pictures += _indexed(path, others)
    if not pictures:
        raise UserError(f"{where}: no pictures in it; pictures are files such as 0017.png, 0017.jpg, 0017.webp")
    if others:
        log.append(f"{some(others)}: neither picture nor class, ignored")
    labels, classes = _labels(pictures, where, log)

    def read(i: int) -> bytes:
        picture = pictures[i]
        with picture.shard.open("rb") as file:
            file.seek(picture.start)
            return file.read(picture.size)

    names = [shown(f"{picture.shard.name}/{picture.name}") for picture in pictures]
    return PictureFiles(names, read, labels, classes, log)


def _indexed(path: Path, others: list[str]) -> list[_Picture]:
    """The pictures of a shard; names of what is neither picture nor class are added to the others."""
    found: list[tuple[str, tarfile.TarInfo]] = []
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if not member.isfile() or any(passed_over(part) for part in member.name.split("/")):
                    continue
                key, _, ending = _parted(member.name)
                if os.path.splitext(member.name)[1].lower() in SUFFIXES:
                    found.append((key, member))
                elif ending == _CLASS and member.size <= _LONGEST_LABEL:
                    file = archive.extractfile(member)
                    labels[key] = file.read().decode("utf-8", "replace").strip() if file else ""
                else:
                    others.append(shown(f"{path.name}/{member.name}"))
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"{path}: cannot be read as an uncompressed tar file ({error}): unpack what is compressed"
        ) from None
    return [_Picture(path, member.name, member.offset_data, member.size, labels.get(key)) for key, member in found]


def _parted(name: str) -> tuple[str, str, str]:
    """A sample's name, the dot, and what of the sample this is."""
    folder, slash, last = name.rpartition("/")
    key, dot, ending = last.partition(".")
    return folder + slash + key, dot, ending.lower()


def _labels(pictures: list[_Picture], where: str, log: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    given = [picture.label for picture in pictures]
    if all(label is None for label in given):
        return folder_labels([picture.name for picture in pictures], where, log)
    missing = [picture.name for picture in pictures if picture.label is None]
    if missing:
        log.append(f"no classes: {some(list(map(shown, missing)))} have no .{_CLASS}")
        return None, ()
    log.append(f"classes taken from .{_CLASS}")
    numbers = all(re.fullmatch(r"-?\d{1,18}", label or "") for label in given)
    return index_labels(np.array([int(label or 0) for label in given] if numbers else given), where)
