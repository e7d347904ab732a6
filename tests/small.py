"""Small things to train: configurations, data and runs that take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstir.data import Dataset, DataSpec, Split
from unstir.runs import Run
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.runs.config import Config
from unstir.training.engine import Engine
from unstir.training.loop import Trainer
from unstir.training.resolve import resolve
from unstir.training.session import Session

NETWORK: dict[str, Any] = {
    "name": "unet",
    "channels": 8,
    "multipliers": [1],
    "blocks": 1,
    "groups": 4,
    "middle_attention": False,
}
SCHEDULE = {"name": "cosine", "T": 50}
HARDWARE = {"precision": "fp32", "layout": "contiguous"}

TOML = """
[network]
channels = 8
multipliers = [1]
blocks = 1
groups = 4
middle_attention = false
dropout = 0.1

[schedule]
T = 50

[hardware]
precision = "fp32"
layout = "contiguous"

[optimiser]
batch = 8
"""


def config(**tree: Any) -> Config:
    """The small network on 4×4 grey pictures of three classes, with changes laid over it."""
    network = NETWORK | {"in_channels": 1, "out_channels": 1, "classes": 3, "dropout": 0.2}
    base = configs.from_dict(
        {
            "network": network,
            "schedule": SCHEDULE,
            "prediction": {"name": "eps"},
            "label_dropout": 0.3,
            "optimiser": {"batch": 4, "warmup_images": 20, "learning_rate": 1e-3},
            "budget": {"images": 200},
            "hardware": HARDWARE,
        }
    )
    return configs.from_dict(tree, base)


def pictures(number: int = 22, side: int = 4, seed: int = 0, classes: int = 3) -> Dataset:
    """Random grey pictures, and as many held out as fill a tenth."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        x = rng.integers(0, 256, (n, side, side, 1), np.uint8)
        return Split(x, rng.integers(0, classes, n).astype(np.int64) if classes else None)

    names = tuple("abcdefghij"[:classes])
    spec = DataSpec("image", (1, side, side), True, names, "pictures", "as they are.", f"hash {number} {side} {seed}")
    return Dataset(spec, split(number), split(max(2, number // 10)), [])


def trainer(settings: Config | None = None, dataset: Dataset | None = None, engine: Engine | None = None) -> Trainer:
    """A trainer from the start, as a session makes it."""
    settings = settings or config()
    engine = engine or Engine(torch.device("cpu"))
    torch.manual_seed(settings.seed)
    denoiser = denoiser_of(settings)
    engine.place(denoiser)
    made = Trainer(settings, denoiser, dataset or pictures(), engine)
    made.progress.total = settings.budget.images
    return made


def train(path: Path, source: str, images: int, toml: str = TOML, **flags: Any) -> Run:
    """A finished run of the small network on a source."""
    file = path.parent / f"{path.name}.toml"
    file.write_text(toml)
    run = Run(path)
    settings, dataset = resolve({"data": {"source": source}, "budget": {"images": images}, **flags}, file, run)
    for _ in Session(run, settings, dataset).events():
        pass
    return run


def tensors_of(made: Trainer) -> dict[str, torch.Tensor]:
    """All state of a trainer that is tensors, by part and name."""
    return {f"{part}/{name}": t.clone() for part, ts in made.checkpoint().parts.items() for name, t in ts.items()}


def look(
    images: int,
    heldout: Sequence[float] = (),
    train: Sequence[float] = (),
    p: float | None = None,
    loss: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """A ``watch`` record: the items' bounds, the chance of so many copies (None: not asked), the loss by time on both sides."""
    copies = None if p is None else {"samples": 64, "heldout": 20, "rank": 1, "nearer": 40, "expected": 3.0, "p": p}
    one = {name: [value] for name, value in {"mean": 90.0, "mean_error": 2.0, "std": 40.0, "std_error": 1.0}.items()}
    return {
        "event": "watch",
        "images": images,
        "bound": {"unit": "bits/dim", "heldout": list(map(float, heldout)), "train": list(map(float, train))},
        "times": [float(i + 1) for i in range(len(loss))],
        "loss": {side: list(loss) for side in ("heldout", "train")},
        "loss_error": {side: [0.1] * len(loss) for side in ("heldout", "train")},
        "channels": {"names": ["grey"], "samples": one, "data": one},
        "copies": copies,
    }
