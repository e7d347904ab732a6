"""The two small models that denoise and inpaint share: one of handwritten digits, one of a texture of leaves."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from unstir import data
from unstir.data import Dataset
from unstir.reproduce import DataMissing
from unstir.reproduce.experiment import Setting, Variant
from unstir.runs import Model
from unstir.runs.build import rms
from unstir.training import presets

SOURCES = {"digits": "digits", "texture": "dead-leaves"}
SHOWN = 6


def variants(setting: Setting) -> list[Variant]:
    """The preset of each kind of picture, with a budget of minutes; one's own pictures (``--data``) stand in for the digits."""
    sources = SOURCES | ({"digits": setting.data} if setting.data else {})
    made = []
    for name, source in sources.items():
        dataset = data.load(source)
        if dataset.spec.kind != "image":
            raise DataMissing(f"only pictures are denoised and inpainted, and {source} holds none: leave --data out")
        tree = asdict(presets.get(presets.choose(dataset.spec), dataset.spec, rms(dataset.train)))
        del tree["data"], tree["seed"], tree["hardware"]
        tree["label_dropout"] = 1.0  # what is to be restored does not come with its class
        quick, full = (40_000, 200_000) if name == "digits" else (24_000, 150_000)
        tree["budget"] = {"images": quick if setting.quick else full}
        made.append(
            Variant(
                name, tree, {"pictures": 32 if setting.quick else 128, "steps": 100 if setting.quick else 500}, source
            )
        )
    return made


def dataset(setting: Setting) -> Dataset:
    """The first variant's; each has its own."""
    return data.load(setting.data or "digits")


def own(variant: Variant) -> Dataset:
    """A variant's data."""
    return data.load(variant.data)


def clean(model: Model, dataset: Dataset, variant: Variant) -> Tensor:
    """Held-out pictures, evenly spaced, as the network sees them."""
    return model.inside(np.asarray(dataset.heldout.x[dataset.heldout.spread(variant.facts["pictures"])]))


def error(restored: Tensor, x0: Tensor, where: Tensor | None = None) -> float:
    """Root mean square error in units of the pictures' own standard deviation, over all pixels or those of a mask."""
    square = (restored - x0).square()
    return float((square.mean() if where is None else square[where.expand_as(square)].mean()).sqrt() / x0.std())


def frames(rows: list[Tensor]) -> np.ndarray:
    """The first few pictures of each row as grey levels 0 … 1, (rows, pictures, H, W), for :func:`plots.strips`."""
    stacked = torch.stack([row[:SHOWN].float().mean(1) for row in rows])
    low, high = stacked[0].amin(), stacked[0].amax()  # of the clean ones: what lies outside is cut
    return ((stacked - low) / (high - low)).clamp(0, 1).numpy()
