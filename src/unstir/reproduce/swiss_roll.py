"""The swiss roll of [SD15 §3.1.1]: points on a spiral, 40 steps, 16 radial basis functions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstir import data
from unstir.bound import variational_bound
from unstir.data import Dataset
from unstir.data.toys import (
    SWISS_ROLL_NOISE,
    swiss_roll,
    swiss_roll_entropy_bits,
    swiss_roll_log_density,
    swiss_roll_thickness,
)
from unstir.denoisers import Denoiser, Prediction
from unstir.noise import NoiseSource
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.plots import cloud, figure
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model

TITLE = "Swiss roll: points in the plane, variance 1, T = 40 (bits per point, higher is better)"

RULES = 2  # since 2: on points drawn for this alone
T = 40
K, MINUS_NULL, SHORT = "K (bits)", "K - L_null (bits)", "short of the truth (bits)"
NULL = -math.log2(2 * math.pi * math.e)  # of the standard normal in the plane, on data of variance 1


def schedule(thickness: float) -> dict[str, Any]:
    """Forty steps where this roll needs them, as log-SNR from the finest to the coarsest.

    With l = -2 ln s, the log-SNR at which noise and roll are equally thick: the first step adds noise 20 times finer than the
    roll (log-SNR l + 6, [SD15]'s fixed small beta_1), the last leaves e^-7 of signal, and between them
    ``0.43 l + 0.7 + (0.72 l - 1.6)(1/2 - u) + 0.75 ln((1 - u)/u)`` for u from 0 to 1: a curve through the chain whose bound is
    lowest for the exact denoiser, which is what learning beta_2 … beta_T comes to.
    """
    middle = -2 * math.log(thickness)
    u = (torch.arange(T - 2, dtype=torch.float64) + 0.5) / (T - 2)
    inner = 0.43 * middle + 0.7 + (0.72 * middle - 1.6) * (0.5 - u) + 0.75 * torch.log((1 - u) / u)
    log_snr = torch.cat([torch.tensor([middle + 6.0]), inner, torch.tensor([-7.0])]).double()
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.sigmoid(log_snr)])
    return {"name": "from_betas", "betas": (1 - alpha_bar[1:] / alpha_bar[:-1]).tolist()}


def variants(setting: Setting) -> list[Variant]:
    thickness = swiss_roll_thickness(SWISS_ROLL_NOISE)
    common: dict[str, Any] = {
        "schedule": schedule(thickness),
        "variance": "free",
        "objective": {"name": "variational", "decoder": "forward"},
        "times": {"name": "uniform"},
    }
    return [
        # 16 normalised radial basis functions shared by all times, a readout for each, diagonal covariance by a sigmoid.
        Variant(
            "the paper's network",
            common
            | {
                "network": {"name": "rbf", "in_features": 2, "out_features": 4, "steps": T, "units": 16},
                "prediction": {"name": "gated_x0", "data_std": round(thickness, 4)},
                "optimiser": {"learning_rate": 2e-2, "batch": 2048, "warmup_images": 400_000, "beta2": 0.99},
                "budget": {"images": 10_000_000 if setting.quick else 24_000_000},
            },
        ),
        Variant(
            "ours",
            common
            | {
                "network": {"name": "mlp", "in_features": 2, "out_features": 4, "width": 64, "depth": 3},
                "prediction": {"name": "v"},
                "optimiser": {"learning_rate": 3e-3, "batch": 1024, "warmup_images": 100_000, "beta2": 0.99},
                "budget": {"images": 2_000_000 if setting.quick else 6_000_000},
            },
        ),
    ]


def dataset(setting: Setting) -> Dataset:
    return data.load("swiss-roll")


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    # Drawn for this alone: the settings above were chosen on the data's own held-out points.
    points = swiss_roll(10_000, seed=2)
    x0 = model.inside(points)
    bound = variational_bound(
        model.denoiser, x0, decoder="forward", draws=2 if setting.quick else 8, noise=NoiseSource(0, range(len(x0)))
    )
    # Against the density of the very points: their luck is then in both, and cancels.
    log_density = torch.from_numpy(swiss_roll_log_density(points)) / math.log(2)
    short, half = bound.interval(log_density - bound.k_bits)
    return {SHORT: short, "half width": half}


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    truth = -swiss_roll_entropy_bits(SWISS_ROLL_NOISE)
    rows = [
        Row("the truth of our roll", {K: Figure(truth), MINUS_NULL: Figure(truth - NULL)}),
        Row("Sohl-Dickstein et al. 2015, on their roll", {K: Figure(2.35), MINUS_NULL: Figure(6.45)}),
    ]
    for name, figures in measured.items():
        short = [seed[SHORT] for seed in figures]
        columns = {K: [truth - s for s in short], MINUS_NULL: [truth - NULL - s for s in short], SHORT: short}
        rows.append(Row(name, {column: Figure.over(values) for column, values in columns.items()}))
    return Table(
        "swiss-roll",
        TITLE,
        (K, MINUS_NULL, SHORT),
        rows,
        [
            f"The paper does not state its roll's noise; ours is {SWISS_ROLL_NOISE} on a roll of radius 1.5π to 4.5π, "
            f"{swiss_roll_thickness(SWISS_ROLL_NOISE):.3f} after scaling to variance 1.",
            "A thinner roll has a higher truth: 2.35 bits would need noise below 0.026. So K compares with the truth of its own",
            "roll only, by numerical integration of the density; a network's K as that less what it falls short of the density of",
            "the very points it is measured on.",
        ],
        [str(_pictures(folder, setting))],
        seeds=setting.seeds,
    )


def _pictures(folder: Path, setting: Setting) -> Path:
    """As the paper's figure 1: the forward chain, the reverse chain of its network, and the drift of the reverse steps."""
    variant = variants(setting)[0]
    model = trained(folder, variant)
    process, path = model.denoiser.process, folder / "swiss-roll.png"
    x0 = model.inside(dataset(setting).heldout.x[:2000])
    noise = NoiseSource(0, range(len(x0)))
    places = (0, T // 2, T)
    with figure(path, 3, 3, size=(2.4, 2.4)) as axes:
        walked = {T: process.prior(x0.shape).draw(noise, "prior").numpy()}
        walked |= {round(t): x for t, x, _ in model.film(2000, steps=T, sampler="ancestral")}
        for column, t in enumerate(places):
            forward = process.marginal(x0, t).draw(noise, "figure") if t else x0
            cloud(axes[0, column], forward.numpy(), f"q, t = {t}")
            cloud(axes[1, 2 - column], walked[places[2 - column]], f"p, t = {places[2 - column]}")
            _drift(axes[2, column], model.denoiser, max(t, 1))
    return path


@torch.no_grad()
def _drift(axis: Any, denoiser: Denoiser, t: int) -> None:
    """``f_mu(x, t) - x`` on a grid."""
    side = np.linspace(-2.4, 2.4, 17)
    grid = torch.tensor(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2), dtype=torch.float32)
    time = torch.full((len(grid),), float(t), dtype=torch.float64)
    prediction = denoiser.predict(grid, time)
    assert isinstance(prediction, Prediction)
    drift = prediction.reverse(time - 1).mean - grid
    axis.quiver(grid[:, 0], grid[:, 1], drift[:, 0], drift[:, 1], color="#8a3b2b", width=0.006)
    axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=[], yticks=[], aspect="equal", title=f"drift, t = {t}")
