"""The derivation's figures: films there and back, why short steps back are Gaussian, the posterior, and how tight the bound is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unstir import data
from unstir.bound import variational_bound
from unstir.data import Dataset
from unstir.denoisers import GaussianMixtureDenoiser
from unstir.denoisers.analytic import analytic_variance
from unstir.derivation import reverse_cumulants
from unstir.distributions import Normal
from unstir.noise import NoiseSource, TwoPoint
from unstir.processes import Gaussian
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.plots import figure, strips
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.runs.build import rms
from unstir.schedules import FromBetas, InverseTime
from unstir.training import presets

TITLE = "The derivation's figures: a film there and back, the shape of a step back, the posterior, the gap of the bound"

BETAS = (0.5, 0.1, 0.01)
SHORT = (4e-4, 2e-4, 1e-4)
"""Short enough for the law of short steps; the slope is taken here."""
LENGTHS = (10, 100, 1000)
BETWEEN = (5, 30, 300)
"""More lengths, for the figure alone."""
RULES = ("small", "large", "exact")
VARIANCE = 0.27
"""Of the Gaussian data of the gaps: the mean square of photographs on the scaled axis."""
X_T = 0.1
"""Where the step back begins: near the valley between the two lumps, where it is hardest."""

_BLUE, _RED, _GREEN, _GREY = "#2b5d8a", "#c8553d", "#4b8b3b", "#8a8a8a"
_COLUMNS = 11  # of the film
_F64 = torch.float64


# --- the film ---------------------------------------------------------------------------------------------------------


def variants(setting: Setting) -> list[Variant]:
    """The small model of the demo, for about a minute of one core."""
    digits = dataset(setting)
    tree = asdict(presets.get("tiny", digits.spec, rms(digits.train)))
    del tree["data"], tree["seed"], tree["hardware"]
    tree["label_dropout"] = 1.0  # as in the derivation, nothing is said of which digit it is
    tree["budget"] = {"images": 8_000 if setting.quick else 32_000}
    # The chain as the papers walk it: every one of its steps.
    return [Variant("digits", tree, {"steps": 200 if setting.quick else 1000, "heldout": 40 if setting.quick else 180})]


@cache
def _digits() -> Dataset:
    return data.load("digits")


def dataset(setting: Setting) -> Dataset:
    return _digits()


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    """The film's model is no better than its bound: bits/dim of held-out digits."""
    chosen = dataset.heldout.spread(variant.facts["heldout"])
    bound = model.bound(dataset.heldout.x[chosen], terms=20)
    return {"bits_per_dim": float(bound.bits_per_dim.mean())}


def film(model: Model, pictures: np.ndarray, steps: int) -> tuple[list[int], dict[str, np.ndarray]]:
    """The chain there and back at the same eleven times.

    Args:
        pictures: uint8 (N, H, W, 1), for the way there; as many are drawn on the way back.

    Returns:
        the times, and by name the levels (N, columns, H, W): ``q`` and ``p`` of x_t on the way there and back, ``x0`` as
        predicted on the way back. Nothing is left to predict at t = 0, where ``x0`` is NaN.
    """
    process, n = model.denoiser.process, len(pictures)
    noise = NoiseSource(0, range(n))
    times = [round(process.T * c / (_COLUMNS - 1)) for c in range(_COLUMNS)]
    x = model.inside(pictures)
    there = [pictures]
    for s, t in pairwise(times):
        x = process.step(x, s, t).draw(noise, "film", t)
        there.append(model.outside(x))
    # What the walk begins with: the same draw of the same seed.
    start = process.prior((n, *model.spec.shape)).draw(noise, "prior")
    walk = list(model.film(n, steps=steps, sampler="ancestral"))
    reached = np.array([float(process.T), *(t for t, _, _ in walk)])
    states = [model.outside(start), *(x for _, x, _ in walk)]
    guesses = [*(x0 for _, _, x0 in walk), np.full(states[0].shape, np.nan)]
    nearest = [int(abs(reached - t).argmin()) for t in times]
    films = {"q": there, "p": [states[k] for k in nearest], "x0": [guesses[k] for k in nearest]}
    return times, {name: np.stack(frames, 1)[..., 0] for name, frames in films.items()}


