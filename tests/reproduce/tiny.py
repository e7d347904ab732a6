"""Experiments in seconds: their own code on little data, with short chains and budgets of two updates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from unstir.reproduce import experiment
from unstir.reproduce.experiment import Setting, Variant
from unstir.reproduce.table import Table
from unstir.training import session

QUICK = Setting(quick=True, seeds=1, data="given")


def shorten(patch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Makes every run of an experiment two updates of a narrow network, with few pictures drawn on the way."""
    full = module.variants

    def small(variant: Variant) -> Variant:
        config: dict[str, Any] = variant.config | {"budget": {"images": 16}}
        config["optimiser"] = config["optimiser"] | {"batch": 8}
        if config["network"]["name"] == "unet":
            config["network"] = config["network"] | {"channels": 8, "blocks": 1}
        return replace(variant, config=config)

    def variants(setting: Setting) -> list[Variant]:
        return [small(variant) for variant in full(setting)]

    patch.setattr(module, "variants", variants)
    patch.setattr(session, "SNAPSHOTS", 1)
    patch.setattr(session, "SAMPLES", 2)


def carry_out(name: str, folder: Path, setting: Setting = QUICK) -> Table:
    return experiment.carry_out(name, setting, folder, jobs=1)


def forbid_training(patch: pytest.MonkeyPatch) -> None:
    """From here on, who opens a run to train it fails."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a run that was finished and measured was opened again")

    patch.setattr(session, "Session", refuse)
