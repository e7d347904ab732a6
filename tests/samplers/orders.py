"""The order of every deterministic solver, measured: the tests ask this, and run as a program it prints the table of docs/sampling.md.

    python -m tests.samplers.orders

The problem is the probability-flow ODE of a Gaussian mixture on an interval that ends above t = 0. In ``x / r`` over the angle
``atan(sigma / alpha)``, ``r² = alpha² + sigma²``, it is the same for every schedule, so one reference solution serves all. The order is the
slope of log error against log step over three grids, each of half the steps of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from tests.samplers.solvers import DETERMINISTIC
from unstir.denoisers import Condition, DenoiserBase, GaussianMixtureDenoiser, Prediction
from unstir.processes import Gaussian
from unstir.samplers import Grid, Sampler
from unstir.schedules import Cosine, EDMSigma, LinearBeta, Schedule, Time

F64 = torch.float64
FORMS = ("eps", "x0", "v")
FIRST, LAST = 1.3, 0.35
"""The interval, in the angle: signal over noise from 0.28 to 2.7."""
STEPS = {1: (12, 24, 48), 2: (16, 32, 64), 3: (24, 48, 96), 4: (32, 64, 128)}
"""By declared order: enough for the slope to settle, and few enough for float64 to hold the error."""
TOLERANCE = 0.3

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([[-1.0, 0.5], [1.0, -0.2], [0.0, 1.0]])
COVARIANCES = np.array([[[0.4, 0.1], [0.1, 0.3]], [[0.3, 0.0], [0.0, 0.5]], [[0.35, -0.2], [-0.2, 0.4]]])


def evenly_in_t(schedule: Schedule, first: float, last: float, n: int) -> Tensor:
    return torch.linspace(first, last, n + 1, dtype=F64)


def evenly_in_log_snr(schedule: Schedule, first: float, last: float, n: int) -> Tensor:
    low, high = float(schedule.log_snr(first)), float(schedule.log_snr(last))
    return schedule.time(torch.linspace(low, high, n + 1, dtype=F64))


@dataclass(frozen=True)
class Case:
    """A schedule, and how the times of its grids are spread."""

    schedule: Schedule
    spread: Callable[[Schedule, float, float, int], Tensor]

    def grid(self, n: int) -> Grid:
        first, last = (float(self.schedule.time(-2 * math.log(math.tan(phi)))) for phi in (FIRST, LAST))
        return Grid(self.spread(self.schedule, first, last, n))

    def size(self, t: Tensor) -> float:
        """``r`` at a time."""
        return float(torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t)))


CASES = {
    "linear, even in t": Case(LinearBeta(), evenly_in_t),
    "cosine, even in log-SNR": Case(Cosine(), evenly_in_log_snr),
    "EDM sigmas, rho 7": Case(EDMSigma(), evenly_in_t),
}


@dataclass(frozen=True)
class Told(Prediction):
    """Three predictions at once, of a third of the rows each, every one with another form given."""

    parts: tuple[Prediction, ...] = ()

    @property
    def x0(self) -> Tensor:
        return torch.cat([part.x0 for part in self.parts])

    @property
    def eps(self) -> Tensor:
        return torch.cat([part.eps for part in self.parts])

    @property
    def v(self) -> Tensor:
        return torch.cat([part.v for part in self.parts])


class InEveryForm(DenoiserBase):
    """An exact denoiser whose first third of rows is told as eps, the next as x0, the last as v."""

    def __init__(self, exact: DenoiserBase) -> None:
        super().__init__()
        self.exact, self.process = exact, exact.process

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Told:
        exact = self.exact.predict(x_t, t)
        assert isinstance(exact, Prediction)
        rows = len(x_t) // len(FORMS)
        parts = []
        for i, form in enumerate(FORMS):
            mine = slice(i * rows, (i + 1) * rows)
            said = {f"given_{form}": getattr(exact, form)[mine]}
            parts.append(Prediction(exact.process, x_t[mine], exact.t[mine], exact.variance, **said))
        return Told(exact.process, x_t, exact.t, exact.variance, parts=tuple(parts))


def mixture(schedule: Schedule) -> GaussianMixtureDenoiser:
    weights, means, covariances = (torch.from_numpy(part) for part in (WEIGHTS, MEANS, COVARIANCES))
    return GaussianMixtureDenoiser(Gaussian(schedule), weights, means, covariances)


def start() -> Tensor:
    """``x / r`` at the beginning."""
    return 0.9 * torch.randn(8, 2, dtype=F64, generator=torch.Generator().manual_seed(0))


@cache
def truth() -> Tensor:
    """``x / r`` at the end: ``dy/dphi = cos phi eps - sin phi x0`` by an eighth-order method, from numpy's own densities."""

    def velocity(phi: float, flat: np.ndarray) -> np.ndarray:
        alpha, sigma = np.cos(phi), np.sin(phi)
        points, x0, total = flat.reshape(-1, 2), 0.0, 0.0
        for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES):
            spread = alpha**2 * c + sigma**2 * np.eye(2)
            away = points - alpha * m
            solved = np.linalg.solve(spread, away.T).T
            density = w * np.exp(-0.5 * (away * solved).sum(1, keepdims=True)) / np.sqrt(np.linalg.det(spread))
            x0 = x0 + density * (m + alpha * solved @ c)
            total = total + density
        x0 = x0 / total
        return (alpha * (points - alpha * x0) / sigma - sigma * x0).ravel()

    solution = solve_ivp(velocity, (FIRST, LAST), start().numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-14)
    return torch.tensor(solution.y[:, -1]).reshape(-1, 2)


def errors(sampler: Sampler, case: Case, n: int) -> dict[str, float]:
    """The largest error after n steps, for each form of prediction."""
    grid = case.grid(n)
    x = (case.size(grid.times[0]) * start()).repeat(len(FORMS), 1)
    denoiser, state = InEveryForm(mixture(case.schedule)), sampler.start(x, grid.times)
    while not bool(state.done.all()):
        state = sampler.advance(state, denoiser.predict(*sampler.query(state)))
    off = state.x / case.size(grid.times[-1]) - truth().repeat(len(FORMS), 1)
    return {form: float(part.abs().max()) for form, part in zip(FORMS, off.chunk(len(FORMS)))}


@torch.no_grad()
def slopes(sampler: Sampler, case: Case) -> dict[str, float]:
    """The measured order, for each form of prediction."""
    steps = STEPS[sampler.order]
    found = [errors(sampler, case, n) for n in steps]
    return {form: float(np.polyfit(-np.log(steps), np.log([e[form] for e in found]), 1)[0]) for form in FORMS}


def calls(sampler: Sampler) -> str:
    """Network calls for n steps down to t = 0, as a formula: they grow evenly once the start is over."""
    each = sampler.calls(11) - sampler.calls(10)
    more = sampler.calls(10) - 10 * each
    return f"{each if each > 1 else ''}n" + (f" {'+' if more > 0 else '-'} {abs(more)}" if more else "")


def table() -> str:
    """Every deterministic solver: declared order, calls, and the measured one in each case, the worst of its three predictions."""
    lines = [
        f"| solver | source | order | calls for n steps | {' | '.join(CASES)} |",
        "|---|---|---|---|" + "---|" * len(CASES),
    ]
    for name, sampler in DETERMINISTIC.items():
        measured = [min(slopes(sampler, case).values()) for case in CASES.values()]
        cells = [f"`{name}`", sampler.reference, str(sampler.order), calls(sampler), *(f"{m:.2f}" for m in measured)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
