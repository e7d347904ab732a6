"""What the user calls each item: the file's path inside the source, or ``#17`` where items are rows of an array or table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

_TEXT, _ENDS = "names.npy", "names-ends.npy"


class _Lazy(Sequence[str]):
    """Strings that are made when they are asked for: a million of them take no memory before."""

    def one(self, i: int) -> str:
        raise IndexError(i)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        here = range(len(self))[i]
        return [self.one(j) for j in here] if isinstance(here, range) else self.one(here)


@dataclass(frozen=True, eq=False)
class Names(_Lazy):
    """Item i is called ``files[rows[i]]``, or by its row in the source, ``#17``, where it is no file.

    Args:
        rows: (N,), positions in the source, from 0.
        files: names of all of the source's files, in its order; None where items are rows.
    """

    rows: np.ndarray
    files: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def one(self, i: int) -> str:
        row = int(self.rows[i])
        return f"#{row}" if self.files is None else self.files[row]


@dataclass(frozen=True, eq=False)
class _Packed(_Lazy):
    """Name i is the UTF-8 between ``ends[i - 1]`` and ``ends[i]`` of ``text``; both may be memory maps."""

    text: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def one(self, i: int) -> str:
        return self.text[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes().decode()


def write(names: Sequence[str], folder: Path) -> None:
    """The names of a source's files as two ``.npy`` files, for :func:`read`."""
    encoded = [name.encode() for name in names]
    np.save(folder / _TEXT, np.frombuffer(b"".join(encoded), np.uint8))
    np.save(folder / _ENDS, np.cumsum([len(name) for name in encoded], dtype=np.int64))


def read(folder: Path) -> Sequence[str] | None:
    """What :func:`write` wrote, memory-mapped; None where it wrote nothing."""
    if not (folder / _ENDS).exists():
        return None
    return _Packed(np.load(folder / _TEXT, mmap_mode="r"), np.load(folder / _ENDS, mmap_mode="r"))
