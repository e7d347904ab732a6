"""Which pictures are held out, and which are the same: both decided by content alone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

_SHARE = 10  # one in ten is held out
_MOST = 5000


def row_hashes(x: np.ndarray) -> list[bytes]:
    """A 16-byte hash of each row's values."""
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in x]


def content_split(hashes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The rows to learn from and the rows held out, each in order.

    A tenth, at least 1 and at most 5,000, is held out: the rows of the lowest hashes. So neither order nor names nor a
    seed matters, and equal rows stay on one side as long as that leaves both sides filled. Of two equal rows each side
    gets one; a single row serves on both sides.

    Args:
        hashes: N ≥ 1 hashes, equal for equal rows.

    Returns:
        two int64 arrays of indices.
    """
    number = len(hashes)
    if number == 1:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    wanted = min(_MOST, max(1, round(number / _SHARE)))
    heldout: list[int] = []
    groups = _groups(hashes)
    for key in sorted(groups):
        if len(heldout) + len(groups[key]) <= wanted:
            heldout += groups[key]
    if not heldout:  # every row has more copies than are to be held out
        heldout = groups[min(groups, key=lambda key: (len(groups[key]), key))][:wanted]
    mask = np.zeros(number, bool)
    mask[heldout] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def duplicates(hashes: Sequence[bytes]) -> list[list[int]]:
    """Groups of two or more equal rows, in order of their first."""
    return [rows for rows in _groups(hashes).values() if len(rows) > 1]


def content_hash(arrays: Iterable[np.ndarray | None], rows: int = 4096) -> str:
    """SHA-256 (hex) of the arrays' types, shapes and values; None counts as an absent array."""
    total = hashlib.sha256()
    for array in arrays:
        if array is None:
            total.update(b"none;")
            continue
        total.update(f"{array.dtype.str}{array.shape};".encode())
        for start in range(0, len(array), rows):  # in parts: a memory map may be larger than memory
            total.update(np.ascontiguousarray(array[start : start + rows]).data)
    return total.hexdigest()


def _groups(hashes: Sequence[bytes]) -> dict[bytes, list[int]]:
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(hashes):
        groups[key].append(i)
    return groups
