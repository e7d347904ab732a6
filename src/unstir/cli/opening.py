"""A model as commands use it: on this machine's device, with the threads its run was found fastest with."""

from __future__ import annotations

from pathlib import Path

from unstir.runs import Model, Run, load
from unstir.training import engine as engines


def open_model(path: Path, weights: str = "ema") -> Model:
    """The model of a run or a single file, placed and ready."""
    model = load(path, weights=weights)
    facts = Run(path).engine()
    if facts:
        engines.recorded(facts).settle()
    model.denoiser.to(engines.default_device())
    return model
