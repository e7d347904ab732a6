"""Ancestral sampling: the model's own reverse chain, step by step [HO20 alg. 2]."""

from __future__ import annotations

import torch
from torch import Tensor

from unstir.denoisers import Prediction
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, draw


class Ancestral(Sampler):
    """``x_s ~ p(x_s | x_t)``, the denoiser's reverse distribution for the pair (s, t); at s = 0 its mean."""

    stochastic = True

    def move(self, state: State, prediction: Prediction, noise: NoiseSource | None) -> Tensor:
        s = state.time(1)
        reverse = prediction.reverse(s)
        last = (s == 0).reshape(-1, *(1,) * (state.x.ndim - 1))
        return torch.where(last, reverse.mean, reverse.sample(draw(noise, state)))
