"""The order of every deterministic solver, measured: the tests ask this, and as a program it prints the table of docs/sampling.md.

    python -m tests.samplers.orders

The problem is the probability-flow ODE of a Gaussian mixture on an interval that ends above t = 0. In ``x / r`` over the angle
``phi = atan(sigma / alpha)``, with ``r² = alpha² + sigma²``, it is the same for every schedule, so one reference serves all. The order
is the slope of log error against log step over three grids, each with twice the steps of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

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
Forms = tuple[str, ...]
FORMS: Forms = ("eps", "x0", "v")
FIRST, LAST = 1.3, 0.35
"""The interval, in the angle: signal over noise from 0.28 to 2.7."""
STEPS = {1: (8, 16, 32), 2: (10, 20, 40), 3: (20, 40, 80), 4: (24, 48, 96)}
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


def evenly_in_angle(schedule: Schedule, first: float, last: float, n: int) -> Tensor:
    low, high = (float(torch.atan2(schedule.sigma(t), schedule.alpha(t))) for t in (first, last))
    return schedule.time(-2 * torch.linspace(low, high, n + 1, dtype=F64).tan().log())


@dataclass(frozen=True)
class Case:
    """A schedule, how the times of its grids are spread, and the angles that they lie between."""

    schedule: Schedule
    spread: Callable[[Schedule, float, float, int], Tensor]
    first: float = FIRST
    last: float = LAST

    def grid(self, n: int) -> Grid:
        first, last = (float(self.schedule.time(-2 * math.log(math.tan(phi)))) for phi in (self.first, self.last))
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
    """Several predictions as one, each about some of the rows and with another form given."""

    parts: tuple[Prediction, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        if name in FORMS:
            return torch.cat([getattr(part, name) for part in self.parts])
        return super().__getattribute__(name)


class InEveryForm(DenoiserBase):
    """An exact denoiser whose rows are told in several forms: of three, the first third as eps, the next as x0, the last as v."""

    def __init__(self, exact: DenoiserBase, forms: Forms = FORMS) -> None:
        super().__init__()
        self.exact, self.process, self.forms = exact, exact.process, forms

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Told:
        exact = self.exact.predict(x_t, t)
        assert isinstance(exact, Prediction)
        rows = len(x_t) // len(self.forms)
        parts = []
        for i, form in enumerate(self.forms):
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
def truth(first: float = FIRST, last: float = LAST) -> Tensor:
    """``x / r`` at the end of an interval of angles: ``dy/dphi = cos phi eps - sin phi x0``, with numpy's own densities."""

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

    solution = solve_ivp(velocity, (first, last), start().numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-14)
    return torch.tensor(solution.y[:, -1]).reshape(-1, 2)


@torch.no_grad()
def errors(sampler: Sampler, case: Case, steps: Sequence[int], forms: Forms = FORMS) -> dict[str, list[float]]:
    """The root mean square error after so many steps, for each form of prediction; all at once, as rows with times of their own."""
    x, width = start(), max(steps) + 1
    grids = [case.grid(n).times for n in steps]
    last = grids[0][-1]
    rows = [
        torch.cat([times, last.expand(width - len(times))]) for times in grids
    ]  # filled up, and left before they get there
    times = torch.stack(rows).repeat_interleave(len(x), 0).repeat(len(forms), 1)
    ends = torch.tensor(steps).repeat_interleave(len(x)).repeat(len(forms))

    denoiser = InEveryForm(mixture(case.schedule), forms)
    state = sampler.start((case.size(times[0, 0]) * x).repeat(len(steps) * len(forms), 1), times)
    left, found = torch.arange(len(times)), torch.empty_like(state.x)
    while len(left):
        state = sampler.advance(state, denoiser.predict(*sampler.query(state)))
        there = state.position == ends[left]
        if bool(there.any()):
            found[left[there]] = state.x[there]
            state, left = state.select(~there), left[~there]
    off = found.reshape(len(forms), len(steps), *x.shape) / case.size(last) - truth(case.first, case.last)
    return {form: part.square().mean((1, 2)).sqrt().tolist() for form, part in zip(forms, off)}


def slopes(
    sampler: Sampler, case: Case, steps: tuple[int, ...] | None = None, forms: Forms = FORMS
) -> dict[str, float]:
    """The measured order, for each form of prediction."""
    steps = steps or STEPS[sampler.order]
    found = errors(sampler, case, steps, forms)
    return {form: float(np.polyfit(-np.log(steps), np.log(found[form]), 1)[0]) for form in forms}


def calls(sampler: Sampler) -> str:
    """Network calls for n steps down to t = 0, as a formula: they grow evenly once the start is over."""
    ten, eleven = sampler.calls(10), sampler.calls(11)
    assert ten is not None  # an adaptive solver has no order on a grid
    assert eleven is not None
    each, more = eleven - ten, ten - 10 * (eleven - ten)
    return f"{each if each > 1 else ''}n" + (f" {'+' if more > 0 else '-'} {abs(more)}" if more else "")


def table() -> str:
    """Every deterministic solver: declared order, calls, and the measured order in each case, the worst of three predictions."""
    lines = [
        f"| solver | source | order | calls for n steps | {' | '.join(CASES)} | worst |",
        "|---|---|---|---|" + "---|" * (len(CASES) + 1),
    ]
    for name, sampler in DETERMINISTIC.items():
        measured = [min(slopes(sampler, case).values()) for case in CASES.values()]
        cells = [
            f"`{name}`",
            sampler.reference,
            str(sampler.order),
            calls(sampler),
            *(f"{m:.2f}" for m in [*measured, min(measured)]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
