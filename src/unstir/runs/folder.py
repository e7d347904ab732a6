"""A run: the folder that holds everything needed to resume, sample and measure."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.runs.checkpoint import write_aside

# What opening a run writes before its config.toml, which comes last.
_LOCK = ".training"
_BEFORE_CONFIG = {"samples", "env.json", "data.json", "log.txt", ".config.toml.writing", ".data.json.writing", _LOCK}

_SAMPLING = {"sampler": str, "steps": int, "spacing": str, "times": list, "clip": str, "precision": str}


@dataclass(frozen=True)
class Run:
    """Names the places in a run's folder, and appends to its records.

    Args:
        quiet: whether another process does the appending.
    """

    path: Path
    quiet: bool = False

    ENGINE: ClassVar[str] = "engine.json"

    def engine(self) -> dict[str, Any] | None:
        """What ``engine.json`` recorded of precision, layout, compilation and threads; None before it was measured."""
        path = self.path / self.ENGINE
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): delete it, and the next sitting measures again") from None

    def sampling(self) -> dict[str, Any]:
        """How samples of this run are drawn unless told otherwise, from ``sampling.json``; empty where nothing was chosen.

        Raises:
            UserError: when the file is damaged.
        """
        path = self.path / "sampling.json"
        if not path.is_file():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no table")
            for name, value in found.items():
                if not isinstance(value, _SAMPLING.get(name, ())) or isinstance(value, bool):
                    raise ValueError(f"{name} = {value!r} is nothing that can be chosen")
            return found
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): delete it, and samples are drawn as shipped") from None

    def choose_sampling(self, how: dict[str, Any]) -> None:
        """Writes ``sampling.json``: what :meth:`sampling` gives from now on."""
        write_aside(self.path / "sampling.json", json.dumps(how, indent=1).encode())

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def early(self) -> Path:
        """The averaged weights after the first fifth of the budget: the weaker model that autoguidance leads away from."""
        return self.path / "early.safetensors"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def begins(self) -> bool:
        """Whether a run may begin here: nothing is there, or an empty folder, or a run whose opening was cut off."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and {entry.name for entry in self.path.iterdir()} <= _BEFORE_CONFIG

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A context in which no other process trains into this folder. A kill lets go of it.

        Raises:
            UserError: when another one holds it.
        """
        if self.quiet:
            yield
            return
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"{self.path} is being trained by another process: wait for it, or stop it") from None
        except (OSError, NotImplementedError):
            pass  # some file systems know no locks: then nobody watches over this
        try:
            yield
        finally:
            lock.release()

    def spec(self) -> DataSpec:
        """The description of the data, from ``data.json``.

        Raises:
            UserError: when the file is not there or not whole.
        """
        path = self.path / "data.json"
        try:
            return DataSpec.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}): the run is damaged") from None

    def write_environment(self) -> None:
        """``env.json``: what the run was made with."""
        packages = ("torch", "numpy", "safetensors", "pillow", "accelerate")
        facts = {
            "unstir": version("unstir"),
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        }
        (self.path / "env.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def record(self, **values: Any) -> None:
        """One line of ``metrics.jsonl``."""
        if self.quiet:
            return
        with self.metrics.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    file.write(b"\n")  # a kill cut the last line off: this one must not become its end
            file.write(json.dumps(values).encode() + b"\n")

    def records(self) -> Iterator[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line that was cut off by a kill is passed over."""
        if not self.metrics.exists():
            return
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def log(self, sentence: str) -> None:
        """One line of ``log.txt``."""
        if self.quiet:
            return
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(sentence + "\n")
