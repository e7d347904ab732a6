"""A run: the folder with everything needed to resume, sample and measure, and the model that lives in it."""

from unstir.runs.files import check, check_apart, check_place, write
from unstir.runs.folder import Run
from unstir.runs.model import Model, load
from unstir.runs.reading import dataset, everything, heldout, training

__all__ = [
    "Model",
    "Run",
    "check",
    "check_apart",
    "check_place",
    "dataset",
    "everything",
    "heldout",
    "load",
    "training",
    "write",
]
