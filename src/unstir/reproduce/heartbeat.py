"""The binary heartbeat of [SD15 §3.1.2]: sequences of 20 bits with a 1 at every fifth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from unstir import data
from unstir.bound import variational_bound
from unstir.data import Dataset
from unstir.data.toys import heartbeat
from unstir.denoisers import DenoiserBase, FiniteDenoiser
from unstir.distributions import Bernoulli
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
SHORT = "short of exact (bits)"
PERFECT = "perfect samples (%)"


def variants(setting: Setting) -> list[Variant]:
    common: dict[str, Any] = {
        "process": {"name": "binomial", "prior": PI},
        "schedule": {"name": "inverse_time", "T": T},
        "times": {"name": "uniform"},
    }
    return [
        # Three sigmoid layers of 50 shared by all times, a readout for each, which says the next bits themselves. 2,000 readouts
        # want many rows: those of neighbouring times share what they have in common (six levels), and the batch is large.
        Variant(
            "the paper's network",
            common
            | {
                "network": {"name": "step_mlp", "in_features": LENGTH, "out_features": LENGTH, "steps": T, "levels": 6},
                "prediction": {"name": "reverse"},
                "objective": {"name": "variational", "decoder": "forward"},
                "optimiser": {"learning_rate": 2e-2, "batch": 2000, "warmup_images": 400_000, "beta2": 0.99},
                "budget": {"images": 6_000_000 if setting.quick else 40_000_000},
            },
        ),
        Variant(
            "ours",
            common
            | {
                "network": {"name": "mlp", "in_features": LENGTH, "out_features": LENGTH, "width": 128, "depth": 3},
                "prediction": {"name": "logits"},
                "objective": {"name": "simple"},
                "optimiser": {"learning_rate": 4e-3, "batch": 1024, "warmup_images": 50_000, "beta2": 0.99},
                "budget": {"images": 1_500_000 if setting.quick else 5_000_000},
            },
        ),
    ]


def dataset(setting: Setting) -> Dataset:
    return data.load("heartbeat")


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    short, half = short_of_exact(model.denoiser, copies=100 if setting.quick else 400)
    drawn = model.sample(_drawn(setting), steps=T, batch=5_000)
    return {SHORT: short, "half width": half, PERFECT: 100 * _perfect(drawn)}


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    truth = math.log2(1 / PERIOD)
    null = LENGTH * (PI * math.log2(PI) + (1 - PI) * math.log2(1 - PI))
    exact = exact_k_bits(Binomial(InverseTime(T), PI))
    rows = [
        Row("the truth, log2(1/5)", {K: Figure(truth), MINUS_NULL: Figure(truth - null)}),
        Row("Sohl-Dickstein et al. 2015", {K: Figure(-2.414), MINUS_NULL: Figure(12.024)}),
        Row("the exact reverse, bit by bit", {K: Figure(exact), MINUS_NULL: Figure(exact - null), SHORT: Figure(0.0)}),
    ]
    for name, figures in measured.items():
        k = [exact - seed[SHORT] for seed in figures]
        columns = {K: k, MINUS_NULL: [value - null for value in k]}
        columns |= {column: [seed[column] for seed in figures] for column in (SHORT, PERFECT)}
        rows.append(Row(name, {column: Figure.over(values) for column, values in columns.items()}))
    return Table(
        "heartbeat",
        TITLE,
        (K, MINUS_NULL, SHORT, PERFECT),
        rows,
        [
            "The exact reverse by summing over all counts of ones in x_t; a network's K as that less what it falls short by, on",
            f"the same draws of all {T - 1} steps. Perfect: of {_drawn(setting):,} samples of each run, by the whole chain.",
            "A reverse step decides its bits one by one, so two that flip in the same step cannot know of each other: that is most of",
            "the gap of the exact reverse from the truth, and falls as 1/T. The rest is p(x0|x1), set equal to the forward kernel.",
        ],
        [str(_pictures(folder, setting))],
        seeds=setting.seeds,
    )


def exact_k_bits(process: Binomial) -> float:
    """K of the exact reverse, bit by bit: the most that a network of independent bits can reach on this chain, in bits.

    Of x_t only the number of ones at each of the five phases tells anything of x0, 0 to 4 each: so the expectation over x_t is a
    sum over 5^5 cases, and all phases are alike.
    """
    beats = LENGTH // PERIOD
    counts = torch.cartesian_prod(*[torch.arange(beats + 1.0, dtype=torch.float64)] * PERIOD)
    ways = torch.lgamma(torch.tensor(beats + 1.0)) - torch.lgamma(counts + 1) - torch.lgamma(beats - counts + 1)
    x0 = torch.zeros(len(counts), PERIOD, 2, dtype=torch.float64)
    x0[:, 0] = 1  # the true phase
    x_t = torch.tensor([0.0, 1.0], dtype=torch.float64).expand_as(x0)
    nats = float(process.marginal(x0[:1, :, 0], 1).entropy().sum()) * beats
    for t in range(2, process.T + 1):
        at = process.marginal(x0, t)
        zero, one = at.log_prob(torch.zeros_like(x0))[..., 0], at.log_prob(torch.ones_like(x0))[..., 0]
        weight = (ways + counts * one + (beats - counts) * zero).sum(1).exp()
        odds = counts * (one[:, :1] - one[:, 1:2]) + (beats - counts) * (zero[:, :1] - zero[:, 1:2])
        others = torch.stack([odds[:, [k for k in range(PERIOD) if k != j]].logsumexp(1) for j in range(PERIOD)], 1)
        active = Bernoulli((odds - others)[..., None].expand_as(x0))
        step = process.posterior(x_t, x0, t - 1, t).kl(process.posterior(x_t, active, t - 1, t))
        nats += float((weight * ((beats - counts) * step[..., 0] + counts * step[..., 1]).sum(1)).sum())
    return -nats / math.log(2)


def short_of_exact(denoiser: DenoiserBase, copies: int) -> tuple[float, float]:
    """How many bits a denoiser's K falls short of the exact reverse's, and half of its 95 % interval.

    The two are measured on the same draws: what differs is ``sum_t E KL(exact step ‖ its step)``, and most of the noise cancels.

    Args:
        copies: of each of the five sequences.
    """
    x0 = _sequences().repeat(copies, 1)
    exact = FiniteDenoiser(denoiser.process, _sequences())
    bounds = [
        variational_bound(d, x0, decoder="forward", noise=NoiseSource(0, range(len(x0)))) for d in (exact, denoiser)
    ]
    return bounds[1].interval(bounds[0].k_bits - bounds[1].k_bits)


def _drawn(setting: Setting) -> int:
    return 1_000 if setting.quick else 10_000


def _sequences() -> torch.Tensor:
    return torch.tensor([[float(i % PERIOD == phase) for i in range(LENGTH)] for phase in range(PERIOD)])


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
