"""Dead leaves [SD15 table 1, figure 4]: opaque discs, learned by the 2015 network and by a U-Net, in bits/pixel."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstir import data
from unstir.bound import mean_interval, variational_bound
from unstir.data import Dataset, Split, contact_sheet
from unstir.data.dead_leaves import NOISE
from unstir.evaluation.report.films import forward_film, reverse_film
from unstir.noise import NoiseSource
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.plots import figure
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model

TITLE = "Dead leaves: K and K - L_null, bits/pixel, higher is better"

K, OVER_NULL, SPREAD = "K (bits/pixel)", "K - L_null (bits/pixel)", "± over windows"
T = 1000
BETA_1 = 1e-5
"""Of ours: far below the windows' own noise, of variance 0.0025. K asks how well x_0 is known from x_1, and p(x_0 | x_1) is the
forward kernel, so all finer detail is lost to it. The paper's chain has 1/T, as in its authors' code: its gated mean cannot
move further in a step than the step is wide, so the way from x_2 to a much finer x_1 would be lost as well."""
_SHOWN = 16
_BATCH = 64


def betas_even(last: float = -8.0) -> list[float]:
    """Log-SNR linear in t from that of ``beta_1`` to ``last``: each step as much of the way as the next."""
    log_snr = torch.linspace(math.log((1 - BETA_1) / BETA_1), last, T, dtype=torch.float64)
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.nn.functional.logsigmoid(log_snr)])
    return (-torch.expm1(log_alpha_bar.diff())).tolist()


def variants(setting: Setting) -> list[Variant]:
    side = 16 if setting.quick else 32
    shape = {"in_channels": 1, "out_channels": 2}
    images = 90_000 if setting.quick else 200_000
    optimiser = {"learning_rate": 2e-3, "batch": 32, "warmup_images": 3_000}
    common: dict[str, Any] = {
        "process": {"name": "gaussian"},
        "objective": {"name": "variational", "decoder": "forward"},
        "budget": {"images": images},
        "optimiser": optimiser,
    }
    return [
        Variant(
            "the paper's network",
            common
            | {
                "network": {"name": "multiscale", **shape, "size": [side, side], "steps": T},
                "schedule": {"name": "inverse_time", "T": T},
                "prediction": {"name": "gated_mean"},
                "variance": "free",
            },
        ),
        Variant(
            "ours",
            common
            | {
                # As the preset for small pictures, with one halving less to the window's side.
                "network": {
                    "name": "unet", **shape, "channels": 32, "multipliers": [1, 2], "blocks": 1 if setting.quick else 2,
                    "patch": 2, "groups": 2, "norm_eps": 1e-5, "time_embedding": "scale_shift",
                },
                "schedule": {"name": "from_betas", "betas": betas_even()},
                "prediction": {"name": "preconditioned", "data_rms": 1.0},
                "variance": "learned",
            },
        ),
    ]  # fmt: skip


def dataset(setting: Setting) -> Dataset:
    made = data.load("dead-leaves")
    if not setting.quick:
        return made
    # A part of a window is a window of the same leaves.
    return replace(
        made,
        spec=replace(made.spec, shape=(1, 16, 16), rules=f"{made.spec.rules} Cut into quarters of 16×16."),
        train=_quarters(made.train),
        heldout=_quarters(made.heldout),
    )


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    windows, terms = (384, 60) if setting.quick else (1_000, 100)
    x = model.inside(np.asarray(dataset.heldout.x[dataset.heldout.spread(windows)]))
    pixels = math.prod(x.shape[1:])
    k, over_null = [], []
    for first in range(0, len(x), _BATCH):
        part = x[first : first + _BATCH]
        bound = variational_bound(
            model.denoiser, part, terms=terms, decoder="forward", noise=NoiseSource(0, range(first, first + len(part)))
        )
        k.append(bound.k_bits / pixels)
        over_null.append(bound.k_minus_null_bits / pixels)
    bits = torch.cat(k)
    mean, half = mean_interval(bits)
    return {
        "k": mean,
        "k_spread": half,
        "over_null": float(torch.cat(over_null).mean()),
        "windows": len(bits),
        "terms": terms,
    }


def gaussian_log2_density(train: np.ndarray, heldout: np.ndarray) -> np.ndarray:
    """``log2 N(x; m, C)`` of each held-out window, with all of C from the training windows: bits, float64 (N,).

    Leaves fall alike whichever way they are turned or mirrored, so m and C are averaged over the eight ways to lay a square.

    Args:
        train, heldout: (N, S, S, 1).
    """
    side = train.shape[1]
    flat = train.reshape(len(train), -1).astype(np.float32)
    mean = flat.mean(0, dtype=np.float64)
    square = (flat.T @ flat).astype(np.float64) / len(flat)
    places = np.arange(side * side).reshape(side, side)
    ways = [np.rot90(way, k).ravel() for way in (places, places.T) for k in range(4)]
    mean = sum(mean[way] for way in ways) / len(ways)
    covariance = sum(square[np.ix_(way, way)] for way in ways) / len(ways) - np.outer(mean, mean)
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (heldout.reshape(len(heldout), -1) - mean).T)
    log_det = 2 * np.log(np.diag(root)).sum()
    return -0.5 * ((white**2).sum(0) + log_det + side * side * math.log(2 * math.pi)) / math.log(2)


def noise_bits() -> float:
    """``-½ log2(2 pi e n²)``, n² the noise in a window scaled to variance 1: bits/pixel that no model can exceed.

    Even who knows all leaves does not know the noise: ``h(x) >= h(x | leaves) = h(noise)``.
    """
    return -0.5 * math.log2(2 * math.pi * math.e * NOISE**2 / (1 + NOISE**2))


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    windows = dataset(setting)
    heldout = np.asarray(windows.heldout.x)
    pixels = math.prod(windows.spec.shape)
    null = float(-0.5 * (np.square(heldout, dtype=np.float64).mean() + math.log(2 * math.pi)) / math.log(2))
    gaussian = gaussian_log2_density(np.asarray(windows.train.x), heldout) / pixels
    _, half = mean_interval(torch.from_numpy(gaussian))
    rows = [
        _row("noise alone (no model can pass it)", noise_bits(), null),
        _row("Gaussian, all of its covariance", float(gaussian.mean()), null, half),
    ]
    for name, runs in measured.items():
        figures = {
            K: Figure.over([run["k"] for run in runs]),
            OVER_NULL: Figure.over([run["over_null"] for run in runs]),
            SPREAD: Figure(sum(run["k_spread"] for run in runs) / len(runs)),
        }
        rows.append(Row(name, figures))
    rows += [
        Row("MCGSM (paper, other leaves)", {K: Figure(1.244)}),
        Row("diffusion (paper, other leaves)", {K: Figure(1.489), OVER_NULL: Figure(3.536)}),
    ]
    some = next(iter(measured.values()))[0]
    notes = [
        "The paper's own files are not used: these leaves follow the published description, with our radii and noise. The paper's "
        "figures are of another density and stand beside ours only as such.",
        f"Windows of {windows.spec.shape[1]}×{windows.spec.shape[2]} pixels; K of {some['windows']} held-out windows from "
        f"{some['terms']} network calls each, without bias.",
    ]
    if setting.quick:
        notes.append("Smaller windows see less of each leaf: bits/pixel of 16×16 are not those of 32×32.")
    return Table(
        "dead-leaves", TITLE, (K, OVER_NULL, SPREAD), rows, notes, _figures(measured, windows, folder, setting),
        setting.seeds,
    )  # fmt: skip


def _row(name: str, bits: float, null: float, half: float | None = None) -> Row:
    spread = {} if half is None else {SPREAD: Figure(half)}
    return Row(name, {K: Figure(bits), OVER_NULL: Figure(bits - null), **spread})


def _figures(measured: dict[str, list[Measured]], windows: Dataset, folder: Path, setting: Setting) -> list[str]:
    """Leaves beside samples, as in the paper's figure 4; and what the chain does to them, there and back."""
    models = {v.name: trained(folder, v) for v in variants(setting) if v.name in measured}
    # The whole chain is the network's own; the quick one leaves out three of four steps.
    steps = T // 4 if setting.quick else T
    seen = {"dead leaves": np.asarray(windows.heldout.x[:_SHOWN])}
    seen |= {name: model.sample(_SHOWN, sampler="ancestral", steps=steps) for name, model in models.items()}
    path = folder / "dead-leaves.png"
    with figure(path, 1, len(seen), size=(3.0, 3.2)) as axes:
        for axis, (name, x) in zip(axes[0], seen.items(), strict=True):
            axis.imshow(np.asarray(contact_sheet(windows.spec.levels(x))), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[], title=name)
    model = models["ours"]
    forward, back = folder / "forward.png", folder / "reverse.png"
    forward_film(model, windows.heldout).save(forward)
    reverse_film(model, steps=min(T, 100))[0].save(back)
    return [str(path), str(forward), str(back)]


def _quarters(split: Split) -> Split:
    x = np.asarray(split.x)
    half = x.shape[1] // 2
    parts = [x[:, i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    return replace(split, x=np.concatenate(parts))
