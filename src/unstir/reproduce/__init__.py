"""The papers' experiments, rebuilt from data to table: ours beside theirs."""

from __future__ import annotations

import importlib
from typing import cast

from unstir.errors import UserError
from unstir.reproduce.experiment import Experiment

NAMES = (
    "swiss-roll",
    "heartbeat",
    "dead-leaves",
    "mnist",
    "denoise",
    "inpaint",
    "ddpm-table",
    "schedules",
    "derivation",
)


class DataMissing(UserError):
    """The experiment is about data that the user has to give, or about other data than was given."""


def get(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        UserError: for a name that does not exist.
    """
    if name not in NAMES:
        raise UserError(f"there is no experiment called {name!r}; there are {', '.join(NAMES)}")
    return cast(Experiment, importlib.import_module(f"unstir.reproduce.{name.replace('-', '_')}"))
