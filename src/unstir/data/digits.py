"""The embedded digits: 1,797 handwritten digits, 8×8, of the UCI optical recognition set (see digits.txt)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unstir.data.raw import PictureArray

_FILE = Path(__file__).with_name("digits.npz")


def digits() -> PictureArray:
    """The digits with their fixed split: 1,617 to learn from, 180 held out (18 of each kind).

    The count k of inked pixels (0…16) becomes the level 255 k / 16, rounded (a half upwards).
    """
    with np.load(_FILE, allow_pickle=False) as stored:
        levels = (stored["ink"].astype(np.int64) * 255 + 8) // 16
        return PictureArray(
            images=levels.astype(np.uint8)[..., None],
            labels=stored["label"].astype(np.int64),
            classes=tuple("0123456789"),
            heldout=stored["heldout"],
        )
