"""What every forward chain answers, whatever its data: Gaussian, binomial or categorical."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from unstir.distributions import Distribution
from unstir.noise import NoiseSource
from unstir.schedules import Schedule, Time
from unstir.shapes import Anything, Column64, Data, Reals, RowSteps, RowTimes


class Process(ABC):
    """The forward chain q by its kernels between any two times ``0 <= s < t <= T``.

    Times are int, float or a tensor (B,); x has shape (B, *E). Coefficients are combined in float64 and cast where they meet
    x. What differs between kinds of data is said here, so that the bound, the objectives and the samplers need not ask.

    Attributes:
        continuous: whether x holds real numbers, which a solver can move along, and a decoder's log p is a density.
        decoder: how the bound reads the last step, p(x0 | x_1), unless told otherwise.
        prediction: what a network says about x_t unless told otherwise.
        sampler: the sampler that walks this chain backwards unless told otherwise.
    """

    continuous: bool = False
    decoder: str
    prediction: str
    sampler: str

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.T = schedule.T

    @abstractmethod
    def step(self, x_s: Data, s: RowTimes, t: RowTimes) -> Distribution:
        """``q(x_t | x_s)``."""

    @abstractmethod
    def marginal(self, x0: Data, t: RowTimes) -> Distribution:
        """``q(x_t | x0)``."""

    @abstractmethod
    def posterior(self, x_t: Data, x0: Any, s: RowTimes, t: RowTimes) -> Distribution:
        """``q(x_s | x_t, x0)``; averaged over x0 where x0, else a tensor (B, *E), is itself a distribution of the data's kind."""

    @abstractmethod
    def prior(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Distribution:
        """``p(x_T)`` for a batch of the given shape (B, *E); dtype is that of the floating-point numbers involved."""

    def noise(
        self,
        source: NoiseSource,
        shape: Sequence[int],
        purpose: str,
        step: RowSteps = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Reals:
        """The noise that ``marginal(...).sample`` turns into x_t, (B, *shape), keyed as in the source.

        Of values that jump it is uniform, in float64 whatever the dtype: rounded, some would be 1.
        """
        return source.uniform(shape, purpose, step)

    @abstractmethod
    def step_entropy(self, x0: Data, s: RowTimes, t: RowTimes) -> Reals:
        """``H(x_t | x_s, x0)``: the entropy of the step, averaged over ``q(x_s | x0)`` exactly, nats (B, *E)."""

    def features(self, shape: Sequence[int]) -> tuple[int, int]:
        """A network's channels, in and out, for an event of the given shape (C, …): C and C, unless states are shown as channels."""
        return shape[0], shape[0]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What :func:`unstir.processes.from_description` needs, beside the schedule, to make this process again."""

    def column(self, t: Time, like: Anything) -> Column64:
        """A time of this chain as :func:`column` gives it.

        Raises:
            ValueError: for a time outside 0 … T. Those on a device are not looked at, which would wait for it.
        """
        t = column(t, like)
        if t.device.type == "cpu" and not bool(
            ((t >= 0) & (t <= self.T)).all()
        ):  # asked this way round, NaN is refused too
            raise self._outside(t)
        return t

    def columns(self, s: Time, t: Time, like: Anything) -> tuple[Column64, Column64]:
        """Two times of this chain, s before t.

        Raises:
            ValueError: for times outside 0 … T, or in the other order; as for :meth:`column` on the CPU alone.
        """
        s, t = column(s, like), column(t, like)
        if t.device.type == "cpu" and not bool(((s >= 0) & (s <= t) & (t <= self.T)).all()):
            for time in (s, t):
                if not bool(((time >= 0) & (time <= self.T)).all()):
                    raise self._outside(time)
            raise ValueError(
                f"a step leads from s to a later t, and here s = {float(s.max()):g} lies after t = {float(t.min()):g}"
            )
        return s, t

    def _outside(self, t: Column64) -> ValueError:
        strange = float(t[~((t >= 0) & (t <= self.T))][0])
        return ValueError(f"time {strange!r} lies outside 0 … {self.T}, this chain's times")


def column(t: Time, like: Anything) -> Column64:
    """A time as float64 of shape (B, 1, …, 1) or (1, …, 1), on the device of the tensor it will meet."""
    t = torch.as_tensor(t, dtype=torch.float64, device=like.device)
    return t.reshape(-1, *(1,) * (like.ndim - 1))
