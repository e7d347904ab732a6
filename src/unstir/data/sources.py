"""What the user means by DATA."""

from __future__ import annotations

from pathlib import Path

from unstir.data.arrays import array_source
from unstir.data.digits import digits
from unstir.data.files import SUFFIXES, folder_source, zip_source
from unstir.data.idx import idx_source, is_idx
from unstir.data.raw import Source
from unstir.errors import UserError


def find(source: str | Path) -> Source:
    """The source that a name or path stands for; ``digits`` as a string is the embedded set, ``./digits`` a folder.

    Raises:
        UserError: when it does not exist or is of no known kind.
    """
    if source == "digits":
        return Source({}, digits)
    path = Path(source)
    if not path.exists():
        raise UserError(f"{source}: no such file or folder, and not the name of embedded data (digits)")
    if path.is_dir():
        return folder_source(path)
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        return array_source(path)
    if suffix == ".zip":
        return zip_source(path)
    if suffix in SUFFIXES:
        raise UserError(f"{source}: one picture; give the folder that holds the pictures")
    if is_idx(path):
        return idx_source(path)
    raise UserError(f"{source}: not data that can be read: a folder of pictures, .npz, .npy, .zip, or MNIST's idx .gz")