def _draw_film(path: Path, model: Model, pictures: np.ndarray, steps: int) -> None:
    times, shown = film(model, pictures, steps)
    blank = np.full_like(shown["x0"][:1], np.nan)
    back = [shown[name][i : i + 1] for i in range(len(pictures)) for name in ("p", "x0")]
    frames = np.concatenate([shown["q"], blank, *back]) / 255
    names = ["$x_t$"] * len(pictures) + [""] + ["$x_t$", r"$\hat x_\theta(x_t, t)$"] * len(pictures)
    with figure(path, size=(8.6, 5.8)) as axes:
        axis = axes[0, 0]
        strips(axis, frames, names, [f"{t}" for t in times])
        axis.set_title(r"$q(x_t \mid x_{t-1})\;\longrightarrow$")
        side = frames.shape[-1] + 1
        middle = (len(times) * side / 2 - 1, (len(pictures) + 0.5) * side - 1)
        axis.text(*middle, r"$\longleftarrow\; p_\theta(x_{t-1} \mid x_t)$", ha="center", va="center", fontsize=12)
        axis.set_xlabel("$t$")


# --- the shape of a step back -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepBack:
    """The true ``q(x_s | x_t)`` on a grid, and the Gaussian of its mean and variance.

    Args:
        x: (N,), x_s. log_density, gaussian: log densities there, nats. before: log q(x_s) there. nats: KL of the truth to it.
    """

    x: Tensor
    log_density: Tensor
    gaussian: Tensor
    before: Tensor
    nats: float


def step_back(beta: float, x_t: float = X_T) -> StepBack:
    """``q(x_s | x_t) = q(x_s) q(x_t | x_s) / q(x_t)`` for data in two lumps and a last step of the given beta."""
    process = Gaussian(FromBetas(torch.tensor([0.02, beta], dtype=_F64)))
    lumps = torch.tensor([[-1.0], [1.0]], dtype=_F64)
    exact = GaussianMixtureDenoiser(process, torch.tensor([0.4, 0.6]), lumps, torch.full((2, 1, 1), 0.1, dtype=_F64))
    s, t, at = 1, 2, torch.tensor([[x_t]], dtype=_F64)
    mean, variance = reverse_cumulants(process, at, _slopes(exact, at, t), s, t)[:2]
    normal = Normal(mean, variance)
    x = (mean + variance.sqrt() * torch.linspace(-14, 14, 5601, dtype=_F64)[:, None]).reshape(-1, 1)
    before = exact.log_prob(x, s)
    log_density = before + process.step(x, s, t).log_prob(at.expand_as(x)).squeeze(1) - exact.log_prob(at, t)
    gaussian = normal.log_prob(x).squeeze(1)
    nats = torch.trapezoid(log_density.exp() * (log_density - gaussian), x[:, 0])
    return StepBack(x[:, 0], log_density, gaussian, before, float(nats))


