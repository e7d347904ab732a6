"""Parameterisations by name: what a configuration writes, and the reading that it stands for."""

from __future__ import annotations

from typing import Any

from unstir.denoisers.discrete import Logits, Reverse
from unstir.denoisers.gaussian import X0, Eps, GatedMean, GatedX0, Mean, Preconditioned, V
from unstir.denoisers.parameterisation import Parameterisation
from unstir.processes import Process

_BY_NAME: dict[str, type[Parameterisation]] = {
    kind.name: kind for kind in (Eps, X0, V, Mean, GatedMean, GatedX0, Preconditioned, Logits, Reverse)
}


def get(description: str | dict[str, Any] | Parameterisation | None, process: Process) -> Parameterisation:
    """A parameterisation by name, by what its ``describe`` gave, or None for the process's own.

    Raises:
        ValueError: for a name that does not exist, or one that does not suit the process.
    """
    if isinstance(description, Parameterisation):
        return description
    description = description or process.prediction
    arguments: dict[str, Any] = {"name": description} if isinstance(description, str) else dict(description)
    name = arguments.pop("name")
    if name not in _BY_NAME:
        raise ValueError(f"no prediction is called {name!r}; there are {', '.join(_BY_NAME)}")
    kind = _BY_NAME[name]
    if not isinstance(process, kind.processes):
        raise ValueError(f'the prediction "{name}" does not suit this process: its own is "{process.prediction}"')
    return kind(process, **arguments)
