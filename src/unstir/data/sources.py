"""What the user means by DATA."""

from __future__ import annotations

from pathlib import Path

from unstir.data import hub, tars, toys
from unstir.data.arrays import array_source
from unstir.data.digits import digits
from unstir.data.files import SUFFIXES, folder_source, zip_source
from unstir.data.idx import idx_source, is_idx
from unstir.data.raw import Source, Values
from unstir.data.table import table_source
from unstir.errors import UserError

NAMES = ("digits", *toys.NAMES)  # data that come with the package


def path_of(source: str | Path) -> Path | None:
    """The file or folder that is meant, of several shards their folder; None for what ``find`` knows by name."""
    if isinstance(source, str) and (source in NAMES or hub.is_named(source)):
        return None
    return Path(source).parent if tars.is_pattern(str(source)) else Path(source)


def kind_of(source: str | Path) -> str:
    """``image``, ``points``, ``bits`` or ``symbols``: found without decoding any picture."""
    raw = find(source).open()
    return raw.kind if isinstance(raw, Values) else "image"


def find(source: str | Path) -> Source:
    """The source that a name or path stands for.

    ``digits`` and the toys' names, as strings, are the data that come with the package; ``./digits`` or ``Path("digits")`` is a
    folder.

    Raises:
        UserError: when it does not exist or is of no known kind.
    """
    if source == "digits":
        return Source({}, digits)
    if isinstance(source, str) and source in toys.NAMES:
        return toys.source_of(source)
    if isinstance(source, str) and hub.is_named(source):
        return hub.hub_source(source)
    if tars.is_pattern(str(source)):
        return tars.tar_source(tars.found(source), str(source))
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"{source}: no such file or folder, and not the name of data that comes with unstir ({', '.join(NAMES)})"
        )
    if path.is_dir():
        pictures = folder_source(path)
        shards = [] if pictures.inputs else tars.found(path)
        return tars.tar_source(shards, str(source)) if shards else pictures
    suffix = path.suffix.lower()
    if suffix in (".npz", ".npy"):
        return array_source(path)
    if suffix == ".csv":
        return table_source(path)
    if suffix == ".zip":
        return zip_source(path)
    if suffix == ".tar":
        return tars.tar_source([path], str(source))
    if suffix in SUFFIXES:
        raise UserError(f"{source}: one picture; give the folder that holds the pictures")
    if is_idx(path):
        return idx_source(path)
    raise UserError(
        f"{source}: not data that can be read: a folder of pictures, .npz, .npy, .csv, .zip, .tar, or MNIST's idx .gz"
    )
