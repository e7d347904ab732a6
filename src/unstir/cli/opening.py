"""A model as commands use it: on this machine's device, with the threads its run was found fastest with; and its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unstir import runs
from unstir.cli import console
from unstir.data import Dataset
from unstir.data.sources import path_of
from unstir.errors import UserError
from unstir.runs import Model, Run, load
from unstir.training import engine as engines


def open_model(path: Path, weights: str = "ema") -> Model:
    """The model of a run or a single file, placed and ready."""
    engines.keep_memory()
    model = load(path, weights=weights)
    for note in model.notes:
        console.say(note)
    facts = Run(path).engine()
    if facts:
        engines.recorded(facts).settle()
    model.denoiser.to(engines.default_device())
    return model


def own_data(model: Model, data: str | None = None, *, same: bool = False, option: str = "--data") -> Dataset:
    """The model's own data, or other data prepared as its own were.

    Args:
        same: what is given must be the model's own data, wherever they lie now.
        option: that names other data, for errors.

    Raises:
        UserError: when the data is not there, or of another kind or shape, or changed.
    """
    source = model.config.data.source
    own = path_of(source)
    if data is None and own is not None and not own.exists():
        raise UserError(
            f"{source}: no such file or folder; the run was trained on it as seen from another folder, or it has moved: "
            f"give {option} PATH"
        )
    if data is not None and same:
        config = replace(model.config, data=replace(model.config.data, source=data))
        model, data = replace(model, config=config), None
    try:
        return runs.dataset(model, data)
    except UserError as error:
        raise UserError(str(error).replace("--data", option)) from None
