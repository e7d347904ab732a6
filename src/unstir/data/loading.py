"""``load``: from what the user names to a data set ready for training."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from unstir.data import names, values
from unstir.data.attach import attach
from unstir.data.cache import Cache, default_cache
from unstir.data.options import Options
from unstir.data.pixels import Progress
from unstir.data.prepare import Prepared, prepare
from unstir.data.raw import Raw, Source, Values
from unstir.data.sources import find
from unstir.data.spec import Dataset, DataSpec, Split
from unstir.data.split import content_hash
from unstir.data.survey import Survey
from unstir.errors import UserError


def load(
    source: str | Path,
    *,
    size: int | None = None,
    mode: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    strict: bool = False,
    vectors: str | Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Data from a path, or data that come with the package, by name.

    - Pictures: a folder, ``.zip``, ``.npz``, ``.npy``, or idx ``.gz``; ``digits`` is embedded. See ``arrays`` and ``files``.
    - Pictures in shards, ``.tar`` or Hugging Face's ``hf:NAME``: see ``tars`` and ``hub``.
    - Points, bits and symbols: ``.npz`` and ``.npy`` with two dimensions, see ``rows``; ``.csv``, see ``table``.
    - Toys: ``swiss-roll``, ``moons``, ``heartbeat``, ``dead-leaves``, see ``toys``.

    Pictures are decoded once and memory-mapped from a cache keyed by content afterwards. Where a source brings its own
    held-out part (``digits``, the toys, MNIST's t10k files) that is used; else ``split.content_split``.

    Args:
        source: ``"digits"``, a toy's name, or a path.
        size: the side in pixels of square pictures. None keeps the native size when all are equal and at most 128;
            pictures of mixed or larger sizes go to the median shorter side, rounded down to a power of two, within 8…64.
            Only for pictures of levels, as is the mode.
        mode: ``"L"`` or ``"RGB"``; None: L when every picture is grey (R = G = B in every pixel), else RGB.
        background: levels (red, green, blue) behind transparent pixels.
        strict: a file that cannot be used is an error instead of being skipped.
        vectors: a ``.csv`` of numbers that go with each item: see ``attach.attach``.
        cache: the folder of the cache; None: see ``cache.default_cache``.
        progress: called with (pictures done, pictures in all) while decoding.

    Raises:
        UserError: when the source cannot be used, or with ``strict`` a file of it.
    """
    dataset, _ = load_surveyed(source, Options(size, mode, background), strict, cache, progress)
    try:
        return dataset if vectors is None else attach(dataset, Path(vectors))
    except OSError as error:
        raise UserError(f"{vectors}: cannot be read ({error.strerror or error})") from None


def load_surveyed(
    source: str | Path, options: Options, strict: bool, cache: Path | None, progress: Progress | None
) -> tuple[Dataset, Survey]:
    """``load``, together with what was found on the way."""
    try:
        found = find(source)
        if found.recipe:
            dataset, survey = _kept(found, source, options, Cache(cache or default_cache()))
        elif not found.inputs:
            dataset, survey = _in_memory(found.open(), source, options, progress)
        else:
            dataset, survey = _through_cache(found, source, options, Cache(cache or default_cache()), progress)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error})") from error
    if strict and survey.broken:
        name, reason = survey.broken[0]
        others = f"; so are {len(survey.broken) - 1} others" if len(survey.broken) > 1 else ""
        raise UserError(f"{source}: {name} cannot be used: {reason}{others}; remove it, or leave out strict to skip it")
    return dataset, survey


def _kept(found: Source, source: str | Path, options: Options, cache: Cache) -> tuple[Dataset, Survey]:
    """Values that take long to make, memory-mapped from the cache."""
    made = None
    try:
        key = cache.key({}, found.recipe)
        entry = cache.find(key)
        if entry is None:
            made = _in_memory(found.open(), source, options, None)
            with cache.writing() as staging:
                entry = cache.publish(staging, key, values.write(*made, staging))
        return values.read(*entry, source, options)
    except OSError as error:
        dataset, survey = made or _in_memory(found.open(), source, options, None)
        dataset.log.append(f"kept in memory, because the cache cannot be used ({error})")
        return dataset, survey


def _through_cache(
    found: Source, source: str | Path, options: Options, cache: Cache, progress: Progress | None
) -> tuple[Dataset, Survey]:
    raw = None
    try:
        key = cache.key(found.inputs, options)
        entry = cache.find(key)
        if entry is None:
            raw = found.open()
            if isinstance(raw, Values):
                return values.dataset_of(raw, source, options)
            with cache.writing() as work, cache.writing() as staging:
                prepared = prepare(raw, options, lambda shape: _scratch(work, shape), progress)
                entry = cache.publish(staging, key, _write(prepared, staging))
        return _from_entry(*entry, source)
    except OSError as error:
        dataset, survey = _in_memory(raw or found.open(), source, options, progress)
        dataset.log.append(f"kept in memory, because the cache cannot be used ({error})")
        return dataset, survey


def _in_memory(raw: Raw, source: str | Path, options: Options, progress: Progress | None) -> tuple[Dataset, Survey]:
    if isinstance(raw, Values):
        return values.dataset_of(raw, source, options)
    prepared = prepare(raw, options, lambda shape: np.empty(shape, np.uint8), progress)
    splits = [
        Split(
            np.concatenate(list(prepared.pixels.parts(rows))),
            None if prepared.labels is None else prepared.labels[rows],
            rows=rows,
            files=prepared.files,
        )
        for rows in (prepared.train, prepared.heldout)
    ]
    return _dataset(_meta(prepared, splits), splits, source)


def _write(prepared: Prepared, staging: Path) -> dict[str, Any]:
    """Both splits as ``.npy`` files; and what ``_dataset`` needs beside them."""
    channels, height, width = prepared.pixels.shape
    for name, rows in (("train", prepared.train), ("heldout", prepared.heldout)):
        # Written as a file, not through a memory map: a full disk is then an error and not a crash.
        with (staging / f"{name}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), height, width, channels)}
            np.lib.format.write_array_header_1_0(file, header)
            for part in prepared.pixels.parts(rows):
                file.write(np.ascontiguousarray(part).data)
        values.write_beside(staging, name, None if prepared.labels is None else prepared.labels[rows], rows)
    if prepared.files is not None:
        names.write(prepared.files, staging)
    return _meta(prepared, values.read_splits(staging))


def _from_entry(folder: Path, meta: dict[str, Any], source: str | Path) -> tuple[Dataset, Survey]:
    return _dataset(meta, values.read_splits(folder), source)


def _meta(prepared: Prepared, splits: list[Split]) -> dict[str, Any]:
    fields = {"shape": prepared.pixels.shape, "classes": prepared.classes, "rules": prepared.rules}
    return fields | {"hash": _hash(splits), "log": prepared.log, "survey": prepared.survey.to_json()}


def _dataset(meta: dict[str, Any], splits: list[Split], source: str | Path) -> tuple[Dataset, Survey]:
    classes = tuple(meta["classes"])
    spec = DataSpec("image", tuple(meta["shape"]), True, classes, str(source), meta["rules"], meta["hash"])
    return Dataset(spec, splits[0], splits[1], meta["log"]), Survey.from_json(meta["survey"])


def _hash(splits: list[Split]) -> str:
    return content_hash(array for split in splits for array in (split.x, split.labels))


def _scratch(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    needed = 2 * math.prod(shape)  # this and the entry made of it
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"{needed:,} bytes needed in {folder}, {free:,} free")
    return np.lib.format.open_memmap(folder / "scratch.npy", "w+", np.uint8, shape)
