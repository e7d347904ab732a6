"""Points, bits, symbols and real pictures: data that need no decoding."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unstir.data import names
from unstir.data.codec import LEVELS, Codec, Scaling
from unstir.data.options import Options
from unstir.data.raw import Values
from unstir.data.spec import Dataset, DataSpec, Split
from unstir.data.split import content_hash, content_split, duplicates, row_hashes
from unstir.data.survey import Survey
from unstir.errors import UserError


def dataset_of(raw: Values, source: str | Path, options: Options) -> tuple[Dataset, Survey]:
    """Values split and described.

    Where they bring no held-out part it is ``split.content_split``. Equal points stay on one side; equal rows of bits or symbols
    are separate draws of a distribution, which is often over few values, and are split as such.

    Raises:
        UserError: when the options ask for what such data cannot give.
    """
    _refuse(options, raw.kind, source)
    log, survey = list(raw.log), Survey(len(raw.x))
    discrete = raw.kind in ("bits", "symbols")
    if raw.heldout is not None:
        train, heldout = np.flatnonzero(~raw.heldout), np.flatnonzero(raw.heldout)
    else:
        hashes = row_hashes(raw.x)
        if discrete:
            log += _repeated(hashes)
            hashes = _as_draws(hashes, raw.labels)
        else:
            survey.duplicates = [[f"#{i}" for i in rows] for rows in duplicates(hashes)]
        train, heldout = content_split(hashes)
    scaling = raw.scaling or (Scaling.of(raw.x[train]) if raw.kind == "points" else None)
    codec = Codec(raw.kind, scaling, raw.symbols)
    splits = [
        Split(raw.x[rows], None if raw.labels is None else raw.labels[rows], codec, rows) for rows in (train, heldout)
    ]
    spec = DataSpec(
        kind=raw.kind,
        shape=(raw.x.shape[-1], *raw.x.shape[1:-1]),  # (C, H, W) of pictures, (D,) of rows
        eight_bit=False,
        classes=raw.classes,
        source=str(source),
        rules=raw.rules or _rules(raw),
        hash=content_hash(array for split in splits for array in (split.x, split.labels)),
        scaling=scaling,
        symbols=raw.symbols,
    )
    return Dataset(spec, splits[0], splits[1], log), survey


def write(dataset: Dataset, survey: Survey, folder: Path) -> dict[str, Any]:
    """Both splits as ``.npy`` files; and what ``read`` needs beside them, in JSON types."""
    for name, split in (("train", dataset.train), ("heldout", dataset.heldout)):
        np.save(folder / f"{name}.npy", split.x)
        write_beside(folder, name, split.labels, split.rows)
    return {"spec": dataset.spec.to_json(), "log": dataset.log, "survey": survey.to_json()}


def read(folder: Path, meta: dict[str, Any], source: str | Path, options: Options) -> tuple[Dataset, Survey]:
    """What ``write`` wrote, memory-mapped.

    Raises:
        UserError: as ``dataset_of`` does.
    """
    spec = replace(DataSpec.from_json(meta["spec"]), source=str(source))
    _refuse(options, spec.kind, source)
    splits = read_splits(folder, spec.codec)
    return Dataset(spec, splits[0], splits[1], list(meta["log"])), Survey.from_json(meta["survey"])


def write_beside(folder: Path, name: str, labels: np.ndarray | None, rows: np.ndarray | None) -> None:
    """What a split of this name has beside its data, for ``read_splits``."""
    for what, array in (("labels", labels), ("rows", rows)):
        if array is not None:
            np.save(folder / f"{name}-{what}.npy", array)


def read_splits(folder: Path, codec: Codec = LEVELS) -> list[Split]:
    """Both splits of an entry, memory-mapped."""
    files = names.read(folder)

    def stored(name: str, mmap: Literal["r"] | None = None) -> np.ndarray | None:
        path = folder / f"{name}.npy"
        return np.load(path, mmap_mode=mmap, allow_pickle=False) if path.exists() else None

    splits = []
    for name in ("train", "heldout"):
        x = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        splits.append(Split(x, stored(f"{name}-labels"), codec, stored(f"{name}-rows", "r"), files))
    return splits


def _refuse(options: Options, kind: str, source: str | Path) -> None:
    if options.size is None and options.mode is None:
        return
    what = "real-valued pictures, which keep their size" if kind == "image" else f"{kind}, which have no pixels"
    raise UserError(f"{source}: holds {what}; leave size and mode out")


def _rules(raw: Values) -> str:
    if raw.kind == "bits":
        return f"Bits as they are, {np.count_nonzero(raw.x) / raw.x.size:.1%} of them 1."
    if raw.kind == "symbols":
        return f"Symbols 0…{(raw.symbols or 1) - 1} as they are."
    if raw.kind == "points":
        return "Points as float32, centred and divided by one number for the network."
    return "Real-valued pictures as they are, scaled by one number for the network."


def _repeated(hashes: list[bytes]) -> list[str]:
    distinct = len(set(hashes))
    if distinct == len(hashes):
        return []
    return [f"{distinct:,} different rows among {len(hashes):,}: equal ones may be held out and learned from"]


def _as_draws(hashes: list[bytes], labels: np.ndarray | None) -> list[bytes]:
    """Hashes that also tell equal rows apart, by how many came before: which copy is which cannot matter."""
    seen: Counter[tuple[bytes, int]] = Counter()
    apart = []
    for key, label in zip(hashes, [0] * len(hashes) if labels is None else labels.tolist()):
        seen[key, label] += 1
        apart.append(hashlib.blake2b(key + f"{label} {seen[key, label]}".encode(), digest_size=16).digest())
    return apart
