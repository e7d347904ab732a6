"""Small runs, and what can go wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import small
from unstir.evaluation.doctor import Diagnosis, examine
from unstir.runs import Model, Run, checkpoint, dataset, load
from unstir.runs.model import metadata
from unstir.training import session

PICTURES = """
[network]
channels = 24
multipliers = [1]
blocks = 1
groups = 4
middle_attention = false

[optimiser]
batch = 32
warmup_images = 640
learning_rate = 4e-3

[hardware]
precision = "fp32"
layout = "contiguous"
"""

VECTORS = """
[network]
width = 32
depth = 2

[optimiser]
batch = 64
warmup_images = 640

[hardware]
precision = "fp32"
"""

TOLD_TIMES = """
[prediction]
name = "eps"

[objective]
name = "simple"

[times]
name = "uniform"
"""
"""A network that is told the time, as in [HO20], instead of the noise. Points are not clipped, and eps says nothing of x0 at T,
where no signal is left: they fly away."""


class ByHeart(torch.nn.Module):
    """What a preconditioned network would say that knows its training items and nothing else: ``E[x0 | x_t]`` of these items.

    Args:
        items: (N, *E). data_rms: of the prediction, see :class:`unstir.denoisers.gaussian.Preconditioned`.
    """

    def __init__(self, items: Tensor, data_rms: float) -> None:
        super().__init__()
        self.items = torch.nn.Parameter(items.flatten(1).double(), requires_grad=False)
        self.data_rms = data_rms

    def forward(self, x: Tensor, time: Tensor, condition: Any) -> Tensor:
        angle = time.double()[:, None] * (torch.pi / 2000)
        alpha, sigma = angle.cos(), angle.sin()
        size = (sigma**2 + self.data_rms**2 * alpha**2).sqrt()
        x_t = x.flatten(1).double() * size
        near = alpha * (x_t @ self.items.T) - alpha**2 * self.items.square().sum(1) / 2
        x0 = (near / sigma**2).softmax(1) @ self.items
        raw = (x0 - self.data_rms**2 * alpha / size**2 * x_t) * size / (self.data_rms * sigma)
        return raw.reshape(x.shape).to(x)


def colours(number: int, seed: int = 0) -> np.ndarray:
    """Warm blobs on cold ground, uint8 (N, 6, 6, 3): red, green and blue are of laws of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:6, 0:6] / 5
    across, down = rng.uniform(0.2, 0.8, (2, number, 1, 1))
    width = rng.uniform(0.15, 0.35, (number, 1, 1))
    blob = np.exp(-((x - across) ** 2 + (y - down) ** 2) / (2 * width**2))[..., None]
    front = rng.uniform((0.7, 0.3, 0.0), (1.0, 0.7, 0.3), (number, 3))[:, None, None]
    back = rng.uniform((0.0, 0.1, 0.5), (0.3, 0.5, 0.9), (number, 3))[:, None, None]
    return np.rint(255 * (blob * front + (1 - blob) * back)).astype(np.uint8)


def arcs(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two arcs that reach into one another, float32 (N, 2), and which of them each point is on."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 2, number)
    angle = rng.uniform(0, np.pi, number)
    sign = 1 - 2 * which
    x = np.stack([sign * np.cos(angle) + which, sign * (np.sin(angle) - 0.2)], 1) + rng.normal(0, 0.05, (number, 2))
    return x.astype(np.float32), which


def beats(number: int, seed: int = 0) -> np.ndarray:
    """Sequences of 16 bits of which every fourth is 1, from any place on: bool (N, 16)."""
    begin = np.random.default_rng(seed).integers(0, 4, (number, 1))
    return (np.arange(16) - begin) % 4 == 0


def look(run: Path, data: str | None = None) -> Diagnosis:
    """What the doctor says of a run, or of a single file."""
    model = load(run)
    return examine(model, dataset(model, data), Run(run) if run.is_dir() else None)


def names(found: Diagnosis) -> list[str]:
    return [finding.name for finding in found.findings]


def changed(run: Path, place: Path, change: Callable[[Model], Any]) -> Path:
    """A single file of the run's averaged weights after a change of the model in place, or to the one that is returned."""
    model = load(run)
    model = change(model) or model
    tensors = {name: value.detach().contiguous() for name, value in model.denoiser.network.named_parameters()}
    save_file(tensors, place, metadata(model.config, model.spec, model.images, "ema"))
    return place


def rewritten(run: Path, place: Path, change: Callable[[Mapping[str, Mapping[str, Tensor]]], Any]) -> Path:
    """A copy of the run whose newest checkpoint's tensors, by part and name, were changed in place."""
    shutil.copytree(run, place)
    found, _ = checkpoint.newest(place / "checkpoints")
    assert found is not None
    change(found.parts)
    checkpoint.save(place / "checkpoints", found.state["progress"]["images"], found)
    return place


def rescheduled(schedule: dict[str, Any]) -> Callable[[Model], Model]:
    """The same weights beside another schedule."""

    def change(model: Model) -> Model:
        return replace(model, config=replace(model.config, schedule=schedule))

    return change


def last_layer(model: Model) -> tuple[Tensor, Tensor]:
    """Weight and bias of the layer that answers."""
    *_, (name, bias) = [(n, p) for n, p in model.denoiser.network.named_parameters() if n.endswith("bias")]
    return dict(model.denoiser.network.named_parameters())[name.removesuffix("bias") + "weight"], bias


def beginning(model: Model) -> dict[str, Tensor]:
    """The weights that training began with."""
    from unstir.runs.build import denoiser_of

    torch.manual_seed(model.config.seed)
    return {name: value.detach() for name, value in denoiser_of(model.config).network.named_parameters()}


def trained(path: Path, source: str, images: int, toml: str) -> Path:
    """A run, without the pictures that training draws on its way: they would take longer than it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SNAPSHOTS", 1)
        patch.setattr(session, "SAMPLES", 2)
        patch.setattr(session, "POINTS", 2)
        return small.train(path, source, images, toml).path


def as_json(found: Diagnosis) -> Any:
    return json.loads(json.dumps(found.to_json(), allow_nan=False))
