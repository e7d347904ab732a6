"""Samplers by name: what a command or a configuration writes, and the solver that it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from unstir.samplers.adams import DEIS, PNDM
from unstir.samplers.adaptive import Adaptive
from unstir.samplers.ancestral import Ancestral
from unstir.samplers.base import Sampler
from unstir.samplers.ddim import DDIM
from unstir.samplers.dpm_sde import DPMSDE, DPMMultistepSDE
from unstir.samplers.edm import EDM
from unstir.samplers.euler import Euler
from unstir.samplers.heun import Heun
from unstir.samplers.multistep import DPMMultistep
from unstir.samplers.options import parsed
from unstir.samplers.singlestep import DPMSinglestep
from unstir.samplers.tau import TauLeaping
from unstir.samplers.unipc import UniPC

_BY_NAME: dict[str, Callable[..., Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "euler": Euler,
    "heun": Heun,
    "dpm++2s": partial(DPMSinglestep, 2),
    "dpm++3s": partial(DPMSinglestep, 3),
    "dpm++2m": partial(DPMMultistep, 2),
    "dpm++3m": partial(DPMMultistep, 3),
    "unipc2": partial(UniPC, 2),
    "unipc3": partial(UniPC, 3),
    "pndm": PNDM,
    "deis": DEIS,
    "dpm++sde": DPMSDE,
    "dpm++2m-sde": DPMMultistepSDE,
    "edm": EDM,
    "adaptive": Adaptive,
    "tau": TauLeaping,
}
NAMES = tuple(_BY_NAME)


def get(name: str, **options: Any) -> Sampler:
    """A sampler by name, one of :data:`NAMES`, with options of its class, in words too: ``ddim:eta=0.5``.

    Raises:
        ValueError: for a name that does not exist, and for an option or a value that it does not take.
    """
    name, said = parsed(name)
    if name not in _BY_NAME:
        raise ValueError(f"no sampler is called {name!r}; there are {', '.join(_BY_NAME)}")
    kind, options = _BY_NAME[name], said | options
    known = signature(kind).parameters
    strange = sorted(options.keys() - known.keys())
    if strange:
        takes = f"its options are {', '.join(known)}" if known else "it has none"
        raise ValueError(f"the sampler {name!r} has no option {strange[0]!r}: {takes}")
    for option, value in options.items():
        default = known[option].default
        if not _like(value, default):
            raise ValueError(f"{option} of the sampler {name!r} is {_WORDS[type(default)]}, not {value!r}")
    return kind(**options)


_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word"}


def _like(value: Any, default: Any) -> bool:
    """Whether a value is of the kind that an option's default is."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type(default))
