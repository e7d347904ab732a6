"""Networks: plain torch modules that say nothing about diffusion, and their descriptions in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from unstir.errors import UserError
from unstir.networks.mlp import MLP, MLPConfig
from unstir.networks.unet import UNet, UNetConfig

__all__ = ["MLP", "MLPConfig", "UNet", "UNetConfig", "build", "describe"]

_BY_NAME = {"unet": (UNetConfig, UNet), "mlp": (MLPConfig, MLP)}


def build(description: dict[str, Any]) -> nn.Module:
    """The untrained network that :func:`describe` described.

    Raises:
        UserError: for an unknown name or settings that do not make a network.
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in _BY_NAME:
        raise UserError(f"no network is called {name!r}; there are {', '.join(_BY_NAME)}")
    config, network = _BY_NAME[name]
    try:
        return network(config(**arguments))
    except TypeError as error:
        raise UserError(f"these settings do not make a {name}: {error}") from None


def describe(config: UNetConfig | MLPConfig) -> dict[str, Any]:
    """A network's configuration in plain values that JSON and TOML can hold; what is None is left out."""
    name = next(name for name, (kind, _) in _BY_NAME.items() if isinstance(config, kind))
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    return {"name": name} | {key: value for key, value in plain.items() if value is not None}
