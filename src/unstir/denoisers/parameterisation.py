"""Parameterisations: what goes into a network, and what its output means.

A parameterisation owns the whole translation between the walk (x_t, t) and the network (input, time, raw output). The
loss needs it in the other direction: which raw output would have been right, and how much x0 errs for a unit of raw error.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstir.schedules import Schedule


class Parameterisation:
    """The network of the DDPM family: it sees x_t as it is, and the time ``t - 1`` that those papers count from."""

    name: str

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def inputs(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The network's input (B, *E) and its time (B,), float32 (float64 when x_t is)."""
        return x_t, (t - 1).to(_time_dtype(x_t))

    def given(self, raw: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        """What the raw output says, as one of ``given_x0, given_eps, given_v`` of a Prediction."""
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The raw output that would make the prediction x0, given the noise eps that x_t was made with."""
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def x0_error(self, t: Tensor) -> Tensor:
        """How far x0 moves for a unit of raw output: float64, (B,)."""
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def describe(self) -> str | dict[str, Any]:
        """What :func:`get` needs to make it again."""
        return self.name

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(torch.float64).reshape(-1, *(1,) * (like.ndim - 1))
        return self.schedule.alpha(t).to(like.dtype), self.schedule.sigma(t).to(like.dtype)


class Eps(Parameterisation):
    """The noise: ``x0 = (x_t - sigma_t eps) / alpha_t`` [HO20 eqs. 11, 12]."""

    name = "eps"

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        if float(schedule.alpha(schedule.T)) == 0:
            raise ValueError(
                "this schedule ends at alpha_bar_T = 0, where a prediction of eps says nothing about x0: "
                'use prediction="x0" or "v"'
            )

    def given(self, raw: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        return {"given_eps": raw}

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps

    def x0_error(self, t: Tensor) -> Tensor:
        return self.schedule.sigma(t) / self.schedule.alpha(t)


class X0(Parameterisation):
    """The clean sample itself."""

    name = "x0"

    def given(self, raw: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        return {"given_x0": raw}

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return x0

    def x0_error(self, t: Tensor) -> Tensor:
        return torch.ones_like(t, dtype=torch.float64)


class V(Parameterisation):
    """``v = alpha_t eps - sigma_t x0`` (Salimans & Ho 2022), bounded at both ends of the chain."""

    name = "v"

    def given(self, raw: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        return {"given_v": raw}

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._scales(t, x0)
        return alpha * eps - sigma * x0

    def x0_error(self, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return sigma / (alpha**2 + sigma**2)


class Preconditioned(Parameterisation):
    """``x0 = c_skip x_t + c_out F(c_in x_t)``: inputs, outputs and targets of unit size at every noise level.

    With sd the data's root mean square and ``n² = sigma_t² + sd² alpha_t²``: ``c_in = 1/n, c_skip = sd² alpha_t / n²,
    c_out = sd sigma_t / n``. That is Karras et al. 2022 (eq. 7, table 1) written for x_t instead of x_t / alpha_t, so that
    it stays finite at alpha_t = 0. For sd = 1 and a variance-preserving schedule F is -v.

    The network's time is the angle ``atan(sigma_t / alpha_t)`` scaled to 0 … 1000: it names the noise level, not the index,
    so the same network serves any schedule.

    Args:
        data_rms: sd, on the scaled axis.
    """

    name = "preconditioned"

    def __init__(self, schedule: Schedule, data_rms: float = 0.5) -> None:
        super().__init__(schedule)
        if not data_rms > 0:
            raise ValueError(f"the data's root mean square must be positive, not {data_rms}")
        self.data_rms = data_rms

    def inputs(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self._scales(t, x_t)
        t = t.to(torch.float64)
        angle = torch.atan2(self.schedule.sigma(t), self.schedule.alpha(t))
        return x_t / self._size(alpha, sigma), (angle * (2000 / math.pi)).to(_time_dtype(x_t))

    def given(self, raw: Tensor, x_t: Tensor, t: Tensor) -> dict[str, Tensor]:
        alpha, sigma = self._scales(t, x_t)
        n = self._size(alpha, sigma)
        return {"given_x0": self.data_rms**2 * alpha / n**2 * x_t + self.data_rms * sigma / n * raw}

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self._scales(t, x0)
        # (x0 - c_skip x_t) / c_out with x_t written out: no division by a sigma_t that may be small.
        return (sigma * x0 - self.data_rms**2 * alpha * eps) / (self.data_rms * self._size(alpha, sigma))

    def x0_error(self, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.data_rms * sigma / self._size(alpha, sigma)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "data_rms": self.data_rms}

    def _size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.data_rms**2 * alpha**2).sqrt()


_BY_NAME = {kind.name: kind for kind in (Eps, X0, V, Preconditioned)}


def get(description: str | dict[str, Any] | Parameterisation, schedule: Schedule) -> Parameterisation:
    """A parameterisation by name (``eps``, ``x0``, ``v``, ``preconditioned``) or by what ``describe`` gave."""
    if isinstance(description, Parameterisation):
        return description
    arguments: dict[str, Any] = {"name": description} if isinstance(description, str) else dict(description)
    name = arguments.pop("name")
    if name not in _BY_NAME:
        raise ValueError(f"no prediction is called {name!r}; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name](schedule, **arguments)


def _time_dtype(x_t: Tensor) -> torch.dtype:
    return torch.float64 if x_t.dtype == torch.float64 else torch.float32
