"""Discrete chains as plain matrices in numpy: rows are where a value comes from, columns where it goes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.oracles.curves import SCHEDULES, Curve
from unstir.schedules import FromBetas, Schedule

Matrix = NDArray[np.float64]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Schedule, int, int]:
    """Any short chain, sometimes one that ends at alpha_bar = 0, with two of its whole times s < t."""
    betas = draw(st.lists(st.floats(1e-6, 0.95), min_size=1, max_size=8))
    if draw(st.booleans()):
        betas[-1] = 1.0
    t = draw(st.integers(1, len(betas)))
    return FromBetas(torch.tensor(betas, dtype=torch.float64)), draw(st.integers(0, t - 1)), t


@st.composite
def triples(draw: st.DrawFn) -> tuple[Schedule, float, float, float]:
    """Any schedule and any real s < u < t with a little room between them."""
    schedule, _, _ = draw(pairs())
    schedule = draw(st.sampled_from([schedule, *SCHEDULES.values()]))
    s, u, t = sorted(draw(st.floats(0, 1)) for _ in range(3))
    return schedule, 0.9 * s * schedule.T, (0.9 * u + 0.05) * schedule.T, (0.9 * t + 0.1) * schedule.T


def one_step(beta: float, pi: Matrix) -> Matrix:
    """Kept with probability 1 - beta, else drawn from pi."""
    return (1 - beta) * np.eye(len(pi)) + beta * np.tile(pi, (len(pi), 1))


def walk(schedule: Schedule, pi: Matrix, s: int, t: int) -> Matrix:
    """The product of the chain's own steps s + 1 … t: no alpha_bar."""
    kernel = np.eye(len(pi))
    for beta in schedule.betas[s:t].tolist():
        kernel = kernel @ one_step(beta, pi)
    return kernel


def leap(schedule: Schedule, pi: Matrix, s: float, t: float) -> Matrix:
    """The kernel between two real times, alpha_bar read from the betas."""
    curve = Curve(schedule)
    return one_step(1 - curve(t) / curve(s), pi)


def given_both(before: Matrix, between: Matrix) -> Matrix:
    """``q(x_s | x_t, x0)`` as [x0, x_t, x_s], from q(x_s|x0) and q(x_t|x_s); NaN where x_t cannot come from x0."""
    joint = np.einsum("as,st->ats", before, between)
    with np.errstate(invalid="ignore"):
        return joint / joint.sum(-1, keepdims=True)


def averaged(before: Matrix, between: Matrix, p0: Matrix, x_t: int) -> Matrix:
    """``sum_x0 p(x0) q(x_s | x_t, x0)`` over x_s, one x0 after the other; those that x_t rules out are left out."""
    both, total = given_both(before, between), np.zeros(len(p0))
    allowed = [x0 for x0 in range(len(p0)) if p0[x0] > 0 and not np.isnan(both[x0, x_t]).any()]
    for x0 in allowed:
        total += p0[x0] * both[x0, x_t]
    return total / sum(p0[x0] for x0 in allowed)


def jointly(before: Matrix, between: Matrix, p0: Matrix, x_t: int) -> Matrix:
    """``sum_x0 q(x_s, x_t | x0) p(x0)`` over x_s, renormalised."""
    total = np.zeros(len(p0))
    for x0, p in enumerate(p0):
        total += p * before[x0] * between[:, x_t]
    return total / total.sum()


def known_x0(before: Matrix, between: Matrix, p0: Matrix, x_t: int) -> Matrix:
    """``q(x0 | x_t)`` of data with mass p0."""
    joint = p0 * (before @ between)[:, x_t]
    return joint / joint.sum()


def true_reverse(before: Matrix, between: Matrix, p0: Matrix, x_t: int) -> Matrix:
    """``q(x_s | x_t)`` of data with mass p0: the chain's law at s, conditioned on one step."""
    joint = (p0 @ before) * between[:, x_t]
    return joint / joint.sum()
