"""The ablation of [HO20] table 2 at small scale: what is predicted, what is made small, and who says the variance."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import data
from unstir.bound import mean_interval, variational_bound
from unstir.data import Dataset, Split, contact_sheet
from unstir.denoisers import Clipped
from unstir.evaluation.extractors import RandomFilters
from unstir.networks import presets
from unstir.noise import NoiseSource
from unstir.reproduce import DataMissing
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.plots import figure
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.schedules import LinearBeta
from unstir.sets.distances import frechet_distance

TITLE = "What to predict and what to make small: held-out bits/dim and sample quality, both lower is better"

BITS, SPREAD, DISTANCE = "bits/dim", "± over pictures", "distance × 1000"
PAPER_BITS, PAPER_FID, PAPER_IS = "paper: bits/dim", "paper: FID", "paper: IS"

_L = {"name": "variational", "decoder": "discretized", "decoder_variance": "reverse"}
_SIMPLE = {"name": "simple"}
ABLATION: dict[str, tuple[str, dict[str, Any], str]] = {
    "mu: L, learned diagonal variance": ("mean", _L, "free"),
    "mu: L, fixed variance": ("mean", _L, "large"),
    "mu: squared error, unweighted": ("mean", _SIMPLE, "large"),
    "eps: L, learned diagonal variance": ("eps", _L, "free"),
    "eps: L, fixed variance": ("eps", _L, "large"),
    "eps: squared error (L_simple)": ("eps", _SIMPLE, "large"),
}
"""Each row of the paper's table: prediction, objective, variance."""

PAPER: dict[str, dict[str, float]] = {
    "mu: L, learned diagonal variance": {PAPER_FID: 23.69, PAPER_IS: 7.28},
    "mu: L, fixed variance": {PAPER_FID: 13.22, PAPER_IS: 8.06},
    "mu: squared error, unweighted": {PAPER_FID: math.inf},
    "eps: L, learned diagonal variance": {PAPER_FID: math.inf},
    "eps: L, fixed variance": {PAPER_FID: 13.51, PAPER_IS: 7.67, PAPER_BITS: 3.70},
    "eps: squared error (L_simple)": {PAPER_FID: 3.17, PAPER_IS: 9.46, PAPER_BITS: 3.75},
}
"""[HO20] tables 1 and 2, on CIFAR-10; an infinite FID stands for what the paper calls unstable and gives no figure for."""

T, QUICK_T = 1000, 100
SAMPLES = 1_000
_BATCH = 64


def variants(setting: Setting) -> list[Variant]:
    channels, height, width = dataset(setting).spec.shape
    name = "tiny" if max(height, width) <= 16 else "small"
    # As much work on larger pictures: theirs cost as many times more as they have positions.
    positions = math.ceil(height / 8) * math.ceil(width / 8) / (1 if name == "tiny" else 4)
    images = int((24_000 if setting.quick else 150_000) / positions)
    made = []
    for row, (prediction, objective, variance) in ABLATION.items():
        outputs = channels * (2 if variance == "free" else 1)
        network = presets.preset(name, (channels, height, width), out_channels=outputs)
        network = {key: list(v) if isinstance(v, tuple) else v for key, v in vars(network).items() if v is not None}
        config = {
            "network": {"name": "unet", **network},
            "schedule": _schedule(setting),
            "prediction": {"name": prediction},
            "variance": variance,
            "objective": objective,
            "optimiser": {"learning_rate": 1e-3, "batch": 32, "warmup_images": 3_000},
            "budget": {"images": max(32, images)},
        }
        made.append(Variant(row, config, {"prediction": prediction}))
    return made


def dataset(setting: Setting) -> Dataset:
    made = data.load(setting.data or "digits")
    if made.spec.kind != "image" or not made.spec.eight_bit:
        raise DataMissing(f"ddpm-table is about pictures of 8 bits, and {made.spec.source} is not: leave --data out")
    # Without labels: the paper's table is of models that know no classes.
    return Dataset(replace(made.spec, classes=()), Split(made.train.x, None), Split(made.heldout.x, None), made.log)


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    pictures, terms = (180, 50) if setting.quick else (1_000, 200)
    bits = _bits_per_dim(model, np.asarray(dataset.heldout.x[dataset.heldout.spread(pictures)]), terms)
    drawn = model.sample(
        SAMPLES, sampler="ancestral", steps=model.denoiser.process.T, batch=250, seed=model.config.seed
    )
    train = model.inside(np.asarray(dataset.train.x))
    mean, half = mean_interval(bits)
    figures = {
        "bits": mean,
        "spread": half,
        "distance": 1000 * _distance(train, model.inside(drawn), train),
    }
    # JSON holds no infinity; a run that went astray has no figure.
    finite = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    return finite | {"pictures": len(bits), "terms": terms, "samples": len(drawn)}


def floor(dataset: Dataset) -> float:
    """The Fréchet distance, × 1000, between two halves of the real pictures: what even perfect samples would have."""
    spec = dataset.spec
    train, heldout = (spec.inside(np.asarray(split.x)) for split in (dataset.train, dataset.heldout))
    everything = torch.cat([train, heldout])
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
    first, second = everything[order].chunk(2)
    return 1000 * _distance(train, first, second)


def _distance(fitted_to: Tensor, first: Tensor, second: Tensor) -> float:
    features = RandomFilters.leading(fitted_to)
    return frechet_distance(features(first), features(second))


