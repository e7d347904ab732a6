"""The covariance of p(x0 | x_t) through a denoiser's own gradient, and the linear systems that are solved with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from unstir.denoisers import Prediction
from unstir.processes.base import column
from unstir.shapes import LeadingB, Reals


def covariance(prediction: Prediction, x: Reals) -> Callable[[Tensor], Tensor]:
    """``u -> C_t u`` with ``C_t = (sigma_t²/alpha_t) d x0_hat/d x_t = Cov[x0 | x_t]`` (Tweedie's second formula).

    C_t is symmetric, so the network's backward pass, which multiplies by its transpose, does. Where alpha_t = 0 nothing is known
    of it, and it is taken for 0.

    Args:
        prediction: made with gradients on. x: its x_t as the root of the graph that ends in x0, (B, *E).
    """
    schedule, t, x0 = prediction.process.schedule, column(prediction.t, x), prediction.x0
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    scale = torch.where(alpha > 0, sigma**2 / alpha, 0).to(x.dtype)

    def times(u: Tensor) -> Tensor:
        if not x0.requires_grad:
            return torch.zeros_like(u)  # x0 does not hang on x_t
        return scale * torch.autograd.grad(x0, x, u, retain_graph=True)[0]

    return times


def without_graph(prediction: Prediction, x0: Reals, x_t: Reals) -> Prediction:
    """The prediction with another x0, and nothing of the graph that it was made in."""
    rule = prediction.variance
    cut = replace(prediction.with_x0(x0.detach()), x_t=x_t)
    return replace(cut, variance=lambda s, t: rule(s, t).detach())


def solved(system: Callable[[Tensor], Tensor], b: LeadingB, iterations: int) -> LeadingB:
    """``u`` with ``system(u) = b``, row by row, by conjugate residuals (Stiefel 1955); (B, …). A row that has arrived stays.

    Each step makes what is left of b as small as it can. Conjugate gradients do not: on a network's gradients, which are no exact
    covariance, they leave the data's range by orders of magnitude after some eight steps.
    """

    def dot(a: Tensor, c: Tensor) -> Tensor:
        return (a * c).flatten(1).sum(1).reshape(-1, *(1,) * (b.ndim - 1))

    u, rest = torch.zeros_like(b), b
    direction, image = torch.zeros_like(b), torch.zeros_like(b)
    enough = dot(b, b) * torch.finfo(b.dtype).eps ** 2
    going, previous = dot(b, b) > enough, torch.full_like(enough, torch.inf)
    for _ in range(min(iterations, b[0].numel())):
        if not bool(going.any()):
            break
        changed = system(rest)
        curvature = dot(rest, changed)
        # A covariance has no direction of negative spread. A network's gradients may; no step is taken there, nor after it.
        going = going & (curvature > 0)
        turn = torch.where(going, curvature / previous, 0)
        direction, image = rest + turn * direction, changed + turn * image
        length = torch.where(going, curvature / dot(image, image), 0)
        u, rest = u + length * direction, rest - length * image
        previous = torch.where(going, curvature, 1)
        going = going & (dot(rest, rest) > enough)
    return u
