"""The sampler's protocol: it says what to look at, and absorbs what was said about it.

A sampler never sees a network. Its state is a set of tensors with leading B, every row at its own place in its own list of
times, so rows can be sliced, concatenated, and answered by one network call although they stand at different times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from unstir.denoisers import PredictionBase
from unstir.noise import NoiseSource
from unstir.shapes import (
    Column,
    Data,
    LeadingB,
    Picked,
    Reals,
    RowLabels,
    RowMask,
    Rows64,
    RowTable,
    RowTable64,
    Vector,
)


@dataclass(frozen=True)
class State:
    """Where each row of a batch stands.

    Args:
        x: the point to be looked at next, (B, *E).
        times: each row's falling times, float64 (B, n + 1).
        position: how many steps each row has finished, long (B,).
        history: what a solver keeps between calls, by name, each with leading B.
    """

    x: Data
    times: RowTable64
    position: RowLabels
    history: dict[str, LeadingB] = field(default_factory=dict)

    @property
    def done(self) -> RowMask:
        """True for rows that have reached their last time, bool (B,)."""
        return self.position >= self.times.shape[1] - 1

    def time(self, ahead: int | RowLabels = 0) -> Rows64:
        """The time each row stands at, or so many places further on (or back), within its list, float64 (B,)."""
        place = (self.position + ahead).clamp(0, self.times.shape[1] - 1)
        return self.times.gather(1, place[:, None]).squeeze(1)

    def select(self, rows: Picked) -> State:
        """Some rows: an index or a mask over B."""
        history = {name: value[rows] for name, value in self.history.items()}
        return State(self.x[rows], self.times[rows], self.position[rows], history)

    @staticmethod
    def concatenate(states: Sequence[State]) -> State:
        """Several states of one solver, with equally long lists of times, as one."""
        history = {name: torch.cat([s.history[name] for s in states]) for name in states[0].history}
        x, times, position = (torch.cat([getattr(s, name) for s in states]) for name in ("x", "times", "position"))
        return State(x, times, position, history)


class Sampler:
    """A solver: ``start`` a state, then ``query`` and ``advance`` in turn until it is done.

    Attributes:
        order: its order of accuracy as a solver of the probability-flow ODE (of a stochastic one its weak order).
        stochastic: whether it draws noise on the way.
        continuous: whether it moves along x itself, which bits and symbols do not let it.
        symbols: whether it jumps between symbols, and so knows no other data.
        between: whether it asks about real times between those of its grid, which not every network knows.
        reference: where it comes from, in a few words.
    """

    order: int = 1
    stochastic: bool = False
    continuous: bool = True
    symbols: bool = False
    between: bool = False
    reference: str = ""

    def calls(self, steps: int) -> int | None:
        """How many network calls a walk of so many steps down to t = 0 takes; None where only the walk itself shows it."""
        return steps

    def start(self, x: Data, times: Vector | RowTable) -> State:
        """The state at the first time.

        Args:
            x: a draw from the prior at the first time, (B, *E).
            times: falling times, (n + 1,) for all rows or (B, n + 1).
        """
        times = times.to(device=x.device, dtype=torch.float64).expand(len(x), -1)
        return State(x, times, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def query(self, state: State) -> tuple[Data, Rows64]:
        """What to predict about next: x (B, *E) and t (B,). Only meant for rows that are not done."""
        return state.x, state.time()

    def advance(self, state: State, prediction: PredictionBase, noise: NoiseSource | None = None) -> State:
        """The state one network call later.

        Args:
            prediction: about what :meth:`query` gave.
            noise: a source whose indices are the rows' sample indices; None for deterministic solvers.
        """
        return replace(state, x=self.move(state, prediction, noise), position=state.position + 1)

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> Data:
        """x at the next time, for solvers that take one call a step."""
        raise TypeError(f"{type(self).__name__} does not say how it moves")


def source(noise: NoiseSource | None) -> NoiseSource:
    """The source that a stochastic sampler must have been given."""
    if noise is None:
        raise ValueError("this sampler is stochastic: it needs a NoiseSource")
    return noise


def draw(noise: NoiseSource | None, state: State) -> Reals:
    """Normal noise of the step each row stands at."""
    return source(noise).normal(state.x.shape[1:], "step", state.position, dtype=state.x.dtype)


def per_row(values: Rows64 | RowMask, like: Data) -> Column:
    """Float64 (B,) as (B, 1, …, 1) in the dtype of the tensor that it meets."""
    return values.reshape(-1, *(1,) * (like.ndim - 1)).to(like.dtype)
