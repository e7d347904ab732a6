"""Presets: whole configurations for a kind of data, every number with its reason."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.networks import MLPConfig
from unstir.networks import presets as networks
from unstir.runs.config import Config, OptimiserConfig, TimesConfig

NAMES = ("tiny", "small", "cifar10", "points")


def choose(spec: DataSpec) -> str:
    """The preset that suits the data: its kind, and for pictures their side."""
    if spec.kind == "points":
        return "points"
    return "tiny" if max(spec.shape[1:]) <= 16 else "small"


def get(name: str, spec: DataSpec, data_rms: float) -> Config:
    """The configuration that a preset's name stands for, for this data.

    Args:
        data_rms: root mean square of the training data on the scaled axis.
    """
    if name not in NAMES:
        raise UserError(f"there is no preset called {name!r}; there are {', '.join(NAMES)}")
    if (name == "points") != (spec.kind == "points"):
        raise UserError(f"the preset {name} does not fit this data, which is {spec.kind}; try {choose(spec)}")
    if not data_rms > 0:
        raise UserError("all points of this data are the same: there is nothing to learn")
    config = _cifar10(spec) if name == "cifar10" else _quick(name, spec, data_rms)
    return replace(config, preset=name)


def _quick(name: str, spec: DataSpec, data_rms: float) -> Config:
    """For minutes on a processor or a small GPU: many updates of a small network count for more than width."""
    return Config(
        network=_network(name, spec),
        schedule={"name": "cosine", "T": 1000},
        # Inputs, outputs and targets of unit size at every noise level let a young network learn all levels at once.
        prediction={"name": "preconditioned", "data_rms": round(data_rms, 4)},
        # With few reverse steps beta_t is too wide and beta-tilde_t about right; the bound has its own decoder variance.
        variance="small",
        objective={"name": "edm", "data_rms": round(data_rms, 4)},
        # Where pictures take shape: Karras et al. 2022 (table 1) put the middle at ln(sigma/alpha) = -1.2 for data of size 0.5,
        # and it moves with the data's size. A little wider than their 1.2, for the bound's sake at low noise.
        times=TimesConfig(name="log-normal", mean=round(-1.2 + math.log(data_rms / 0.5) + _larger(spec), 2), std=1.4),
        optimiser=OptimiserConfig(
            learning_rate=2e-3,  # the largest at which small U-Nets stayed stable; the anneal takes care of the end
            # Below 32 pictures the processor's cores are not filled, above it there are fewer updates; points are small.
            batch=256 if name == "points" else 32,
            warmup_images=3_000,  # about 100 updates, so that Adam's second moments have settled
            beta2=0.99,  # short runs: an average over 100 updates, not 1,000
        ),
        ema_width=0.1,
        label_dropout=0.2,  # Ho & Salimans 2022, table 1: 0.1 and 0.2 are best; the higher, since plain samples ask for no class
    )


def _cifar10(spec: DataSpec) -> Config:
    """The recipe of [HO20, App. B] for CIFAR-10: days of GPU time."""
    return Config(
        network=_network("cifar10", spec),
        schedule={"name": "linear_beta", "T": 1000, "beta_start": 1e-4, "beta_end": 0.02},
        prediction={"name": "eps"},
        variance="large",  # fixedlarge in the authors' configuration
        objective={"name": "simple"},
        times=TimesConfig(name="uniform"),
        optimiser=OptimiserConfig(
            learning_rate=2e-4,
            batch=128,
            warmup_images=5_000 * 128,  # 5,000 updates in the authors' code
            beta2=0.999,
            clip=1.0,
        ),
        ema_width=0.1,  # the paper's 0.9999 has a fixed memory and is mostly initial weights in a short run
        label_dropout=0.1,
    )


def _larger(spec: DataSpec) -> float:
    """How far pictures over 32 pixels move the middle of the training noise: neighbours say the same thing more often, so the
    same noise hides less, by ln(side/32) (Hoogeboom et al. 2023, eq. 4, there in log-SNR)."""
    return math.log(max(*spec.shape[1:], 32) / 32) if spec.kind == "image" else 0.0


def _network(name: str, spec: DataSpec) -> dict[str, Any]:
    classes = len(spec.classes)
    if spec.kind == "points":
        # Four residual blocks of 128: small enough for thousands of updates a minute.
        config = MLPConfig(spec.shape[0], spec.shape[0], width=128, depth=4, classes=classes)
    else:
        channels, height, width = spec.shape
        config = networks.preset(name, (channels, height, width), classes=classes)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    # TOML has no null: what is None is left out, and the network's own default is the same.
    return {"name": "mlp" if spec.kind == "points" else "unet"} | {k: v for k, v in plain.items() if v is not None}
