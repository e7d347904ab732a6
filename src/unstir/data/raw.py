"""What a source holds before anything is done to it: one of three kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unstir.data.codec import Scaling
from unstir.errors import UserError


@dataclass(frozen=True)
class PictureFiles:
    """Named pictures, not yet decoded: ``read(i)`` gives the bytes of picture i."""

    names: Sequence[str]
    read: Callable[[int], bytes]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PictureArray:
    """Pictures of one size: uint8 (N, H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; ``heldout`` (N,) if given."""

    images: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    heldout: np.ndarray | None = None
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Values:
    """Data that is used as it is.

    Args:
        kind: ``"points"``: float32 (N, D). ``"bits"``: bool (N, D). ``"symbols"``: uint8 (N, D), 0 … K-1.
            ``"image"``: float32 (N, H, W, C).
        symbols: K; None for other kinds.
        scaling: what the network is to see; None: points are scaled by what is found in them. Images must bring their own.
        heldout: bool (N,), if given.
        rules: a sentence for the description; by default one that suits the kind.
    """

    kind: str
    x: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    log: list[str] = field(default_factory=list)
    symbols: int | None = None
    scaling: Scaling | None = None
    heldout: np.ndarray | None = None
    rules: str = ""


Raw = PictureFiles | PictureArray | Values


@dataclass(frozen=True)
class Source:
    """Where data come from, and how to read them.

    Args:
        inputs: the files they depend on, by name; none when they are built in.
        recipe: names built-in data that is worth keeping in the cache, and changes whenever they do.
    """

    inputs: dict[str, Path]
    open: Callable[[], Raw]
    recipe: str = ""


def index_labels(values: np.ndarray, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as indices into class names.

    Whole numbers from 0 keep their value when at least half of 0…max occur; all other values are sorted and numbered.

    Args:
        values: (N,) whole numbers or strings.
        where: named in errors.

    Returns:
        int64 (N,), and the class names.

    Raises:
        UserError: for labels that are neither whole numbers nor strings.
    """
    if values.ndim != 1 or values.dtype.kind not in "iubU":
        raise UserError(
            f"{where}: labels must be one whole number or name for each item, not {values.dtype} {values.shape}"
        )
    names, index = np.unique(values, return_inverse=True)
    if values.dtype.kind in "iu" and len(names) and names[0] >= 0 and int(names[-1]) < 2 * len(names):
        return values.astype(np.int64), tuple(str(k) for k in range(int(names[-1]) + 1))
    return index.astype(np.int64), tuple(str(name) for name in names)