def rankings(ours: dict[str, Figure], theirs: dict[str, float]) -> tuple[list[str], list[str], list[str]]:
    """Which of the paper's rankings hold for ours, which do not, and which are too close to tell, lower being better.

    A difference counts where it exceeds the root of the sum of both intervals' squares; over a single seed it always counts.

    Returns:
        three lists of sentences ``A before B``, B being the worse in the paper.
    """
    hold: list[str] = []
    fail: list[str] = []
    close: list[str] = []
    for a, b in combinations([name for name in theirs if name in ours], 2):
        if theirs[a] == theirs[b]:
            continue
        first, second = (a, b) if theirs[a] < theirs[b] else (b, a)
        gap = ours[second].mean - ours[first].mean
        needed = math.hypot(ours[first].half_width or 0, ours[second].half_width or 0)
        (close if abs(gap) <= needed else hold if gap > 0 else fail).append(f"{first} before {second}")
    return hold, fail, close


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    pictures = dataset(setting)
    rows, astray = [], []
    for name, runs in measured.items():
        figures = {key: _over(runs, part) for key, part in ((BITS, "bits"), (SPREAD, "spread"), (DISTANCE, "distance"))}
        astray += [name] if any(figure is None for figure in figures.values()) else []
        known = {key: figure for key, figure in figures.items() if figure is not None}
        known |= {SPREAD: Figure(known[SPREAD].mean)} if SPREAD in known else {}
        printed = {key: Figure(value) for key, value in PAPER[name].items() if math.isfinite(value)}
        rows.append(Row(name, known | printed))
    real = len(pictures.train) + len(pictures.heldout)
    rows.append(Row("two halves of the data", {DISTANCE: Figure(floor(pictures))}))
    some = next(iter(measured.values()))[0]
    notes = [
        f"The paper's figures are of CIFAR-10, ours of {pictures.spec.source}: the same network, budget and seeds in every row, "
        f"T = {QUICK_T if setting.quick else T}.",
        f"Bits/dim: the bound on {some['pictures']} held-out pictures from {some['terms']} network calls each, without bias, x_0 "
        "clipped to its range; the decoder has the model's own variance.",
        f"Distance: Fréchet's, {some['samples']:,} samples against the training data in 32 components of random rectified 3×3 "
        f"filters; halves: {real // 2:,} against {real - real // 2:,} real pictures.",
    ]
    for title, column, theirs in (("sample quality", DISTANCE, PAPER_FID), ("bits/dim", BITS, PAPER_BITS)):
        ours = {row.name: row.figures[column] for row in rows if column in row.figures and row.name in PAPER}
        notes.append(_ranked(title, rankings(ours, {n: p[theirs] for n, p in PAPER.items() if theirs in p})))
    if setting.seeds == 1:
        notes.append("One seed: these rankings are of single runs, and other seeds may turn them.")
    notes.append("What the paper calls unstable counts there as worse than all that it gives a figure for.")
    if astray:
        notes.append(f"Went astray, so that a figure is missing: {', '.join(astray)}.")
    return Table(
        "ddpm-table", TITLE, (BITS, SPREAD, DISTANCE, PAPER_BITS, PAPER_FID, PAPER_IS), rows, notes,
        [_figure(pictures, folder, setting)], setting.seeds,
    )  # fmt: skip


def _ranked(title: str, found: tuple[list[str], list[str], list[str]]) -> str:
    hold, fail, close = found
    sentence = f"Of the paper's {sum(map(len, found))} rankings by {title}, {len(hold)} hold at this scale"
    parts = [
        f"{text} {'; '.join(which)}" for text, which in (("do not:", fail), ("too close to tell:", close)) if which
    ]
    return "; ".join([sentence, *(f"{len(w)} {p}" for w, p in zip([x for x in (fail, close) if x], parts))]) + "."


def _bits_per_dim(model: Model, pictures: np.ndarray, terms: int) -> Tensor:
    x0 = model.inside(pictures)
    denoiser = Clipped(model.denoiser)
    parts = []
    for first in range(0, len(x0), _BATCH):
        part = x0[first : first + _BATCH]
        noise = NoiseSource(0, range(first, first + len(part)))
        parts.append(
            variational_bound(denoiser, part, terms=terms, decoder_variance="reverse", noise=noise).bits_per_dim
        )
    return torch.cat(parts)


def _over(runs: list[Measured], key: str) -> Figure | None:
    values = [run[key] for run in runs]
    return None if any(value is None for value in values) else Figure.over(values)


def _figure(pictures: Dataset, folder: Path, setting: Setting) -> str:
    path = folder / "ddpm-table.png"
    seen = {"data": np.asarray(pictures.heldout.x[pictures.heldout.spread(25)])}
    seen |= {v.name: trained(folder, v).sample(25, sampler="ancestral", steps=QUICK_T) for v in variants(setting)}
    with figure(path, 1, len(seen), size=(2.4, 2.6)) as axes:
        for axis, (name, x) in zip(axes[0], seen.items(), strict=True):
            axis.imshow(np.asarray(contact_sheet(x)), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.set_title(name, fontsize=7)
    return str(path)


def _schedule(setting: Setting) -> dict[str, Any]:
    """The paper's chain; the quick one walks through it in fewer steps, short ones first, and begins and ends as it does.

    Even steps would begin with noise of six levels, and a decoder as wide as that costs more bits than all else.
    """
    linear = LinearBeta(T)
    if not setting.quick:
        return linear.describe()
    times = 1 + (linear.T - 1) * torch.linspace(0, 1, QUICK_T, dtype=torch.float64) ** 2
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), linear.log_alpha_bar(times)])
    return {"name": "from_betas", "betas": (-torch.expm1(log_alpha_bar.diff())).tolist()}
