"""Samplers by name: what a command or a configuration writes, and the solver that it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unstir.samplers.ancestral import Ancestral
from unstir.samplers.base import Sampler
from unstir.samplers.ddim import DDIM
from unstir.samplers.heun import Heun

_BY_NAME: dict[str, Callable[..., Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "heun": Heun,
}
NAMES = tuple(_BY_NAME)


def get(name: str, **options: Any) -> Sampler:
    """A sampler by name, one of :data:`NAMES`; options are those of its class, such as ``eta`` for ``ddim``.

    Raises:
        ValueError: for a name that does not exist, and for an option or a value that it does not take.
    """
    if name not in _BY_NAME:
        raise ValueError(f"no sampler is called {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name](**options)
