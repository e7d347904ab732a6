"""Drawing many samples into files: kept batch by batch, shared between processes, continued where it stopped.

What is on the disk is all that processes know of each other. Batches are shared out whole, so each has the same shape, and its
samples the same bits, whoever draws it; a batch of which anything is missing is drawn again by whoever's it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstir.data.codec import Codec
from unstir.errors import UserError
from unstir.runs import files

Draw = Callable[[Sequence[int]], np.ndarray]
Progress = Callable[[int, int], None]

_MANIFEST = ".samples.json"
_POLL = 0.2  # seconds between looks at what other processes have finished


@dataclass(frozen=True)
class Job:
    """Samples that are to lie in a target.

    Args:
        target: as for :func:`unstir.runs.files.write`.
        indices: the samples', in the order of the result.
        batch: how many are drawn at a time.
        facts: all that decides the samples, in JSON types: files of another job are never taken for this one's.
        codec: what the samples are. columns: of a grid.
    """

    target: Path
    indices: Sequence[int]
    batch: int
    facts: dict[str, Any]
    codec: Codec
    columns: int | None = None

    def run(self, draw: Draw, *, rank: int = 0, world: int = 1, progress: Progress | None = None) -> int:
        """Draws this process's batches, those of number ``rank, rank + world, …``, as far as they are missing.

        The process of rank 0 then waits for the others' and puts a single file together; a folder needs nobody to wait.

        Args:
            draw: samples of these indices, as users hold them.
            progress: called with (samples of this process's share that are there, its share).

        Returns:
            how many samples were drawn here; the others were there.

        Raises:
            UserError: when the target's folder holds some of these samples drawn in another way.
        """
        batches = self._batches
        mine = list(enumerate(batches))[rank::world]
        kept = self._kept(len(batches), world)
        kept.begin()
        drawn = finished = 0
        for number, part in mine:
            if not kept.has(number, part):
                kept.put(number, part, draw(part))
                drawn += len(part)
            finished += len(part)
            if progress:
                progress(finished, sum(len(each) for _, each in mine))
        if rank == 0:
            kept.end(batches)
        return drawn

    @property
    def begun(self) -> bool:
        """Whether some of the samples are kept already, so that the next run of this job continues."""
        kept = self._kept(len(self._batches), 1)
        return any(kept.has(number, part) for number, part in enumerate(self._batches))

    @property
    def _batches(self) -> list[Sequence[int]]:
        return [self.indices[at : at + self.batch] for at in range(0, len(self.indices), self.batch)]

    def _kept(self, batches: int, world: int) -> _Folder | _Parts | _Memory:
        if not self.target.suffix:
            return _Folder(self)
        return _Parts(self) if world > 1 or batches > 1 else _Memory(self)

    @property
    def name(self) -> str:
        """What tells this job's files from another's: of the facts, the indices and the batches' size."""
        said = json.dumps([self.facts, list(self.indices), self.batch], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]


class _Memory:
    """One batch for one file."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def begin(self) -> None: ...

    def has(self, number: int, part: Sequence[int]) -> bool:
        return False

    def put(self, number: int, part: Sequence[int], data: np.ndarray) -> None:
        self.data = data

    def end(self, batches: Sequence[Sequence[int]]) -> None:
        _write(self.job, self.data)


class _Parts:
    """One file, whose batches lie in a folder beside it until all are there."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = job.target.parent / f".{job.target.name}.{job.name}"

    def begin(self) -> None: ...

    def has(self, number: int, part: Sequence[int]) -> bool:
        return self._place(number).exists()

    def put(self, number: int, part: Sequence[int], data: np.ndarray) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)  # not before: what is refused while drawing leaves nothing
        aside = self.folder / f"{number:06d}.{os.getpid()}"
        with aside.open("wb") as file:
            np.save(file, data)
        aside.replace(self._place(number))

    def end(self, batches: Sequence[Sequence[int]]) -> None:
        while not all(self._place(number).exists() for number in range(len(batches))):
            if not self.folder.exists() and self.job.target.exists():
                return  # another process of the same line was quicker
            time.sleep(_POLL)
        try:
            parts = [np.load(self._place(number)) for number in range(len(batches))]
        except FileNotFoundError:
            if not self.job.target.exists():
                raise
            return
        _write(self.job, np.concatenate(parts))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npy"


class _Folder:
    """A folder of pictures, one for each sample."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.manifest = job.target / _MANIFEST
        self.facts = json.dumps(job.facts | {"batch": job.batch}, sort_keys=True)

    def begin(self) -> None:
        target = self.job.target
        there = target.is_dir() and any(files.is_sample(path.name) for path in target.iterdir())
        if there and _text(self.manifest) != self.facts:
            raise UserError(
                f"{target} holds samples that were drawn in another way: choose another --out, or remove the folder"
            )

    def has(self, number: int, part: Sequence[int]) -> bool:
        return all((self.job.target / files.name_of(index)).exists() for index in part)

    def put(self, number: int, part: Sequence[int], data: np.ndarray) -> None:
        if _text(self.manifest) != self.facts:
            self.job.target.mkdir(parents=True, exist_ok=True)
            aside = self.manifest.with_suffix(f".{os.getpid()}")
            aside.write_text(self.facts, encoding="utf-8")
            aside.replace(self.manifest)
        files.write_pictures(data, self.job.target, part, codec=self.job.codec)

    def end(self, batches: Sequence[Sequence[int]]) -> None: ...


def _write(job: Job, data: np.ndarray) -> None:
    files.write(data, job.target, job.indices, codec=job.codec, columns=job.columns)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
