"""Vectors and pictures as they are typed, made the conditions of samples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from unstir.data.decode import Refused, declared_size
from unstir.data.files import SUFFIXES
from unstir.editing.views import LowResolution
from unstir.errors import UserError
from unstir.runs import pictures
from unstir.runs.conditions import numbers_of, view_of
from unstir.runs.model import Model


def given(
    model: Model, vector: str | None = None, like: Path | None = None, mask: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What :meth:`Model.sample` takes of a typed vector, pictures and masks; and the same in JSON types, for a record.

    Args:
        vector: numbers with commas between, in the table's own units.
        like: a picture or a folder of them, fitted as the run's own were; of a low resolution also small ones as they are.
        mask: white is unknown: see :func:`unstir.runs.pictures.masks`.

    Raises:
        UserError: for what cannot be read or does not suit the run.
    """
    options: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    numbers = numbers_of(vector)
    if numbers is not None:
        options["vector"] = facts["vector"] = numbers
    if like is not None:
        if not model.config.condition:
            raise UserError("this run is shown no pictures (it was trained without --condition): leave --like out")
        options["image"] = pictures.read(model, [like], size=_small(model, like)).x
        facts["like"] = _identity(options["image"])
    if mask is not None:
        if like is None:
            raise UserError("--mask says what of a picture is unknown: give the picture with --like")
        options["mask"] = pictures.masks(model, mask, len(options["image"]))
        facts["mask"] = _identity(options["mask"])
    if options:
        model.condition(None, [0], **options)  # refused before anything is drawn
    return options, facts


def _small(model: Model, like: Path) -> tuple[int, int] | None:
    """The size (width, height) of pictures that are already of the low resolution; None where they are to be fitted."""
    view = view_of(model.config.condition)
    if not isinstance(view, LowResolution):
        return None
    size = model.spec.shape[2] // view.factor, model.spec.shape[1] // view.factor
    files = sorted(like.rglob("*")) if like.is_dir() else [like]
    try:
        found = {declared_size(file.read_bytes()) for file in files if file.suffix.lower() in SUFFIXES}
    except (Refused, OSError):
        return None  # said by name when it is decoded
    return size if found == {size} else None


def _identity(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
