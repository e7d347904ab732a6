"""Decoded pictures on disk, memory-mapped, keyed by the content of the files they came from.

An entry is a folder named by its key. It is written under another name beside its place and renamed into it, so it
is either whole or absent; two processes that write the same entry at once both end up reading the first to arrive. The
sizes of its files are recorded and checked, in case the machine lost power between rename and disk.

The key hashes every file's bytes. To know an unchanged source without reading it, the key is remembered under the
files' names, sizes, times and inode numbers. Files modified within the last seconds are not remembered: one more change
might fall within the clock's resolution.

The folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import PIL

_FORMAT = 2  # of an entry, and of what decoding does: raise it when either changes
_RACY = 3.0  # seconds
_STALE = 24 * 3600.0  # seconds after which an unfinished entry is one that its writer left behind
_META = "meta.json"


def default_cache() -> Path:
    """``$UNSTIR_CACHE``, else ``unstir`` in ``$XDG_CACHE_HOME`` or in the platform's folder for caches."""
    if named := os.environ.get("UNSTIR_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "unstir"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "unstir" / "cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "unstir"


class Cache:
    """Entries below ``root``; every method raises OSError when the disk does not let it."""

    def __init__(self, root: Path) -> None:
        self.entries = root / "data"
        self.known = root / "known"

    def key(self, inputs: Mapping[str, Path], options: object) -> str:
        """What the decoded pictures depend on: names and bytes of the files, the options, and what decodes them."""
        content = self._content(inputs)
        return _sha256(f"{_FORMAT}\n{PIL.__version__}\n{options!r}\n{content}")

    def find(self, key: str) -> tuple[Path, dict[str, Any]] | None:
        """The entry's folder and its record, if it is there and whole."""
        folder = self.entries / key
        try:
            record = json.loads((folder / _META).read_text("utf-8"))
            if all((folder / name).stat().st_size == size for name, size in record["files"].items()):
                return folder, record["meta"]
        except (OSError, ValueError, KeyError):
            pass
        return None

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write an entry in; whatever is left of it afterwards is removed."""
        self.entries.mkdir(parents=True, exist_ok=True)
        self._sweep()
        staging = Path(tempfile.mkdtemp(prefix="writing-", dir=self.entries))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, staging: Path, key: str, meta: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        """The files of ``staging`` become the entry, unless another process was first."""
        files = sorted(staging.iterdir())
        for file in files:
            _to_disk(file)
        record = {"files": {file.name: file.stat().st_size for file in files}, "meta": meta}
        (staging / _META).write_text(json.dumps(record), "utf-8")
        _to_disk(staging / _META)
        place = self.entries / key
        if place.exists() and not self.find(
            key
        ):  # damaged: out of the way in one step, so that nobody reads half of it
            with tempfile.TemporaryDirectory(prefix="writing-", dir=self.entries) as aside:
                os.rename(place, Path(aside) / key)
        with contextlib.suppress(OSError):  # it exists: another process was first
            os.rename(staging, place)
        found = self.find(key)
        if not found:
            raise OSError(f"{place} cannot be written")
        return found

    def _content(self, inputs: Mapping[str, Path]) -> str:
        fingerprint, newest = _fingerprint(inputs)
        note = self.known / fingerprint
        with contextlib.suppress(OSError):
            return note.read_text("ascii")
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            hashes = list(pool.map(_file_hash, inputs.values()))
        content = _sha256("\n".join(f"{name!a} {value}" for name, value in zip(inputs, hashes)))
        if time.time() - newest > _RACY:
            self.known.mkdir(parents=True, exist_ok=True)
            written = _write_aside(self.known, content)
            os.replace(written, note)
        return content

    def _sweep(self) -> None:
        """Removes what killed processes left unfinished."""
        for left in self.entries.glob("writing-*"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE:
                    shutil.rmtree(left, ignore_errors=True)


def _fingerprint(inputs: Mapping[str, Path]) -> tuple[str, float]:
    """A hash that changes when a file does, without reading it; and the time of the newest change."""
    lines, newest = [], 0.0
    for name, path in inputs.items():
        stat = path.stat()
        # ctime too: rsync and unzip set mtime to what they like, but not ctime.
        lines.append(f"{name!a} {stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}")
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    return _sha256("\n".join(lines)), newest


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # an unreadable file is skipped by name later; becoming readable changes the key
        return f"unreadable {error.errno}"


def _write_aside(folder: Path, text: str) -> str:
    handle, name = tempfile.mkstemp(prefix="writing-", dir=folder)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return name


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
