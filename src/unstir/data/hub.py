"""Data sets of the ``datasets`` library: ``hf:NAME``, ``hf:NAME:SPLIT``, with a local folder or file's path for NAME as well.

The library downloads, or converts, into Arrow files in its own cache. Pictures are read from there as they were encoded; a
column of classes or of whole numbers beside them makes labels. By default the split is ``train``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unstir.data.raw import PictureFiles, Source, index_labels
from unstir.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREFIX = "hf:"
_LABELS = ("label", "labels", "class", "target", "fine_label", "y")


def is_named(source: str) -> bool:
    """Whether this names such a data set."""
    return source.startswith(_PREFIX)


def hub_source(source: str) -> Source:
    """The pictures of a data set of that library, which depend on its Arrow files.

    Raises:
        UserError: when the library is not installed, or cannot load what is named.
    """
    table = _loaded(source)
    files = [Path(file["filename"]) for file in table.cache_files]
    if not files:
        raise UserError(f"{source}: it is kept in memory alone, without a file to know it by: save it as parquet first")
    inputs = {f"{source} {i}": path for i, path in enumerate(files)}
    return Source(inputs, lambda: _pictures(table, source))


def _loaded(source: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source} needs the package datasets: pip install 'unstir[data]'") from None
    name, _, split = source.removeprefix(_PREFIX).partition(":")
    path = Path(name)
    try:
        if (path / "state.json").is_file():  # what save_to_disk left
            return datasets.load_from_disk(name)
        if path.is_file():
            return datasets.load_dataset(path.suffix.removeprefix("."), data_files=name, split=split or "train")
        return datasets.load_dataset(name, split=split or "train")
    # The library raises errors of many kinds of its own and of those that it is built on.
    except Exception as error:
        raise UserError(f"{source}: cannot be loaded: {_line(error)}") from None


def _pictures(table: Any, source: str) -> PictureFiles:
    import datasets

    columns = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise UserError(f"{source}: no column of pictures among {', '.join(table.column_names)}")
    column, log = columns[0], []
    if len(columns) > 1:
        log.append(f"pictures taken from the column {column!r}, not {', '.join(map(repr, columns[1:]))}")
    encoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    first = encoded[0][column] if len(table) else None
    if first is not None and first["bytes"] is None:
        # Their content is no part of what the data is known by.
        raise UserError(f"{source}: it names picture files instead of holding them: give the folder that they lie in")

    def read(i: int) -> bytes:
        stored = encoded[i][column]
        if stored is None:
            raise OSError("there is no picture in this row")
        return stored["bytes"]

    labels, classes = _labels(table, source, log)
    return PictureFiles([f"{i:08d}" for i in range(len(table))], read, labels, classes, log)


def _labels(table: Any, source: str, log: list[str]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    import datasets

    columns: Iterable[str] = [name for name, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
    column = next(iter([*columns, *(name for name in _LABELS if name in table.column_names)]), None)
    if column is None:
        return None, ()
    kind, values = table.features[column], table[column][:]
    if any(value is None for value in values):
        log.append(f"no classes: the column {column!r} has rows without one")
        return None, ()
    log.append(f"classes taken from the column {column!r}")
    if isinstance(kind, datasets.ClassLabel):
        if min(values) >= 0:
            return np.array(values, np.int64), tuple(kind.names)
        log[-1] = f"no classes: the column {column!r} has rows without one"
        return None, ()
    return index_labels(np.array(values), f"{source}: {column}")


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
