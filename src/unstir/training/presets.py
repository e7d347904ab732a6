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

NAMES = ("tiny", "small", "few", "cifar10", "points", "bits", "symbols")
_VECTORS = ("points", "bits", "symbols")


def choose(spec: DataSpec) -> str:
    """The preset that suits the data: its kind, and for pictures their side."""
    if spec.kind in _VECTORS:
        return spec.kind
    return "tiny" if max(spec.shape[1:]) <= 16 else "small"


def get(name: str, spec: DataSpec, data_rms: float, image_channels: int = 0) -> Config:
    """The configuration that a preset's name stands for, for this data.

    Args:
        data_rms: root mean square of the training data on the scaled axis.
        image_channels: of what the network is shown of each picture.
    """
    if name not in NAMES:
        raise UserError(f"there is no preset called {name!r}; there are {', '.join(NAMES)}")
    if name != spec.kind and (name in _VECTORS or spec.kind in _VECTORS):
        raise UserError(f"the preset {name} does not fit this data, which is {spec.kind}; try {choose(spec)}")
    if spec.kind == "points" and not data_rms > 0:
        raise UserError("all points of this data are the same: there is nothing to learn")
    if name in ("bits", "symbols"):
        config = _discrete(spec, data_rms)
    else:
        config = {"cifar10": _cifar10, "few": _few}.get(name, _quick)(name, spec, data_rms)
    vector = len(spec.vectors.names) if spec.vectors else 0
    # Conditions that nobody asked for are not named, as in the configurations of earlier runs.
    takes = {name: size for name, size in (("vector", vector), ("image_channels", image_channels)) if size}
    return replace(config, preset=name, network=config.network | takes)


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


def _discrete(spec: DataSpec, data_rms: float) -> Config:
    """Bits and symbols: logits of x0, learned by their cross-entropy, on the chain that erases evenly [SD15 §2.4.1]."""
    if spec.kind == "bits":
        # Noise as active as the data: the prior then scores them best, and the chain has the least to undo. Bits are 0 and 1,
        # so their mean is their mean square.
        process: dict[str, Any] = {"name": "binomial", "prior": round(min(max(data_rms**2, 0.01), 0.99), 4)}
    else:
        process = {"name": "categorical", "classes": spec.symbols, "kind": "uniform"}
    return Config(
        network=_network(spec.kind, spec),
        process=process,
        # Two bits decided in one step cannot know of each other: what that costs falls as 1/T.
        schedule={"name": "inverse_time", "T": 1000},
        prediction={"name": "logits"},
        objective={"name": "simple"},
        times=TimesConfig(name="uniform"),
        optimiser=OptimiserConfig(learning_rate=2e-3, batch=256, warmup_images=3_000, beta2=0.99),
        ema_width=0.1,
        label_dropout=0.2,
    )


def _few(name: str, spec: DataSpec, data_rms: float) -> Config:
    """For 100 to 2,000 pictures, which a network would soon know by heart: each is shown in ever new positions, and units drop out."""
    config = _quick(choose(spec), spec, data_rms)
    return replace(
        config,
        data=replace(config.data, augment=0.12),  # Karras et al. 2022, table 6, for 50,000 pictures of 32×32
        network=config.network | {"dropout": 0.13},  # the same table's, for CIFAR-10
    )


def _cifar10(name: str, spec: DataSpec, data_rms: float) -> Config:
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
    same noise hides less, by ln(side/32) (Hoogeboom et al. 2023, there in log-SNR)."""
    return math.log(max(*spec.shape[1:], 32) / 32) if spec.kind == "image" else 0.0


def _network(name: str, spec: DataSpec) -> dict[str, Any]:
    classes = len(spec.classes)
    if spec.kind in _VECTORS:
        # Four residual blocks of 128: small enough for thousands of updates a minute. Symbols go in and out one-hot.
        numbers = spec.shape[0] * (spec.symbols or 1)
        config = MLPConfig(numbers, numbers, width=128, depth=4, classes=classes)
    else:
        channels, height, width = spec.shape
        config = networks.preset(name, (channels, height, width), classes=classes)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    # TOML has no null: what is None is left out, and the network's own default is the same.
    plain = {k: v for k, v in plain.items() if v is not None and k not in ("vector", "image_channels", "augment")}
    return {"name": "mlp" if spec.kind in _VECTORS else "unet"} | plain
