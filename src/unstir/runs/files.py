"""Samples as files: a grid, arrays, or one picture each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unstir.data import contact_sheet
from unstir.errors import UserError


def write(data: np.ndarray, target: Path, indices: Sequence[int]) -> Path:
    """Writes samples in the form that the target's name asks for.

    Args:
        data: images uint8 (N, H, W, C), or points (N, D).
        target: ``x.png`` for one grid (images only), ``x.npz`` or ``x.npy`` for arrays, else a folder of PNGs named by index.
        indices: the samples' indices, (N,).

    Returns:
        What was written; points that were asked for as pictures become an ``.npy``.
    """
    suffix = target.suffix.lower()
    images = data.dtype == np.uint8
    if suffix not in ("", ".png", ".npz", ".npy"):
        raise UserError(f"samples cannot be written as {suffix}: give x.png, x.npz, x.npy, or a folder")
    if not images and suffix not in (".npz", ".npy"):
        target = target.with_suffix(".npy")
    (target if not target.suffix else target.parent).mkdir(parents=True, exist_ok=True)
    if target.suffix == ".png":
        contact_sheet(data).save(target)
    elif target.suffix == ".npz":
        np.savez_compressed(target, data)
    elif target.suffix == ".npy":
        np.save(target, data)
    else:
        for index, image in zip(indices, data, strict=True):
            Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image).save(target / f"{index:06d}.png")
    return target
