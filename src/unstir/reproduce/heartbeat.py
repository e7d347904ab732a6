"""The binary heartbeat of [SD15 §3.1.2]: sequences of 20 bits with a 1 at every fifth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from unstir import data
from unstir.bound import Bound, variational_bound
from unstir.data import Dataset
from unstir.data.toys import heartbeat
from unstir.denoisers import DenoiserBase, FiniteDenoiser
from unstir.noise import NoiseSource
from unstir.processes import Binomial
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.plots import figure, raster
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.schedules import InverseTime

TITLE = "Binary heartbeat: 20 bits, a 1 at every fifth, T = 2000, pi = 0.2 (bits per sequence, higher is better)"

T, PI, LENGTH, PERIOD = 2000, 0.2, 20, 5
K, MINUS_NULL = "K (bits)", "K - L_null (bits)"
PERFECT = "perfect samples (%)"


def variants(setting: Setting) -> list[Variant]:
    common: dict[str, Any] = {
        "process": {"name": "binomial", "prior": PI},
        "schedule": {"name": "inverse_time", "T": T},
        "times": {"name": "uniform"},
    }
    return [
        # Three sigmoid layers of 50 shared by all times, a readout for each, which says the next bits themselves.
        Variant(
            "the paper's network",
            common
            | {
                "network": {"name": "step_mlp", "in_features": LENGTH, "out_features": LENGTH, "steps": T},
                "prediction": {"name": "reverse"},
                "objective": {"name": "variational", "decoder": "forward"},
                "optimiser": {"learning_rate": 1e-2, "batch": 1000, "warmup_images": 20_000, "beta2": 0.99},
                "budget": {"images": 1_000_000 if setting.quick else 4_000_000},
            },
        ),
        Variant(
            "ours",
            common
            | {
                "network": {"name": "mlp", "in_features": LENGTH, "out_features": LENGTH, "width": 128, "depth": 3},
                "prediction": {"name": "logits"},
                "objective": {"name": "simple"},
                "optimiser": {"learning_rate": 2e-3, "batch": 512, "warmup_images": 10_000, "beta2": 0.99},
                "budget": {"images": 500_000 if setting.quick else 3_000_000},
            },
        ),
    ]


def dataset(setting: Setting) -> Dataset:
    return data.load("heartbeat")


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    bound = _bound(model.denoiser, copies=40 if setting.quick else 200)
    mean, half = bound.interval(bound.k_bits)
    drawn = model.sample(1_000 if setting.quick else 10_000, steps=T, batch=5_000)
    return {
        K: mean,
        "half width": half,
        MINUS_NULL: bound.interval(bound.k_minus_null_bits)[0],
        PERFECT: 100 * _perfect(drawn),
    }


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    exact = _bound(FiniteDenoiser(Binomial(InverseTime(T), PI), _sequences()), copies=40 if setting.quick else 200)
    truth = math.log2(1 / PERIOD)
    null = LENGTH * (PI * math.log2(PI) + (1 - PI) * math.log2(1 - PI))
    rows = [
        Row("the truth, log2(1/5)", {K: Figure(truth), MINUS_NULL: Figure(truth - null)}),
        Row("Sohl-Dickstein et al. 2015", {K: Figure(-2.414), MINUS_NULL: Figure(12.024)}),
        Row(
            "the exact reverse, bit by bit",
            {K: Figure(*exact.interval(exact.k_bits)), MINUS_NULL: Figure(exact.interval(exact.k_minus_null_bits)[0])},
        ),
    ]
    for name, figures in measured.items():
        columns = (K, MINUS_NULL, PERFECT)
        rows.append(Row(name, {column: Figure.over([seed[column] for seed in figures]) for column in columns}))
    drawn = 1_000 if setting.quick else 10_000
    return Table(
        "heartbeat",
        TITLE,
        (K, MINUS_NULL, PERFECT),
        rows,
        [
            f"K by all {T - 1} steps, every sequence equally often; perfect: of {drawn:,} samples of each run, by the whole chain.",
            "A reverse step decides its bits one by one, so two that flip in the same step cannot know of each other: that is the",
            "gap of the exact reverse, and it falls as 1/T. The rest of it is p(x0|x1), set equal to the forward kernel.",
        ],
        [str(_pictures(folder, setting))],
        seeds=setting.seeds,
    )


def _sequences() -> torch.Tensor:
    return torch.tensor([[float(i % PERIOD == phase) for i in range(LENGTH)] for phase in range(PERIOD)])


def _bound(denoiser: DenoiserBase, copies: int) -> Bound:
    x0 = _sequences().repeat(copies, 1)
    return variational_bound(denoiser, x0, decoder="forward", noise=NoiseSource(0, range(len(x0))))


def _perfect(drawn: Any) -> float:
    """The share of sequences that are one of the five."""
    real = _sequences().numpy().astype(bool)
    return float((drawn[:, None] == real).all(2).any(1).mean())


def _pictures(folder: Path, setting: Setting) -> Path:
    """Data, data after the forward chain, and samples, as in the paper's figure 2."""
    variants_ = variants(setting)
    real = heartbeat(40)
    process = Binomial(InverseTime(T), PI)
    noisy = process.marginal(torch.from_numpy(real).float(), T).draw(NoiseSource(1, range(len(real))), "figure")
    path = folder / "heartbeat.png"
    with figure(path, 1, 2 + len(variants_), size=(2.2, 3.4)) as axes:
        raster(axes[0, 0], real, "data")
        raster(axes[0, 1], noisy.numpy(), "x_T")
        for axis, variant in zip(axes[0, 2:], variants_):
            raster(axis, trained(folder, variant).sample(40, steps=T), variant.name)
    return path
