"""Data for a model: its own again, or others made what its network takes."""

from __future__ import annotations

from dataclasses import replace

from unstir.data import Dataset, Split
from unstir.data.sources import kind_of
from unstir.errors import UserError
from unstir.runs.build import dataset_of
from unstir.runs.config import DataConfig
from unstir.runs.model import Model


def heldout(model: Model, source: str | None = None) -> Split:
    """The held-out part of :func:`dataset`."""
    return dataset(model, source).heldout


def training(model: Model, source: str | None = None) -> Split:
    """What the model was trained on, or the same part of other data: for choices that held-out data must not make."""
    return dataset(model, source).train


def dataset(model: Model, source: str | None = None) -> Dataset:
    """The model's own data, or other data prepared by the same rules.

    Raises:
        UserError: when the data is not what the model was trained with, or of another shape.
    """
    own = model.config.data
    # The table beside its own data knows nothing of others'.
    found = _prepared(model, own if source is None else replace(own, source=source, vectors=""))
    if source is None and found.spec.hash != model.spec.hash:
        raise UserError(
            f"{model.config.data.source} is not what this model was trained with: name other data with --data"
        )
    if found.spec.classes != model.spec.classes:
        # Their numbers mean other things here: the unconditional model is measured.
        return replace(found, train=replace(found.train, labels=None), heldout=replace(found.heldout, labels=None))
    return found


def everything(model: Model, source: str) -> Dataset:
    """Any data, with classes of their own, made what the model's network takes: pictures are brought to its size and colour.

    Raises:
        UserError: when the data is of another kind, or of a shape that cannot be changed.
    """
    settings, shape = replace(model.config.data, source=source, vectors=""), model.spec.shape
    if model.spec.kind == "image" and model.spec.eight_bit:
        settings = replace(settings, mode="L" if shape[0] == 1 else "RGB")
        if shape[1] == shape[2]:
            settings = replace(settings, size=shape[1])
    return _prepared(model, settings)


def _prepared(model: Model, settings: DataConfig) -> Dataset:
    try:
        found = dataset_of(settings)
    except UserError:
        # What a run of pictures asks of its data makes no sense of points: the kind is what is wrong then.
        _check_kind(model, kind_of(settings.source), settings.source)
        raise
    _check_kind(model, found.spec.kind, settings.source)
    if found.spec.shape != model.spec.shape:
        raise UserError(
            f"this data has shape {found.spec.shape}, the model's has {model.spec.shape}: give data of that size and colour"
        )
    return found


def _check_kind(model: Model, kind: str, source: str) -> None:
    if kind != model.spec.kind:
        ours, theirs = ("pictures" if read == "image" else read for read in (model.spec.kind, kind))
        raise UserError(f"the run is of {ours}, and {source} holds {theirs}")
