"""DDIM (Song, Meng & Ermon 2021): the first-order solver, from deterministic to ancestral."""

from __future__ import annotations

from unstir.denoisers import Prediction, PredictionBase
from unstir.noise import NoiseSource
from unstir.samplers.base import Sampler, State, draw, per_row
from unstir.shapes import Reals


class DDIM(Sampler):
    """``x_s = alpha_s x0 + sqrt(sigma_s² - c²) eps + c z`` with ``c² = eta² s2 sigma_s² / sigma_t²`` (eqs. 12, 16).

    Args:
        eta: 0 is deterministic and solves the probability-flow ODE; 1 is the ancestral chain with ``small`` variance.
    """

    reference = "Song, Meng & Ermon 2021, eq. 12"

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in 0 … 1, not {eta}")
        self.eta = eta
        self.stochastic = eta > 0

    def move(self, state: State, prediction: PredictionBase, noise: NoiseSource | None) -> Reals:
        assert isinstance(prediction, Prediction)
        schedule, s = prediction.process.schedule, state.time(1)
        alpha, sigma = schedule.alpha(s), schedule.sigma(s)
        if not self.stochastic:
            return per_row(alpha, state.x) * prediction.x0 + per_row(sigma, state.x) * prediction.eps
        fresh = self.eta**2 * prediction.process.variances(s, state.time(), state.x)[0].flatten()
        old = (sigma**2 - fresh).clamp(min=0).sqrt()  # rounding alone can make it negative
        kept = per_row(alpha, state.x) * prediction.x0 + per_row(old, state.x) * prediction.eps
        return kept + per_row(fresh.sqrt(), state.x) * draw(noise, state)
