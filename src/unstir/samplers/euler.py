"""Euler's method on the probability-flow ODE, along the angle: the plainest first-order solver that is not DDIM."""

from __future__ import annotations

import torch

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, per_row
from unstir.shapes import Reals


class Euler(Sampler):
    """``x_s / r_s = x_t / r_t + (phi_s - phi_t) v / r_t`` with ``phi = atan(sigma / alpha)`` and ``r² = alpha² + sigma²``.

    On a variance-preserving path, r = 1, the probability-flow ODE is ``dx/dphi = v``. Euler's method in sigma / alpha (the
    "Euler" of Karras et al. 2022) needs no class of its own: it is DDIM. The angle is finite where alpha_t = 0. A step to
    t = 0 is the DDIM step, which is x0.
    """

    reference = "Euler, dx/dphi = v (Salimans & Ho 2022)"

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> Reals:
        assert isinstance(prediction, Prediction)
        schedule, t, s = prediction.process.schedule, state.time(), state.time(1)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = ((schedule.alpha(u), schedule.sigma(u)) for u in (t, s))
        size = torch.hypot(alpha_s, sigma_s) / torch.hypot(alpha_t, sigma_t)
        angle = torch.atan2(sigma_s, alpha_s) - torch.atan2(sigma_t, alpha_t)
        x = per_row(size, state.x) * (state.x + per_row(angle, state.x) * prediction.v)
        return torch.where(per_row(s == 0, state.x).bool(), per_row(alpha_s, state.x) * prediction.x0, x)
