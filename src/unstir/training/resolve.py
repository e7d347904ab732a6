"""From what the user typed to a whole configuration and its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.runs import config as configs
from unstir.runs.build import dataset_of, rms
from unstir.runs.config import Config
from unstir.runs.folder import Run
from unstir.training import presets

DEFAULT_MINUTES = 10.0


def resolve(
    flags: dict[str, Any], file: Path | None, run: Run, progress: Callable[[int, int], None] | None = None
) -> tuple[Config, Dataset]:
    """The configuration by precedence (preset, then file, then flags), and the data it speaks of.

    Args:
        flags: a tree like :class:`Config`, with None where nothing was said.
    """
    said = _without_none(flags)
    tree = configs.tree_of(file) if file else {}
    early = configs.from_dict(said, configs.from_dict(tree, where=str(file)), where="the command line")
    _check(early, run)
    dataset = dataset_of(early.data, progress)
    name = early.preset or presets.choose(dataset.spec)
    base = presets.get(name, dataset.spec, rms(dataset.train))
    config = configs.from_dict(said, configs.from_dict(tree, base, where=str(file)), where="the command line")
    budget = said.get("budget", {})
    if "images" in budget and "minutes" in budget:
        raise UserError("a budget is minutes or images, not both")
    if "images" in budget:
        config = configs.from_dict({"budget": {"minutes": 0.0}}, config)
    elif "minutes" in budget:
        config = configs.from_dict({"budget": {"images": 0}}, config)
    elif not config.budget.images and not config.budget.minutes:
        config = configs.from_dict({"budget": {"minutes": DEFAULT_MINUTES}}, config)
    return configs.from_dict({"preset": name}, config), dataset


def _check(config: Config, run: Run) -> None:
    """What can be refused before the data is read."""
    if config.budget.minutes < 0 or config.budget.images < 0:
        raise UserError("a budget must be positive")
    if config.data.size < 0:
        raise UserError(f"--size must be positive, not {config.data.size}")
    if not 0 <= config.seed < 1 << 63:
        raise UserError(f"--seed must be a whole number from 0 to 2^63 - 1, not {config.seed}")
    if run.path.exists() and not run.config.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
        raise UserError(f"{run.path} is already there and is not a run: choose another --out")


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}
