"""Ancestral sampling: the model's own reverse chain, step by step [HO20 alg. 2]."""

from __future__ import annotations

from unstir.denoisers import PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, source
from unstir.shapes import Data


class Ancestral(Sampler):
    """``x_s ~ p(x_s | x_t)``, the denoiser's reverse distribution for the pair (s, t); real numbers end, at s = 0, at its mean."""

    reference = "Ho et al. 2020, alg. 2"
    stochastic = True
    continuous = False

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> Data:
        s = state.time(1)
        return prediction.reverse(s).draw(source(noise), "step", state.position, final=s == 0)
