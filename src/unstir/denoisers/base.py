"""Denoisers: a network plus what its output means."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from unstir.denoisers import registry
from unstir.denoisers import variance as variances
from unstir.denoisers.condition import Condition
from unstir.denoisers.parameterisation import Parameterisation
from unstir.denoisers.prediction import PredictionBase
from unstir.processes import Process
from unstir.schedules import VariancePreserving
from unstir.shapes import Data, LeadingB, Picked, Raw, Rows, Rows64, RowTimes

_HALF = (torch.bfloat16, torch.float16)


class DenoiserBase(nn.Module):
    """Anything that predicts about x_t: networks, wrappers around them, and exact solutions.

    Attributes:
        consecutive: whether it speaks of the step from t to t - 1 alone, so that a walk may leave out no time.
        whole_times: whether its network knows the times 1, 2, … T and none between them.
    """

    process: Any  # a Process; an exact solution knows which
    consecutive: bool = False
    whole_times: bool = False

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        """What x_t was: a prediction about x0 that knows the reverse step; real numbers come in x_t's dtype.

        Args:
            x_t: (B, *E).
            t: times in (0, T], (B,) or one number for the whole batch.
            condition: with leading dimension B, or None for no condition.
        """
        raise TypeError(f"{type(self).__name__} does not predict")

    def select(self, rows: Picked) -> DenoiserBase:
        """The same denoiser for these rows of its batch alone; rows are numbers, (b,). It differs where something is set for each
        sample, such as a scale."""
        return self


class Around(DenoiserBase):
    """Base of those that are laid around a denoiser and change what it says; its chain and its times are theirs."""

    def __init__(self, denoiser: DenoiserBase) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.consecutive, self.whole_times = denoiser.consecutive, denoiser.whole_times

    by_row: ClassVar[tuple[str, ...]] = ()
    """The attributes that may hold something for each sample: a tensor (B,), a pair of such, or a condition."""

    def select(self, rows: Picked) -> Self:
        part = copy.copy(self)
        # A copied module shares its table of submodules with the original, and would change it there.
        part._modules = {
            name: module.select(rows) if isinstance(module, DenoiserBase) else module
            for name, module in self._modules.items()
        }
        for name in self.by_row:
            setattr(part, name, _rows(getattr(self, name), rows))
        return part


class Denoiser(DenoiserBase):
    """A network read by a parameterisation.

    Args:
        network: ``network(x, time, condition) -> raw``, with x (B, *E) and time (B,).
        process: the forward chain.
        prediction: what raw means: ``eps``, ``x0``, ``v``, ``mean``, ``preconditioned`` for real numbers, ``logits`` for bits and
            symbols, the 2015 paper's ``gated_mean`` and ``reverse``, or a :class:`Parameterisation`; default the process's own.
        variance: of a Gaussian reverse step: ``small``, ``large``, ``learned`` or ``free`` (raw then has twice the channels, the
            second half for the variance), ``analytic`` (found from data by :func:`unstir.denoisers.fit_variance`, before
            anything asks for it), or a callable ``(s, t) -> variance``.

    Raises:
        ValueError: for an eps prediction on a schedule that ends at alpha_bar_T = 0, for a prediction of another kind of
            data than the process's, and for a variance that does not suit the prediction or the schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        prediction: str | dict[str, Any] | Parameterisation | None = None,
        variance: str | Callable[[Tensor, Tensor], Tensor] = "small",
    ) -> None:
        super().__init__()
        if isinstance(variance, str) and variance not in variances.NAMES:
            raise ValueError(f"no variance rule is called {variance!r}; there are {', '.join(variances.NAMES)}")
        if variance in variances.LEARNED and not process.continuous:
            raise ValueError("only a Gaussian reverse step has a variance to learn: leave variance out")
        if variance == "free" and not isinstance(process.schedule, VariancePreserving):
            raise ValueError(
                'the variance "free" lies between 0 and 1, and this schedule\'s steps may not: use "learned"'
            )
        self.network = network
        self.process = process
        self.parameterisation = registry.get(prediction, process)
        self.consecutive = self.parameterisation.consecutive
        self.whole_times = getattr(network, "whole_times", False)
        allowed = self.parameterisation.variances
        if allowed is not None and variance not in allowed:
            raise ValueError(
                f'the prediction "{self.parameterisation.name}" needs variance {" or ".join(allowed)}, not {variance!r}'
            )
        self.variance = variance

    def raw(self, x_t: Data, t: Rows, condition: Condition | None = None) -> tuple[Raw, Raw | None]:
        """The network's own output and, where the variance is learned, its second half; both (B, *E), in x_t's dtype."""
        x_in, time = self.parameterisation.inputs(x_t, t)
        # A network in half precision takes its own dtype, though neither the walk nor the time does. One parameter speaks for all: to
        # look at each would cost more than the rest of this call.
        own = next((p.dtype for p in self.network.parameters()), x_in.dtype)
        raw = self.network(x_in.to(own) if own in _HALF else x_in, time, condition).to(x_in.dtype)
        channels = self.process.features(x_t.shape[1:])[1] * (2 if self.variance in variances.LEARNED else 1)
        expected = (len(x_t), channels, *x_t.shape[2:])
        if tuple(raw.shape) != expected:
            # Else it would broadcast against x_t, or be cut in the wrong place, without a word.
            raise ValueError(
                f"the network answers data of shape {tuple(x_t.shape)} with {tuple(raw.shape)}, where the prediction "
                f'"{self.parameterisation.name}" with variance {self.variance!r} needs {expected}: give it {channels} channels out'
            )
        if self.variance not in variances.LEARNED:
            return raw, None
        raw, spread = raw.chunk(2, dim=1)
        return raw, spread

    def interpret(self, raw: Raw, spread: Raw | None, x_t: Data, t: Rows) -> PredictionBase:
        """What an output of :meth:`raw` says about x_t."""
        rule = variances.rule(self.variance, self.process, x_t, spread)
        return self.parameterisation.read(raw, spread, x_t, t, rule)

    def predict(self, x_t: Data, t: RowTimes, condition: Condition | None = None) -> PredictionBase:
        t = times_for(x_t, t)
        raw, spread = self.raw(x_t, t, condition)
        return self.interpret(raw, spread, x_t, t)


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Condition):
        return value.select(rows)
    if isinstance(value, tuple):
        return tuple(_rows(end, rows) for end in value)
    return value[rows.to(value.device)] if isinstance(value, Tensor) and value.ndim else value


def times_for(x_t: LeadingB, t: RowTimes) -> Rows64:
    """A time as a float64 tensor (B,) on x_t's device."""
    return torch.as_tensor(t, dtype=torch.float64, device=x_t.device).expand(len(x_t))
