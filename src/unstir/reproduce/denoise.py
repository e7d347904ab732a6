"""Denoising by multiplying with r(x), as in figure 3 of [SD15]: pictures whose noise is as large as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unstir import editing
from unstir.data.toys import heartbeat
from unstir.denoisers import FiniteDenoiser
from unstir.noise import NoiseSource
from unstir.processes import Binomial
from unstir.reproduce import pictures
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.pictures import dataset, variants
from unstir.reproduce.plots import figure, strips
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.samplers import Grid
from unstir.schedules import InverseTime

__all__ = ["TITLE", "dataset", "measure", "report", "variants"]

TITLE = "Denoising at SNR 1 by p(x0|y): error of one draw, in standard deviations of the data (the noisy picture: 1)"

NOISY, PAPER, MATCHED, MEAN = "noisy", "r constant [SD15]", "begun at y's own noise", "mean of 8 such draws"
METHODS = {PAPER: "constant", MATCHED: "matched"}
FLIPS, SEQUENCES = 0.1, 500


def restored(model: Model, x0: Tensor, steps: int) -> dict[str, Tensor]:
    """The noisy pictures, and what each method makes of them."""
    noise = NoiseSource(3, range(len(x0)))
    variance = float(x0.var())
    y = x0 + variance**0.5 * noise.normal(x0.shape[1:], "what is to be removed")
    grid = Grid.uniform(model.denoiser.process.schedule, steps)
    made = {NOISY: y}
    for name, method in METHODS.items():
        made[name] = editing.denoise(model.denoiser, y, variance, grid, method=method)
    draws = [editing.denoise(model.denoiser, y, variance, grid, method="matched", seed=seed) for seed in range(1, 9)]
    made[MEAN] = torch.stack(draws).mean(0)
    return made


def measure(model: Model, dataset: Any, variant: Variant, setting: Setting) -> Measured:
    x0 = pictures.clean(model, dataset, variant)
    return {name: pictures.error(x, x0) for name, x in restored(model, x0, variant.facts["steps"]).items()}


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    columns = (NOISY, PAPER, MATCHED, MEAN)
    rows = [
        Row(name, {column: Figure.over([seed[column] for seed in figures]) for column in columns})
        for name, figures in measured.items()
    ]
    wrong = flips_left(setting)
    rows.append(Row("heartbeats that are wrong (share)", {name: Figure(share) for name, share in wrong.items()}))
    return Table(
        "denoise",
        TITLE,
        columns,
        rows,
        [
            "[SD15] multiply every reverse step by the r of clean data, unchanged in t. A chain that begins where its own noise is",
            "as large as y's needs no r at all and draws from p(x0|y) itself; the mean of draws comes near the least error there is.",
            f"Heartbeats: {FLIPS:.0%} of the bits replaced by noise, restored by the exact denoiser of their binomial chain.",
        ],
        [str(_pictures(folder, setting))],
        seeds=setting.seeds,
    )


def flips_left(setting: Setting) -> dict[str, float]:
    """The share of heartbeats that are not what they were, before and after: the binomial half of r(x)."""
    process = Binomial(InverseTime(100 if setting.quick else 500), 0.2)
    patterns = torch.tensor(heartbeat(200)).float().unique(dim=0)
    x0 = torch.tensor(heartbeat(SEQUENCES, seed=1)).float()
    noise = NoiseSource(5, range(SEQUENCES))
    flipped = noise.uniform(x0.shape[1:], "which bits") < FLIPS
    y = torch.where(flipped, 1 - x0, x0)
    denoiser, grid = FiniteDenoiser(process, patterns), Grid.uniform(process.schedule, process.T)

    def wrong(x: Tensor) -> float:
        return float((x != x0).any(1).double().mean())

    made = {NOISY: wrong(y)}
    made[PAPER] = wrong(editing.denoise(denoiser, y, FLIPS, grid, method="constant"))
    return made


def _pictures(folder: Path, setting: Setting) -> Path:
    path = folder / "denoise.png"
    kinds = variants(setting)
    with figure(path, 1, len(kinds), size=(5.2, 3.6)) as axes:
        for axis, variant in zip(axes[0], kinds):
            model = trained(folder, variant)
            x0 = pictures.clean(model, pictures.own(variant), variant)[: pictures.SHOWN]
            made = restored(model, x0, variant.facts["steps"])
            strips(
                axis, pictures.frames([x0, *made.values()]), ["x0", "y", "[SD15]", "matched", "mean"], [""] * len(x0)
            )
    return path
