"""Denoisers of the tests: exact ones read through every parameterisation, constant ones, and one that counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unstir.denoisers import Condition, Denoiser, DenoiserBase, GaussianMixtureDenoiser, Prediction
from unstir.denoisers.variance import rule
from unstir.processes import Gaussian
from unstir.schedules import Time


def gaussian_denoiser(process: Gaussian, m: float, v: float, variance: object = "small") -> GaussianMixtureDenoiser:
    """The exact denoiser of one number distributed as N(m, v); x is (B, 1)."""
    weights, means = torch.ones(1, dtype=torch.float64), torch.tensor([[m]], dtype=torch.float64)
    covariances = torch.tensor([[[v]]], dtype=torch.float64)
    return GaussianMixtureDenoiser(process, weights, means, covariances, variance)  # pyright: ignore[reportArgumentType]


class AsNetwork(nn.Module):
    """An exact denoiser as a network of the DDPM family: given x_t and t - 1 it says eps, x0 or v."""

    def __init__(self, exact: DenoiserBase, says: str) -> None:
        super().__init__()
        self.exact, self.says = exact, says

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return getattr(self.exact.predict(x, time + 1), self.says)


def through(exact: DenoiserBase, says: str) -> Denoiser:
    """An exact denoiser seen through a parameterisation."""
    return Denoiser(AsNetwork(exact, says), exact.process, prediction=says)


class Constant(DenoiserBase):
    """Says the same x0 whatever it sees."""

    def __init__(self, process: Gaussian, x0: Tensor, variance: str = "small") -> None:
        super().__init__()
        self.process, self.x0, self.variance = process, x0, variance

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        t = torch.as_tensor(t, dtype=torch.float64).expand(len(x_t))
        x0 = self.x0.to(x_t.dtype).expand_as(x_t)
        return Prediction(self.process, x_t, t, rule(self.variance, self.process, x_t), given_x0=x0)


class Counting(DenoiserBase):
    """Counts how often it was asked and about how many rows, and keeps the times."""

    def __init__(self, denoiser: DenoiserBase) -> None:
        super().__init__()
        self.denoiser, self.process = denoiser, denoiser.process
        self.calls, self.rows = 0, 0
        self.times: list[Tensor] = []

    def predict(self, x_t: Tensor, t: Time, condition: Condition | None = None) -> Prediction:
        self.calls += 1
        self.rows += len(x_t)
        self.times.append(torch.as_tensor(t))
        return self.denoiser.predict(x_t, t, condition)
