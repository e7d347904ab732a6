"""Denoisers: a network plus what its output means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from unstir.denoisers import parameterisation
from unstir.denoisers import variance as variances
from unstir.denoisers.condition import Condition
from unstir.denoisers.parameterisation import Parameterisation
from unstir.denoisers.prediction import Prediction
from unstir.processes import Gaussian
from unstir.schedules import Time


class DenoiserBase(nn.Module):
    """Anything that predicts about x_t: networks, wrappers around them, and exact solutions."""

    process: Gaussian

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        """What x_t was: a :class:`Prediction` about (x0, eps, v), in x_t's dtype.

        Args:
            x_t: (B, *E).
            t: times in (0, T], (B,) or one number for the whole batch.
            condition: with leading dimension B, or None for no condition.
        """
        raise TypeError(f"{type(self).__name__} does not predict")


class Denoiser(DenoiserBase):
    """A network read by a parameterisation.

    Args:
        network: ``network(x, time, condition) -> raw``, with x (B, *E) and time (B,).
        process: the forward chain.
        prediction: what raw means: ``eps``, ``x0``, ``v``, ``preconditioned``, or a :class:`Parameterisation`.
        variance: ``small``, ``large``, ``learned`` (raw then has twice the channels, the second half in -1 … 1), or a
            callable ``(s, t) -> variance``.

    Raises:
        ValueError: for an eps prediction on a schedule that ends at alpha_bar_T = 0.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Gaussian,
        prediction: str | dict[str, Any] | Parameterisation = "eps",
        variance: str | Callable[[Tensor, Tensor], Tensor] = "small",
    ) -> None:
        super().__init__()
        if isinstance(variance, str) and variance not in variances.NAMES:
            raise ValueError(f"no variance rule is called {variance!r}; there are {', '.join(variances.NAMES)}")
        self.network = network
        self.process = process
        self.parameterisation = parameterisation.get(prediction, process.schedule)
        self.variance = variance

    def raw(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> tuple[Tensor, Tensor | None]:
        """The network's own output and, where the variance is learned, its second half; both (B, *E), in x_t's dtype."""
        x_in, time = self.parameterisation.inputs(x_t, t)
        raw = self.network(x_in, time, condition).to(x_t.dtype)
        if self.variance != "learned":
            return raw, None
        raw, spread = raw.chunk(2, dim=1)
        return raw, spread

    def interpret(self, raw: Tensor, spread: Tensor | None, x_t: Tensor, t: Tensor) -> Prediction:
        """What an output of :meth:`raw` says about x_t."""
        rule = variances.rule(self.variance, self.process, x_t, spread)
        return Prediction(self.process, x_t, t, rule, **self.parameterisation.given(raw, x_t, t))

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        t = times_for(x_t, t)
        raw, spread = self.raw(x_t, t, condition)
        return self.interpret(raw, spread, x_t, t)


class Clipped(DenoiserBase):
    """Clips the predicted x0 to the data's range; eps and v are derived again from the clipped x0 and x_t.

    Without that second part the pair (x0, eps) no longer makes x_t, and deterministic samplers drift.
    """

    def __init__(self, denoiser: DenoiserBase, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.low, self.high = low, high

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        prediction = self.denoiser.predict(x_t, t, condition)
        return prediction.with_x0(prediction.x0.clamp(self.low, self.high))


def times_for(x_t: Tensor, t: Time) -> Tensor:
    """A time as a float64 tensor (B,) on x_t's device."""
    return torch.as_tensor(t, dtype=torch.float64, device=x_t.device).expand(len(x_t))
