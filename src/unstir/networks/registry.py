"""Networks by name: what a run writes in its JSON, and the module that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from torch import nn

from unstir.errors import UserError
from unstir.networks.mlp import MLP, MLPConfig
from unstir.networks.multiscale import MultiScale, MultiScaleConfig
from unstir.networks.rbf import RBF, RBFConfig
from unstir.networks.step_mlp import StepMLP, StepMLPConfig
from unstir.networks.unet import UNet, UNetConfig

_BY_NAME: dict[str, tuple[type[nn.Module], type[Any]]] = {
    "unet": (UNet, UNetConfig),
    "mlp": (MLP, MLPConfig),
    "rbf": (RBF, RBFConfig),
    "step_mlp": (StepMLP, StepMLPConfig),
    "multiscale": (MultiScale, MultiScaleConfig),
}


def build(description: Mapping[str, Any]) -> nn.Module:
    """The network that ``{"name": …, **config}`` describes, with fresh weights.

    Raises:
        UserError: for a name or a setting that does not exist, and for one that is missing.
    """
    settings = dict(description)
    name = settings.pop("name", None)
    if name not in _BY_NAME:
        raise UserError(f"no network is called {name!r}; there are {', '.join(_BY_NAME)}")
    module, config = _BY_NAME[name]
    unknown = sorted(settings.keys() - {field.name for field in fields(config)})
    if unknown:
        raise UserError(f"the network {name!r} has no setting {', '.join(unknown)}")
    try:
        return module(config(**settings))
    except TypeError as error:
        raise UserError(f"the network {name!r} cannot be built: {error}") from error


def config_of(module: nn.Module) -> dict[str, Any]:
    """What :func:`build` needs to make this network again, as JSON values."""
    for name, (kind, _) in _BY_NAME.items():
        if type(module) is kind:
            settings = asdict(getattr(module, "config"))  # noqa: B009
            return {"name": name, **{k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}}
    raise UserError(f"{type(module).__name__} is not one of this package's networks: {', '.join(_BY_NAME)}")
