"""From what the user typed to a whole configuration and its data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.runs import config as configs
from unstir.runs.build import dataset_of, rms
from unstir.runs.conditions import shown_channels, view_of
from unstir.runs.config import Config
from unstir.runs.files import check_place
from unstir.runs.folder import Run
from unstir.training import presets, trackers
from unstir.training.augment import NUMBERS
from unstir.training.engine import LAYOUTS, PRECISIONS

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
    budget = said.get("budget", {})
    if 0 in budget.values():
        raise UserError("a budget must be more than 0")
    if len(budget) == 2:
        raise UserError("a budget is minutes or images, not both")
    _check(early, run)
    dataset = dataset_of(early.data, progress)
    name = early.preset or presets.choose(dataset.spec)
    base = presets.get(name, dataset.spec, rms(dataset.train), shown_channels(early.condition, dataset.spec))
    config = configs.from_dict(said, configs.from_dict(tree, base, where=str(file)), where="the command line")
    if config.data.flip and dataset.spec.kind != "image":
        raise UserError("--flip mirrors pictures, and this data is points: leave it out")
    if config.data.augment:
        if dataset.spec.kind != "image":
            raise UserError(f"--augment moves pictures about, and this data is {dataset.spec.kind}: leave it out")
        config = configs.from_dict({"network": {"augment": NUMBERS}}, config)
    else:
        # A network that hears of it, and is never told, would have a layer that nothing teaches.
        config = replace(config, network={key: value for key, value in config.network.items() if key != "augment"})
    if "images" in budget:
        config = configs.from_dict({"budget": {"minutes": 0.0}}, config)
    elif "minutes" in budget:
        config = configs.from_dict({"budget": {"images": 0}}, config)
    elif config.budget.images and config.budget.minutes:
        raise UserError(f"{file}: a budget is minutes or images, not both")
    elif not config.budget.images and not config.budget.minutes:
        config = configs.from_dict({"budget": {"minutes": DEFAULT_MINUTES}}, config)
    return configs.from_dict({"preset": name}, config), dataset


def _check(config: Config, run: Run) -> None:
    """What can be refused before the data is read."""
    opt, hardware = config.optimiser, config.hardware
    rules = (
        ("--minutes", config.budget.minutes, 0 <= config.budget.minutes < math.inf, "positive"),
        ("--images", config.budget.images, config.budget.images >= 0, "positive"),
        ("--size", config.data.size, config.data.size >= 0, "positive"),
        ("--seed", config.seed, 0 <= config.seed < 1 << 63, "a whole number from 0 to 2^63 - 1"),
        ("--precision", hardware.precision, hardware.precision in ("auto", *PRECISIONS), "auto, fp32 or bf16"),
        ("--layout", hardware.layout, hardware.layout in ("auto", *LAYOUTS), "auto, contiguous or channels-last"),
        ("--compile", hardware.compile, hardware.compile in ("auto", "on", "off"), "auto, on or off"),
        ("optimiser.learning_rate", opt.learning_rate, 0 < opt.learning_rate < math.inf, "positive"),
        ("optimiser.batch", opt.batch, opt.batch >= 1, "at least 1"),
        ("optimiser.micro_batch", opt.micro_batch, opt.micro_batch >= 0, "0 or more"),
        ("optimiser.warmup_images", opt.warmup_images, opt.warmup_images >= 0, "0 or more"),
        ("optimiser.weight_decay", opt.weight_decay, 0 <= opt.weight_decay < math.inf, "0 or more"),
        ("optimiser.beta2", opt.beta2, 0 <= opt.beta2 < 1, "at least 0 and below 1"),
        ("optimiser.clip", opt.clip, opt.clip > 0, "positive"),
        ("times.std", config.times.std, 0 < config.times.std < math.inf, "positive"),
        ("ema_width", config.ema_width, 0 < config.ema_width <= 0.28, "a share above 0, at most 0.28"),
        ("--augment", config.data.augment, 0 <= config.data.augment <= 1, "a share from 0 to 1"),
        ("--averages", config.averages, config.averages >= 0, "0 or more"),
        ("label_dropout", config.label_dropout, 0 <= config.label_dropout <= 1, "a share from 0 to 1"),
    )
    view_of(config.condition)
    if hardware.shard and (hardware.layout == "channels-last" or hardware.compile == "on"):
        raise UserError(
            "--shard keeps weights contiguous and uncompiled: leave --layout channels-last and --compile on out"
        )
    trackers.named(config.track)
    for name, value, holds, wanted in rules:
        if not holds:
            raise UserError(f"{name} must be {wanted}, not {value}")
    check_place(run.path)
    if not run.config.exists() and not run.begins:
        raise UserError(f"{run.path} is already there and is not a run: choose another --out")


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}
