"""Vectors from a table beside the data, brought to the items that they belong to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unstir.data.spec import Dataset, Split
from unstir.data.split import content_hash
from unstir.data.table import Table, counts_rows, parse
from unstir.data.vectors import Vectors
from unstir.errors import UserError

_FILE_NAMES = ("file", "filename", "file_name", "name", "path", "image", "picture")


def attach(dataset: Dataset, path: Path) -> Dataset:
    """The data with each item's numbers from a ``.csv``.

    One column, called file, name, path, image or picture or holding text, names the items: by their path inside the source, or by
    the file's name alone where no two are alike. Without one, row i is item i of a source whose items are no files. All other
    columns are numbers. Rows of other items are passed over.

    Raises:
        UserError: for a table that cannot be read, an item without a row or with two, and what is no number.
    """
    table = parse(path)
    columns = list(range(len(table.rows[0])))[counts_rows(table) :]
    key = _key(table, columns)
    columns = [column for column in columns if column != key]
    if not columns:
        raise UserError(f"{path}: there is no column of numbers beside the file names")
    values = np.stack([table.column(column) for column in columns], 1)
    splits = (dataset.train, dataset.heldout)
    places = _by_order(table, splits) if key is None else _by_name(table, key, splits)
    names = [(table.names or [])[i] if table.names else f"column {i + 1}" for i in columns]
    vectors = Vectors.of(names, values[places[0]])
    scaled = [vectors.inside(values[place]) for place in places]
    same = hashlib.sha256(f"{dataset.spec.hash} {content_hash(scaled)} {names}".encode()).hexdigest()
    passed = len(table.rows) - len(np.unique(np.concatenate(places)))
    log = [
        f"{path.name}: {len(names)} numbers for each item ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})",
        *([f"{path.name}: {passed:,} rows are of no item here, passed over"] if passed else ()),
        *(
            f"{path.name}: {name} is the same for every item to learn from"
            for name, spread in zip(names, values[places[0]].std(0))
            if spread == 0
        ),
    ]
    return replace(
        dataset,
        spec=replace(dataset.spec, vectors=vectors, hash=same),
        train=replace(dataset.train, vectors=scaled[0]),
        heldout=replace(dataset.heldout, vectors=scaled[1]),
        log=[*dataset.log, *log],
    )


def _key(table: Table, columns: list[int]) -> int | None:
    """The column that names the items."""
    for column in columns:
        if table.names and table.names[column].lower() in _FILE_NAMES:
            return column
    first = columns[0]
    return first if any(not np.isfinite(table.number(row[first])) for row in table.rows) else None


def _by_order(table: Table, splits: Sequence[Split]) -> list[np.ndarray]:
    if any(split.files is not None for split in splits):
        raise UserError(f"{table.path}: no column holds file names; call it file")
    rows = [np.arange(len(split)) if split.rows is None else np.asarray(split.rows) for split in splits]
    items = int(max(each.max() for each in rows)) + 1
    if any(split.rows is None for split in splits) or len(table.rows) != items:
        raise UserError(
            f"{table.path}: has {len(table.rows):,} rows and no column of names, and the data have {items:,} items: "
            "one row for each, in their order"
        )
    return rows


def _by_name(table: Table, key: int, splits: Sequence[Split]) -> list[np.ndarray]:
    said = [row[key].strip().removeprefix("./") for row in table.rows]
    twice = [name for name, count in Counter(said).items() if count > 1]
    if twice:
        raise UserError(f"{table.path}: {twice[0]} has more than one row")
    place = {name: i for i, name in enumerate(said)}
    wanted = [name for split in splits for name in split.names]
    short = Counter(name.rsplit("/", 1)[-1] for name in set(wanted))
    found, missing = {}, []
    for name in wanted:
        base = name.rsplit("/", 1)[-1]
        at = place.get(name, place.get(base) if short[base] == 1 else None)
        if at is None:
            missing.append(name)
        else:
            found[name] = at
    if missing:
        more = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise UserError(f"{table.path}: has no row for {missing[0]}{more}: add them, or remove the pictures")
    return [np.array([found[name] for name in split.names], np.int64) for split in splits]
