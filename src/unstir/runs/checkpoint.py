"""Checkpoints: the whole state of a run in safetensors and JSON, there completely or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unstir.errors import UserError
from unstir.runs import shards

PREFIX = "step-"
_TRIES = 10


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by part (model, ema, optimizer), each by name, and everything that is not a tensor."""

    parts: Mapping[str, Mapping[str, Tensor]]
    state: dict[str, Any]


@dataclass(frozen=True)
class Keep:
    """Which checkpoints stay: the newest, and for good the first at or after every so many images.

    Args:
        newest: how many of them; 0: all.
        every: images; 0: none for good.
    """

    newest: int = 2
    every: int = 0

    def drops(self, steps: Sequence[int]) -> list[int]:
        """Which of these rising image counts go."""
        old = steps[: -self.newest] if self.newest else []
        firsts = {step // self.every: step for step in reversed(steps)} if self.every else {}
        kept = {step for number, step in firsts.items() if number}
        return [step for step in old if step not in kept]


def save(
    folder: Path, step: int, checkpoint: Checkpoint, keep: Keep = Keep(), written: Mapping[str, str] | None = None
) -> Path:
    """Writes ``folder/step-…`` aside, waits for the disk, renames it, and drops those that are not kept.

    A reader therefore sees a whole checkpoint or none, also where one of the same count is replaced. ``state.json`` holds
    the SHA-256 of every tensor file and of the rest of itself. Those of more images go: the run that stands here did not come
    from them, since they were damaged and passed over, or were gone back from.

    Args:
        written: files that are to lie in it and do already in :func:`parts_of`, with the SHA-256 of each.
    """
    target = folder / f"{PREFIX}{step:08d}"
    aside, replaced = folder / f".{target.name}.writing", _replaced(target)
    try:
        _recover(folder)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        hashes = {"state.json": _sha256_of(checkpoint.state)}
        for name, tensors in checkpoint.parts.items():
            hashes |= _write(aside / f"{name}.safetensors", tensors)
        for name, expected in (written or {}).items():
            (parts_of(folder) / name).rename(aside / name)
            hashes[name] = expected
        path = aside / "state.json"
        path.write_text(json.dumps({**checkpoint.state, "sha256": hashes}, indent=1), encoding="utf-8")
        _flush(path)
        _flush(aside)
        if target.exists():
            # A folder takes no other's place in one step. Between these two renames the old one is found where it waits.
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        aside.rename(target)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"the checkpoint could not be written to {folder} ({error}); the earlier ones are untouched"
        ) from None
    listed = _listed(folder)
    # With the older ones go those that were replaced, and the beginnings of others that a kill cut off. The latest go first, so that
    # what a kill leaves has this one in it, and what is newer than this one only if all of it is.
    later = [listed[other] for other in reversed(listed) if other > step]
    gone = [*later, *(listed[old] for old in keep.drops([old for old in listed if old <= step]))]
    for old in [*gone, *folder.glob(f".{PREFIX}*.writing"), *folder.glob(f".{PREFIX}*.replaced")]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def parts_of(folder: Path) -> Path:
    """Where the processes of a run lay down their parts of a checkpoint before it is made of them."""
    return folder / ".parts"


def save_parts(folder: Path, parts: Mapping[str, Mapping[str, Tensor]], rank: int, world: int) -> dict[str, str]:
    """Writes what process ``rank`` of ``world`` keeps into :func:`parts_of`; the SHA-256 of each file, by name."""
    place = parts_of(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        names = {name: place / f"{shards.name_of(name, rank, world)}.safetensors" for name in parts}
        return {file: sha for name, path in names.items() for file, sha in _write(path, parts[name]).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"a part of the checkpoint could not be written to {folder} ({error}); the earlier ones are untouched"
        ) from None


def newest(folder: Path, until: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose files are whole, of all or of at most so many images; and a line for each passed over."""
    passed: list[str] = []
    for _ in range(_TRIES):
        passed, listed, gone = [], _listed(folder), False
        for path in (listed[step] for step in reversed(listed) if until is None or step <= until):
            try:
                return _read(path), passed
            except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
                gone = not path.exists() or gone
                passed.append(f"{path.name} is damaged ({error}) and was passed over")
        if not gone:
            break
        # A training that is under way dropped what was being read: there is a newer one.
    return None, passed


def _recover(folder: Path) -> None:
    """Gives what was to be replaced its name back, where a kill came before what was to replace it."""
    for path in folder.glob(f".{PREFIX}*.replaced"):
        target = path.with_name(path.name.removeprefix(".").removesuffix(".replaced"))
        if not target.exists():
            path.rename(target)


def write_aside(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part."""
    aside = path.with_name(f".{path.name}.writing")
    try:
        aside.write_bytes(content)
        _flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)  # of a full disk nothing is left; after the renaming there is nothing


def _read(path: Path) -> Checkpoint:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    hashes = state.pop("sha256")
    if hashes.pop("state.json") != _sha256_of(state):
        raise ValueError("state.json does not match its checksum")
    files = {}
    for name, expected in hashes.items():
        if _sha256(path / name) != expected:
            raise ValueError(f"{name} does not match its checksum")
        files[name.removesuffix(".safetensors")] = load_file(path / name)
    return Checkpoint(shards.joined(files), state)


def _write(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """A file of tensors, on the disk; its SHA-256 by its name."""
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
    _flush(path)
    return {path.name: _sha256(path)}


def _listed(folder: Path) -> dict[int, Path]:
    """The checkpoints by rising step: as numbers, since from 10^8 on the names no longer sort."""
    found: dict[int, Path] = {}
    if folder.is_dir():
        for path in folder.glob(f".{PREFIX}*.replaced"):
            found[_step(path.name.removeprefix(".").removesuffix(".replaced"))] = path
        # Over those: one that waits to be removed counts only while nothing has its name.
        found |= {_step(path.name): path for path in folder.glob(f"{PREFIX}*") if path.is_dir()}
    return {step: found[step] for step in sorted(found) if step >= 0}


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _step(name: str) -> int:
    digits = name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() else -1


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _flush(path: Path) -> None:
    # Folders cannot be opened for this on every system; there the rename alone has to do.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