def _slopes(exact: GaussianMixtureDenoiser, at: Tensor, t: int) -> list[Tensor]:
    """The first and second derivative of log q(x_t)."""
    x = at.clone().requires_grad_()
    (first,) = torch.autograd.grad(exact.log_prob(x, t).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return [first.detach(), second]


def _draw_steps_back(path: Path, steps: dict[float, StepBack]) -> None:
    shorter = {beta: step_back(beta).nats for beta in np.geomspace(BETAS[0], SHORT[-1], 17)}
    with figure(path, 1, len(steps) + 1, size=(3.0, 2.9)) as axes:
        for axis, (beta, step) in zip(axes[0], steps.items()):
            near = abs(step.gaussian - step.gaussian.max()) < 3.6**2 / 2
            x = step.x[near]
            axis.fill_between(x, step.log_density[near].exp(), color=_BLUE, alpha=0.25, linewidth=0)
            axis.plot(x, step.log_density[near].exp(), color=_BLUE, label=r"$q(x_{t-1} \mid x_t)$")
            axis.plot(
                x, step.gaussian[near].exp(), color=_RED, linestyle="--", label=r"$\mathcal{N}(\kappa_1, \kappa_2)$"
            )
            axis.plot(x, step.before[near].exp(), color=_GREY, linewidth=1, label=r"$q(x_{t-1})$")
            axis.set(title=rf"$\beta_t = {beta}$", xlabel="$x_{t-1}$", yticks=[])
            axis.set_ylim(0, 1.12 * float(step.log_density.max().exp()))
        axes[0, 0].set_ylim(0, 1.75 * float(next(iter(steps.values())).log_density.max().exp()))
        axes[0, 0].legend(fontsize=8, frameon=False, loc="upper left")
        axis = axes[0, -1]
        axis.loglog(list(shorter), list(shorter.values()), color=_BLUE)
        axis.loglog(list(steps), [step.nats for step in steps.values()], "o", color=_BLUE)
        least = min(shorter)
        law = [shorter[least] * (beta / least) ** 3 for beta in shorter]
        axis.loglog(list(shorter), law, color=_GREY, linestyle=":", label=r"$\propto \beta_t^3$")
        axis.set(title=r"$D_{\mathrm{KL}}(q\,\|\,\mathcal{N})$", xlabel=r"$\beta_t$", ylim=(min(law) / 3, 3))
        axis.legend(fontsize=9, frameon=False)


# --- the posterior ----------------------------------------------------------------------------------------------------


def opinions(s: int, t: int = 16, T: int = 20, x_t: float = -0.3, x0: float = 1.0) -> tuple[Normal, Normal, Normal]:
    """What x_t says of x_s, what x0 says of it, and ``q(x_s | x_t, x0)`` by the process's own formula."""
    process = Gaussian(InverseTime(T))
    at, clean, one = (torch.tensor([[value]], dtype=_F64) for value in (x_t, x0, 1.0))
    kernel = process.step(one, s, t)
    a = kernel.mean
    return Normal(at / a, kernel.variance / a**2), process.marginal(clean, s), process.posterior(at, clean, s, t)


def _draw_posterior(path: Path) -> None:
    t, T = 16, 20
    with figure(path, 1, 3, size=(3.5, 2.9)) as axes:
        for axis, s in zip(axes[0], (15, 8, 1)):
            from_t, from_0, posterior = opinions(s, t, T)
            x = torch.linspace(-2.6, 2.6, 521, dtype=_F64)
            shown = [d.log_prob(x[:, None]).exp().squeeze(1) for d in (from_t, from_0, from_t.times(from_0), posterior)]
            axis.fill_between(x, shown[2], color=_GREEN, alpha=0.25, linewidth=0)
            axis.plot(x, shown[0], color=_BLUE, label=r"$\mathcal{N}(x_t/a,\ \sigma_{t|s}^2/a^2)$")
            axis.plot(x, shown[1], color=_RED, label=r"$\mathcal{N}(\alpha_s x_0,\ \sigma_s^2)$")
            axis.plot(x, shown[2], color=_GREEN, linewidth=2.5, alpha=0.6, label=r"$\mathcal{N}\cdot\mathcal{N}\,/\,Z$")
            axis.plot(x, shown[3], color="black", linewidth=1, linestyle="--", label=r"$q(x_s \mid x_t, x_0)$")
            axis.set(title=f"$s = {s},\\ t = {t},\\ T = {T}$", xlabel="$x_s$", yticks=[])
            axis.set_ylim(0, 1.1 * float(max(curve.max() for curve in shown)))
        top = axes[0, 0]
        top.set_ylim(0, 1.7 * top.get_ylim()[1])
        top.legend(fontsize=8, frameon=False, loc="upper left")


# --- the gap of the bound ---------------------------------------------------------------------------------------------


def gap(T: int, rule: str, variance: float = VARIANCE) -> float:
    """``E L - H(x0)``, nats a number: how far the bound of the exact denoiser of N(0, variance) lies above the truth.

    No draw is random: x0 stands at ± its deviation and the noise at ±1, in all pairs, and every term is a quadratic in both.

    Args:
        T: steps of the chain beta_t = 1/(T - t + 1), which has nothing left of x0 at T.
        rule: of the reverse variance: ``small``, ``large``, or ``exact``, which is Var[x_{t-1} | x_t].
    """
    process = Gaussian(InverseTime(T))
    law = [torch.tensor(value, dtype=_F64) for value in ([1.0], [[0.0]], [[[variance]]])]
    x0 = math.sqrt(variance) * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]], dtype=_F64)
    noise = TwoPoint(torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=_F64))
    exact = GaussianMixtureDenoiser(process, *law, variance="large" if rule == "exact" else rule)
    if rule == "exact":
        exact.variance = analytic_variance(exact, x0, times=range(1, T + 1), noise=noise)
    # Neither small nor large means anything at t = 1, where small is 0: there the decoder has the variance of x_1.
    decoder_variance = "reverse" if rule == "exact" else "beta_1"
    bound = variational_bound(exact, x0, decoder="normal", decoder_variance=decoder_variance, noise=noise)
    entropy = Normal(torch.zeros(1, dtype=_F64), torch.tensor([variance], dtype=_F64)).entropy()
    return float(bound.total.mean() - entropy)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _draw_gaps(path: Path, gaps: dict[str, dict[int, float]]) -> None:
    lengths = sorted(gaps["large"])
    with figure(path, size=(5.2, 3.7)) as axes:
        axis = axes[0, 0]
        for rule, colour, label in (
            ("small", _RED, r"$\tilde\beta_t$ (small)"),
            ("large", _BLUE, r"$\beta_t$ (large)"),
        ):
            axis.loglog(lengths, [gaps[rule][T] for T in lengths], "o-", color=colour, label=label)
        half_gamma = np.euler_gamma / 2
        axis.axhline(half_gamma, color=_GREY, linestyle=":", linewidth=1)
        axis.text(lengths[0], 1.1 * half_gamma, r"$\gamma/2$", color=_GREY, va="bottom")
        law = [gaps["large"][lengths[-1]] * lengths[-1] / T for T in lengths]
        axis.loglog(lengths, law, color=_GREY, linestyle=":", linewidth=1)
        axis.text(lengths[len(lengths) // 2], 0.55 * law[len(lengths) // 2], "$1/T$", color=_GREY, ha="right", va="top")
        low = min(gaps["large"].values()) / 8
        worst = max(abs(value) for value in gaps["exact"].values())
        power = math.ceil(math.log10(max(worst, 1e-16)))
        label = rf"$\mathrm{{Var}}[x_{{t-1}} \mid x_t]$: $< 10^{{{power}}}$"
        axis.plot(lengths, [low] * len(lengths), "v", color=_GREEN, clip_on=False, label=label)
        axis.set_ylim(low, 2)
        axis.set(xlabel="$T$", title=r"$\mathbb{E}\,L(x_0) - H_q(x_0)$  [nat]")
        axis.legend(fontsize=9, frameon=False, loc="center right")


# --- all of it --------------------------------------------------------------------------------------------------------


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    (variant,) = variants(setting)
    paths = {name: folder / f"derivation-{name}.png" for name in ("film", "reverse-shape", "posterior", "gap")}
    heldout = dataset(setting).heldout
    # The first held-out 0 and the first 3: far from each other.
    chosen = [int((heldout.labels == digit).argmax()) for digit in (0, 3)]
    _draw_film(paths["film"], trained(folder, variant), heldout.x[chosen], variant.facts["steps"])
    steps = {beta: step_back(beta) for beta in BETAS}
    _draw_steps_back(paths["reverse-shape"], steps)
    _draw_posterior(paths["posterior"])
    gaps = {rule: {T: gap(T, rule) for T in (*LENGTHS, *BETWEEN)} for rule in RULES}
    _draw_gaps(paths["gap"], gaps)

    nats = {f"beta {beta}": Figure(step.nats) for beta, step in steps.items()}
    rows = [
        Row(
            "KL of a true step back to its Gaussian",
            nats | {"slope": Figure(_slope(SHORT, [step_back(beta).nats for beta in SHORT]))},
        )
    ]
    for rule in RULES:
        values = {f"T {T}": Figure(abs(gaps[rule][T])) for T in LENGTHS}
        if rule != "exact":  # rounding has no slope
            values["slope"] = Figure(_slope(LENGTHS[1:], [gaps[rule][T] for T in LENGTHS[1:]]))
        rows.append(Row(f"gap of the bound, {rule} variance", values))
    rows.append(Row("the film's model", {"bits/dim": Figure.over([m["bits_per_dim"] for m in measured[variant.name]])}))
    columns = (*(f"beta {beta}" for beta in BETAS), *(f"T {T}" for T in LENGTHS), "slope", "bits/dim")
    notes = [
        "Nats a number, unless bits/dim. Slopes are those of logarithms: of the KL against betas from "
        f"{SHORT[0]:g} to {SHORT[-1]:g}, of the gap against T from {LENGTHS[1]} on.",
        f"The laws: beta^3 for the KL; 1/T for large; half of Euler's constant, {np.euler_gamma / 2:.4f}, for small; 0 for exact.",
    ]
    return Table(
        "derivation", TITLE, columns, rows, notes, [str(p) for p in paths.values()], seeds=setting.seeds, digits=6
    )
