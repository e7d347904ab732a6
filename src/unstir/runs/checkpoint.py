"""Checkpoints: the whole state of a run in safetensors and JSON, there completely or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unstir.errors import UserError

PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by part (model, ema, optimizer), each by name, and everything that is not a tensor."""

    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(folder: Path, step: int, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Writes ``folder/step-…`` aside, waits for the disk, renames it, and drops all but the newest ``keep``.

    A reader therefore sees a whole checkpoint or none. ``state.json`` holds the SHA-256 of every tensor file and of the rest
    of itself.
    """
    target = folder / f"{PREFIX}{step:08d}"
    aside = folder / f".{target.name}.writing"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        hashes = {"state.json": _sha256_of(checkpoint.state)}
        for name, tensors in checkpoint.parts.items():
            path = aside / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
            _flush(path)
            hashes[path.name] = _sha256(path)
        path = aside / "state.json"
        path.write_text(json.dumps({**checkpoint.state, "sha256": hashes}, indent=1), encoding="utf-8")
        _flush(path)
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"the checkpoint could not be written to {folder} ({error}); the earlier ones are untouched"
        ) from None
    # With the older ones go the beginnings of others that a kill cut off.
    for old in [*_listed(folder)[:-keep], *folder.glob(f".{PREFIX}*.writing")]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint whose files are whole, and one line for each that was passed over."""
    passed = []
    for path in reversed(_listed(folder)):
        try:
            return _read(path), passed
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            passed.append(f"{path.name} is damaged ({error}) and was passed over")
    return None, passed


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
    parts = {}
    for name, expected in hashes.items():
        if _sha256(path / name) != expected:
            raise ValueError(f"{name} does not match its checksum")
        parts[name.removesuffix(".safetensors")] = load_file(path / name)
    return Checkpoint(parts, state)


def _listed(folder: Path) -> list[Path]:
    """The checkpoints by rising step: as numbers, since from 10^8 on the names no longer sort."""
    found = {_step(path): path for path in folder.glob(f"{PREFIX}*") if path.is_dir()} if folder.is_dir() else {}
    return [found[step] for step in sorted(found) if step >= 0]


def _step(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX)
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
