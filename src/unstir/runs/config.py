"""The configuration of a run: what was decided, in one tree that TOML can hold."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from unstir.errors import UserError

_SHOWN = 3  # of what differs: enough to see what was asked for


@dataclass(frozen=True)
class DataConfig:
    """Which data, and what is done to each item of it."""

    source: str = ""
    size: int = 0
    """Side of the pictures in pixels; 0 keeps the data's own."""
    mode: str = "auto"
    """L, RGB, or auto."""
    background: str = "white"
    """What transparent pictures are laid on: white, black, or #rrggbb."""
    flip: bool = False
    """Mirror every other picture, by a keyed coin; only sensible where left and right mean nothing."""
    augment: float = 0.0
    """How likely each of several changes (mirrored, turned, enlarged, stretched, moved) is done to a training picture; the network
    is told, so that samples show none of it."""
    vectors: str = ""
    """A .csv of numbers that go with each item, as a condition."""
    strict: bool = False
    """Whether a broken file is an error instead of being named and skipped."""


@dataclass(frozen=True)
class TimesConfig:
    """Which t the network is trained at."""

    name: str = "uniform"
    """uniform: whole times 1 … T. log-normal: ln(sigma/alpha) normal, at the real t that has it."""
    mean: float = -1.2
    std: float = 1.2


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW, its warm-up, and the batch."""

    learning_rate: float = 2e-4
    batch: int = 64
    """Images an update sees, over all processes together."""
    micro_batch: int = 0
    """The most images a process works on at once, to save memory: the batch is then made of pieces; 0: of one."""
    warmup_images: int = 10_000
    weight_decay: float = 0.0
    beta2: float = 0.99
    clip: float = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class BudgetConfig:
    """How long: one of the two; work itself is counted in images."""

    minutes: float = 0.0
    images: int = 0


@dataclass(frozen=True)
class HardwareConfig:
    """auto means: measured on this machine in the first seconds, then recorded in the run."""

    precision: str = "auto"
    layout: str = "auto"
    compile: str = "auto"
    shard: bool = False
    """Cut weights, moments and averages among the processes, for networks that one device cannot hold."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = field(default_factory=DataConfig)
    network: dict[str, Any] = field(default_factory=dict)
    process: dict[str, Any] = field(default_factory=lambda: {"name": "gaussian"})
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    prediction: dict[str, Any] = field(default_factory=lambda: {"name": "eps"})
    variance: str = "small"
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "simple"})
    times: TimesConfig = field(default_factory=TimesConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    ema_width: float = 0.1
    averages: int = 0
    """How often two averages are stored on the way, of which any other can be made afterwards; 0: never."""
    label_dropout: float = 0.1
    """Share of labels, and of other conditions, hidden in training, so that one network learns both branches of guidance."""
    condition: str = ""
    """What the network is shown of each picture: super-resolution:FACTOR, colouring or mask; empty: nothing."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    seed: int = 0
    preset: str = ""
    track: str = ""
    """Where numbers and pictures of the run are shown: tensorboard, wandb, trackio, or several with commas; empty: nowhere."""

    def to_toml(self) -> str:
        return tomli_w.dumps(asdict(self))


def from_dict(tree: dict[str, Any], base: Config | None = None, *, where: str = "the configuration") -> Config:
    """A configuration from a nested dict laid over a base; an unknown key or a wrong type is an error that names it."""
    return _overlay(base or Config(), tree, where, "")


def read(path: Path) -> Config:
    """A whole configuration file."""
    return from_dict(tree_of(path), where=str(path))


def tree_of(path: Path) -> dict[str, Any]:
    """What a TOML file says, as nested dicts."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None


def differences(old: Config, new: Config) -> list[str]:
    """What stands differently in two configurations, to be said: three settings, and how many more there are.

    Other data come first, since most of what else differs then follows from them.
    """
    # Where a run is shown has no part in what is learned.
    a, b = (flat(asdict(replace(config, track=""))) for config in (old, new))
    keys = sorted((key for key in a | b if a.get(key) != b.get(key)), key=lambda key: (key != "data.source", key))
    shown = [f"{key}: {a.get(key, 'unset')} -> {b.get(key, 'unset')}" for key in keys[:_SHOWN]]
    return [*shown, f"and {len(keys) - _SHOWN} more"] if len(keys) > _SHOWN else shown


def _overlay(base: Any, tree: dict[str, Any], where: str, prefix: str) -> Any:
    known = {f.name for f in fields(base)}
    changes: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in known:
            raise UserError(f"{where}: there is no setting called {name!r}; here there are {', '.join(sorted(known))}")
        old = getattr(base, key)
        if is_dataclass(old):
            if not isinstance(value, dict):
                raise UserError(f"{where}: {name} is a table of settings, not {value!r}")
            changes[key] = _overlay(old, value, where, f"{name}.")
            continue
        if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(old, dict) and isinstance(value, dict) and value.get("name", old.get("name")) == old.get("name"):
            # The same kind of part: what is not said stays as it was. Another kind starts afresh.
            value = old | value
        if type(value) is not type(old):
            raise UserError(f"{where}: {name} must be {_kind(old)}, not {value!r}")
        changes[key] = value
    return replace(base, **changes)


def _kind(value: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", dict: "a table"}
    return names[type(value)]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as one level, its names joined by dots."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found
