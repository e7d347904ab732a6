"""Where a run's numbers and pictures are shown beside others': TensorBoard, wandb, trackio.

Each is a package of its own, imported when it is asked for. ``metrics.jsonl`` is always written and holds everything that
they are given. What was asked for must open, or training does not begin; what fails later is left out with one sentence.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from unstir.errors import UserError
from unstir.runs.checkpoint import write_aside
from unstir.runs.config import Config, flat
from unstir.runs.folder import Run

PROJECT = "unstir"
_STORED = "track.json"  # by which name the run continues there


class Tracker(Protocol):
    """What is told of a run. Places along it are counted in training images, and may be told of again after a resume."""

    def scalars(self, values: Mapping[str, float], images: int) -> None: ...

    def picture(self, name: str, picture: np.ndarray, images: int) -> None:
        """uint8 (H, W, C)."""
        ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's own folder ``tensorboard``."""

    def __init__(self, run: Run, config: Config, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What was told after the place that is continued from is learned, and told, again.
        self.writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=images + 1)
        if not images:
            self.writer.add_text("configuration", "".join(f"    {line}\n" for line in config.to_toml().splitlines()), 0)
            self.writer.add_hparams(_settings(config), {}, run_name=".")

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, images)
        self.writer.flush()

    def picture(self, name: str, picture: np.ndarray, images: int) -> None:
        self.writer.add_image(name, picture, images, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class Hosted:
    """wandb, or trackio, which has the same calls: a run of the project ``unstir``, continued under the name that was stored."""

    def __init__(self, package: str, run: Run, config: Config) -> None:
        self.package = import_module(package)
        name = _stored(run, package)
        # In wandb what makes a run the same is its id, in trackio its name.
        own = (
            {"id": name, "name": run.path.resolve().name, "dir": str(run.path)}
            if package == "wandb"
            else {"name": name}
        )
        self.run = self.package.init(project=PROJECT, config=_settings(config), resume="allow", **own)
        self.counts = package == "trackio"
        if not self.counts:
            self.run.define_metric("*", step_metric="images")

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        self._log(values, images)

    def picture(self, name: str, picture: np.ndarray, images: int) -> None:
        grey = picture[:, :, 0] if picture.shape[-1] == 1 else picture
        self._log({name: self.package.Image(Image.fromarray(grey))}, images)

    def close(self) -> None:
        self.package.finish()

    def _log(self, values: Mapping[str, Any], images: int) -> None:
        if self.counts:
            self.run.log(dict(values), step=images)
        else:
            # wandb drops what goes back behind its own steps, as a resume may, so there the place is a number among the others.
            self.run.log({**values, "images": images})


_OPEN: dict[str, Callable[[Run, Config, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": lambda run, config, _: Hosted("wandb", run, config),
    "trackio": lambda run, config, _: Hosted("trackio", run, config),
}
NAMES = tuple(_OPEN)
_EXTRA = {"tensorboard": "track"}  # what unstir calls the extra, where not by the package's name


def named(track: str) -> list[str]:
    """The trackers that a comma list names, each once.

    Raises:
        UserError: for a name that does not exist, and for one whose package is not installed.
    """
    names = list(dict.fromkeys(name.strip() for name in track.split(",") if name.strip()))
    for name in names:
        if name not in NAMES:
            raise UserError(f"there is no tracker called {name!r}; there are {', '.join(NAMES)}")
        if find_spec(name) is None:
            raise UserError(
                f"--track {name} needs the package {name}, which is not installed: pip install 'unstir[{_EXTRA.get(name, name)}]'"
            )
    return names


class Trackers:
    """All that were asked for. One that fails is told nothing more, and why is said once: see :meth:`troubles`."""

    def __init__(self, run: Run, config: Config) -> None:
        self.run, self.config = run, config
        self.problems: list[str] = []
        self.open: dict[str, Tracker] = {}

    def begin(self, images: int) -> None:
        """Opens them where the run stands.

        Raises:
            UserError: when one cannot be opened.
        """
        for name in named(self.config.track):
            try:
                with redirect_stdout(sys.stderr):  # some talk, and stdout is for results
                    self.open[name] = _OPEN[name](self.run, self.config, images)
            except Exception as error:
                self.close()
                raise UserError(
                    f"the tracker {name} could not be opened ({_line(error)}): leave --track {name} out"
                ) from None

    def record(self, record: Mapping[str, Any]) -> None:
        """Tells of one line of ``metrics.jsonl``."""
        values = numbers(record)
        self._each(lambda tracker: tracker.scalars(values, record["images"]))

    def picture(self, name: str, path: Path, images: int) -> None:
        """Tells of a picture that was drawn on the way."""
        if not self.open:
            return
        with Image.open(path) as opened:
            picture = np.asarray(opened)
        picture = picture[:, :, None] if picture.ndim == 2 else picture
        self._each(lambda tracker: tracker.picture(name, picture, images))

    def troubles(self) -> list[str]:
        """What went wrong since this was last asked."""
        found, self.problems = self.problems, []
        return found

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())
        self.open.clear()

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.open.items()):
            try:
                with redirect_stdout(sys.stderr):
                    tell(tracker)
            # Whatever goes wrong with what only shows must not cost what it shows.
            except Exception as error:
                del self.open[name]
                self.problems.append(
                    f"the tracker {name} failed ({_line(error)}) and is told nothing more; metrics.jsonl has it all"
                )


def numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line of ``metrics.jsonl`` by names with slashes.

    Of the items' bounds and of the losses by time the means are told beside the single losses; ``images`` is the place, no value.
    """
    values: dict[str, float] = {}
    group = "watch" if record.get("event") == "watch" else "training"

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, each in value.items():
                add(f"{name}/{key}", each)
        elif isinstance(value, list) and name.startswith("watch/bound/"):
            values[name] = float(np.mean(value))
        elif isinstance(value, list):
            for i, each in enumerate(value):
                add(f"{name}/{i + 1}", each)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            values[name] = float(value)

    for key, value in record.items():
        if key != "images":
            add(f"{group}/{key}", value)
    return values


def _settings(config: Config) -> dict[str, Any]:
    """The configuration as one level of names and of numbers, texts or truths, which is what trackers compare runs by."""
    known = bool | int | float | str
    return {name: value if isinstance(value, known) else str(value) for name, value in flat(asdict(config)).items()}


def _stored(run: Run, package: str) -> str:
    """What the run is called there, made up once."""
    path = run.path / _STORED
    try:
        names = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        names = {}  # nothing that was learned hangs on it
    if package not in names:
        names[package] = f"{run.path.resolve().name}-{secrets.token_hex(4)}"
        write_aside(path, json.dumps(names, indent=1).encode())
    return names[package]


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
