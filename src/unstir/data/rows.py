"""What an array of rows (N, D) means: numbers are points, truth values bits, whole numbers bits or symbols."""

from __future__ import annotations

import numpy as np

from unstir.data.raw import Values
from unstir.errors import UserError

LARGEST_ALPHABET = 256
_MANY = 100  # symbols, above which rows of levels are more likely than an alphabet


def looks_like_rows(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether ``interpret`` takes an array of this shape and type."""
    return len(shape) == 2 and dtype.kind in "fbiu"


def interpret(x: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], where: str, log: list[str]) -> Values:
    """Rows as points, bits or symbols.

    - floats: points, float32;
    - bool, or whole numbers of which none is other than 0 and 1: bits;
    - other whole numbers from 0: symbols 0 … K-1, K one more than the largest.

    Args:
        x: (N, D), not empty. where: named in errors. log: gets a sentence for what was done.

    Raises:
        UserError: for numbers that are infinite or not a number, negative symbols, and more than 256 of them.
    """
    if x.dtype.kind == "f":
        return _points(x, labels, classes, where, log)
    if x.dtype == np.bool_:
        return Values("bits", x, labels, classes, log)
    lowest, highest = int(x.min()), int(x.max())
    if lowest < 0:
        row, column = np.argwhere(x < 0)[0]
        raise UserError(
            f"{where}: {x[row, column]} at row {row}, column {column} (from 0): symbols are 0, 1, 2 …; "
            "number them from 0, or save numbers as floats"
        )
    if highest <= 1:
        log.append(f"{x.dtype} rows of 0 and 1 taken as bits")
        return Values("bits", x.astype(np.bool_), labels, classes, log)
    if highest >= LARGEST_ALPHABET:
        raise UserError(
            f"{where}: whole numbers up to {highest:,} would be an alphabet of {highest + 1:,} symbols, and "
            f"{LARGEST_ALPHABET} is the most; save them as floats if they are numbers"
        )
    log.append(
        f"{x.dtype} rows taken as symbols 0…{highest}, which have no order; save them as floats if they are numbers"
    )
    if highest >= _MANY:
        log.append("so many symbols look like levels: save flattened pictures as (N, H, W)")
    return Values("symbols", x.astype(np.uint8), labels, classes, log, symbols=highest + 1)


def _points(x: np.ndarray, labels: np.ndarray | None, classes: tuple[str, ...], where: str, log: list[str]) -> Values:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted with the rest
        points = x.astype(np.float32)
    if not np.isfinite(points).all():
        raise UserError(
            f"{where}: {(~np.isfinite(points)).sum():,} values are infinite or not a number (as float32); "
            "remove their rows"
        )
    if x.dtype != np.float32:
        log.append(f"{x.dtype} values stored as float32")
    return Values("points", points, labels, classes, log)
