"""What networks say about real numbers: eps, x0, v, the mean of the reverse step, and the preconditioned x0."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstir.denoisers.parameterisation import Parameterisation, time_dtype
from unstir.denoisers.prediction import Prediction, VarianceRule
from unstir.processes import Gaussian
from unstir.shapes import Reals, Rows, Rows64


class GaussianParameterisation(Parameterisation):
    """Base of those whose output is one form of a :class:`Prediction`, learned by its squared error."""

    processes = (Gaussian,)
    process: Gaussian

    def read(self, raw: Reals, spread: Reals | None, x_t: Reals, t: Rows, variance: VarianceRule) -> Prediction:
        return Prediction(self.process, x_t, t, variance, **self.given(raw, x_t, t))

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        """What the raw output says, as one of ``given_x0, given_eps, given_v`` of a Prediction."""
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        """The raw output that would make the prediction x0, given the noise eps that x_t was made with."""
        raise TypeError(f"{type(self).__name__} does not say what its network predicts")

    def error(self, raw: Reals, x0: Reals, eps: Reals, t: Rows) -> Reals:
        """``(raw - target)²``."""
        return (raw - self.target(x0, eps, t)).square()

    def _scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        t = t.to(torch.float64).reshape(-1, *(1,) * (like.ndim - 1))
        return self.schedule.alpha(t).to(like.dtype), self.schedule.sigma(t).to(like.dtype)


class Eps(GaussianParameterisation):
    """The noise: ``x0 = (x_t - sigma_t eps) / alpha_t`` [HO20 eqs. 11, 15]."""

    name = "eps"

    def __init__(self, process: Gaussian) -> None:
        super().__init__(process)
        if float(process.schedule.alpha(process.T).detach()) == 0:
            raise ValueError(
                "this schedule ends at alpha_bar_T = 0, where a prediction of eps says nothing about x0: "
                'use prediction="x0" or "v"'
            )

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        return {"given_eps": raw}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        return eps

    def x0_error(self, t: Rows) -> Rows64:
        return self.schedule.sigma(t) / self.schedule.alpha(t)


class X0(GaussianParameterisation):
    """The clean sample itself."""

    name = "x0"

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        return {"given_x0": raw}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        return x0

    def x0_error(self, t: Rows) -> Rows64:
        return torch.ones_like(t, dtype=torch.float64)


class V(GaussianParameterisation):
    """``v = alpha_t eps - sigma_t x0`` (Salimans & Ho 2022), bounded at both ends of the chain."""

    name = "v"

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        return {"given_v": raw}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        alpha, sigma = self._scales(t, x0)
        return alpha * eps - sigma * x0

    def x0_error(self, t: Rows) -> Rows64:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return sigma / (alpha**2 + sigma**2)


class Preconditioned(GaussianParameterisation):
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

    def __init__(self, process: Gaussian, data_rms: float = 0.5) -> None:
        super().__init__(process)
        if not data_rms > 0:
            raise ValueError(f"the data's root mean square must be positive, not {data_rms}")
        self.data_rms = data_rms

    def inputs(self, x_t: Reals, t: Rows) -> tuple[Reals, Rows]:
        alpha, sigma = self._scales(t, x_t)
        t = t.to(torch.float64)
        angle = torch.atan2(self.schedule.sigma(t), self.schedule.alpha(t))
        return x_t / self._size(alpha, sigma), (angle * (2000 / math.pi)).to(time_dtype(x_t))

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        alpha, sigma = self._scales(t, x_t)
        n = self._size(alpha, sigma)
        return {"given_x0": self.data_rms**2 * alpha / n**2 * x_t + self.data_rms * sigma / n * raw}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        alpha, sigma = self._scales(t, x0)
        # (x0 - c_skip x_t) / c_out with x_t written out: no division by a sigma_t that may be small.
        return (sigma * x0 - self.data_rms**2 * alpha * eps) / (self.data_rms * self._size(alpha, sigma))

    def x0_error(self, t: Rows) -> Rows64:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.data_rms * sigma / self._size(alpha, sigma)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "data_rms": self.data_rms}

    def _size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (sigma**2 + self.data_rms**2 * alpha**2).sqrt()


class GatedX0(GaussianParameterisation):
    """``x0 = (1 - k) x_t / alpha_t + k z``, ``k = sigma_t² / (sigma_t² + s² alpha_t²)``: where the noise is finer than the data's
    own thickness s, x_t stays; where it is coarser, the network's z takes its place.

    It is E[x0 | x_t] of N(z, s²) data. Few radial basis functions cannot say where on a thin curve a point stands, but they can say
    which stretch of it is near, which is all that z has to be: so the swiss roll of [SD15] is learned with 16 of them.

    Args:
        data_std: s, on the scaled axis.
    """

    name = "gated_x0"

    def __init__(self, process: Gaussian, data_std: float) -> None:
        super().__init__(process)
        if not data_std > 0:
            raise ValueError(f"the data's thickness must be positive, not {data_std}")
        self.data_std = data_std

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        alpha, sigma = self._scales(t, x_t)
        n2 = sigma**2 + (self.data_std * alpha) ** 2
        return {"given_x0": self.data_std**2 * alpha / n2 * x_t + sigma**2 / n2 * raw}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        alpha, sigma = self._scales(t, x0)
        return x0 - self.data_std**2 * alpha / sigma * eps

    def x0_error(self, t: Rows) -> Rows64:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return sigma**2 / (sigma**2 + (self.data_std * alpha) ** 2)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "data_std": self.data_std}


class Mean(GaussianParameterisation):
    """The mean of the reverse step, ``mu(x_t, t)`` of p(x_{t-1} | x_t): after [HO20 eq. 8] the "most straightforward" choice.

    The same x0 is behind it as behind every other form: ``x0 = (mu - from_t x_t) / from_0`` with the posterior's coefficients
    for the pair (t - 1, t), so the other steps of any grid follow. Below t = 1 it is the mean at s = 0, which is x0.
    """

    name = "mean"

    def given(self, raw: Reals, x_t: Reals, t: Rows) -> dict[str, Reals]:
        from_t, from_0, _ = self.process.posterior_coefficients(_before(t), t, x_t)
        return {"given_x0": (raw - from_t.to(x_t.dtype) * x_t) / from_0.to(x_t.dtype)}

    def target(self, x0: Reals, eps: Reals, t: Rows) -> Reals:
        alpha, sigma = self._scales(t, x0)
        return self.process.posterior(alpha * x0 + sigma * eps, x0, _before(t), t).mean

    def x0_error(self, t: Rows) -> Rows64:
        return 1 / self.process.posterior_coefficients(_before(t), t, t)[1]


class GatedMean(Mean):
    """``mu = (x_t - z)(1 - Sigma) + z`` with Sigma the reverse step's learned variance [SD15 App. D.2].

    A step that leaves little room, Sigma near 0, stays where it is; one that forgets everything, Sigma = 1, goes to z. It needs
    a denoiser with variance ``free``, whose Sigma it shares, and learns by the bound.
    """

    name = "gated_mean"
    variances = ("free",)

    def read(self, raw: Reals, spread: Reals | None, x_t: Reals, t: Rows, variance: VarianceRule) -> Prediction:
        gate = variance(_before(t), t)
        return super().read((x_t - raw) * (1 - gate) + raw, spread, x_t, t, variance)

    def error(self, raw: Reals, x0: Reals, eps: Reals, t: Rows) -> Reals:
        return Parameterisation.error(self, raw, x0, eps, t)

    def x0_error(self, t: Rows) -> Rows64:
        return Parameterisation.x0_error(self, t)


def _before(t: Tensor) -> Tensor:
    """The time one step earlier; of a real time within the first step, 0."""
    return (t - 1).clamp(min=0)
