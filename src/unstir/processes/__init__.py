"""Processes: the forward chain q, by its kernels between any two times."""

from __future__ import annotations

from typing import Any

from unstir.processes.base import Process
from unstir.processes.binomial import Binomial
from unstir.processes.categorical import Categorical
from unstir.processes.gaussian import Gaussian
from unstir.schedules import Schedule

__all__ = ["Binomial", "Categorical", "Gaussian", "Process", "from_description"]

_BY_NAME: dict[str, type[Process]] = {"gaussian": Gaussian, "binomial": Binomial, "categorical": Categorical}


def from_description(description: dict[str, Any], schedule: Schedule) -> Process:
    """The process whose :meth:`Process.describe` gave this, on a schedule.

    Raises:
        ValueError: if no process has the description's name.
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in _BY_NAME:
        raise ValueError(f"no process is called {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name](schedule, **arguments)
