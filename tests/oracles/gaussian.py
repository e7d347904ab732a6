"""Gaussian data N(m, v), for which every step of every first-order sampler is affine and every term of the bound known.

Arguments: ``ab`` is alpha_bar as a function of t, ``pairs`` the intended steps (t, s). Mean and variance follow from
scalar recursions in float arithmetic, without tensors.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

Curve = Callable[[float], float]
Pairs = Sequence[tuple[float, float]]
EULER_GAMMA = 0.5772156649015329


def coefficients(ab_t: float, ab_s: float) -> tuple[float, float, float, float]:
    """``from_t, from_0, small, large`` of the posterior q(x_s | x_t, x0) and of the step, from alpha_bar alone."""
    large = 1 - ab_t / ab_s
    from_t = math.sqrt(ab_t / ab_s) * (1 - ab_s) / (1 - ab_t)
    from_0 = math.sqrt(ab_s) * large / (1 - ab_t)
    return from_t, from_0, large * (1 - ab_s) / (1 - ab_t), large


def exact_x0(ab_t: float, m: float, v: float) -> tuple[float, float]:
    """``E[x0 | x_t] = k0 + k1 x_t``."""
    k1 = math.sqrt(ab_t) * v / (ab_t * v + 1 - ab_t)
    return m * (1 - k1 * math.sqrt(ab_t)), k1


def left_over(ab_t: float, v: float) -> float:
    """``Var[x0 | x_t]``."""
    return v * (1 - ab_t) / (ab_t * v + 1 - ab_t)


def exact_variance(ab_t: float, ab_s: float, v: float) -> float:
    """``Var[x_s | x_t]``: the reverse variance with which the chain is the data's own."""
    _, from_0, small, _ = coefficients(ab_t, ab_s)
    return small + from_0**2 * left_over(ab_t, v)


def ancestral(pairs: Pairs, ab: Curve, m: float, v: float, variance: str) -> tuple[float, float]:
    """Mean and variance at the end of the ancestral chain of the exact denoiser, begun at N(0, 1)."""
    mean, var = 0.0, 1.0
    for t, s in pairs:
        from_t, from_0, small, large = coefficients(ab(t), ab(s))
        k0, k1 = exact_x0(ab(t), m, v)
        slope = from_t + from_0 * k1
        added = {"small": small, "large": large}[variance] if s > 0 else 0.0
        mean, var = slope * mean + from_0 * k0, slope**2 * var + added
    return mean, var


def ddim(pairs: Pairs, ab: Curve, m: float, v: float, eta: float) -> tuple[float, float]:
    """Mean and variance at the end of the DDIM chain of the exact denoiser, begun at N(0, 1)."""
    mean, var = 0.0, 1.0
    for t, s in pairs:
        ab_t, ab_s = ab(t), ab(s)
        fresh = eta**2 * coefficients(ab_t, ab_s)[2]
        old = math.sqrt(max(1 - ab_s - fresh, 0.0))
        k0, k1 = exact_x0(ab_t, m, v)
        # eps = (x - alpha_t x0) / sigma_t with x0 = k0 + k1 x
        sigma_t = math.sqrt(1 - ab_t)
        slope = math.sqrt(ab_s) * k1 + old * (1 - math.sqrt(ab_t) * k1) / sigma_t
        shift = math.sqrt(ab_s) * k0 - old * math.sqrt(ab_t) * k0 / sigma_t
        mean, var = slope * mean + shift, slope**2 * var + fresh
    return mean, var


def flow(x: float, ab_t: float, ab_s: float, m: float, v: float) -> float:
    """Where the probability-flow ODE takes x from t to s: it keeps x's quantile in the marginal."""
    spread_t, spread_s = (math.sqrt(a * v + 1 - a) for a in (ab_t, ab_s))
    return math.sqrt(ab_s) * m + spread_s / spread_t * (x - math.sqrt(ab_t) * m)


def entropy(v: float) -> float:
    """``E[-log p(x0)]``, nats."""
    return 0.5 * math.log(2 * math.pi * math.e * v)


def prior_gap(ab_T: float, m: float, v: float) -> float:
    """``KL(q(x_T) ‖ N(0, 1))`` of the marginals: what no reverse chain can make up for."""
    var = ab_T * v + 1 - ab_T
    return 0.5 * (var + ab_T * m**2 - 1 - math.log(var))


def expected_bound(
    chain: Sequence[float], ab: Curve, m: float, v: float, variance: str, decoder_variance: str = "beta_1"
) -> float:
    """The bound of the exact denoiser averaged over the data and the noise, nats, with the density decoder.

    Args:
        chain: the rising times t_1 … t_n = T.
        variance: ``small``, ``large`` or ``exact``, the reverse step's.
        decoder_variance: ``beta_1``, ``ho20`` or ``exact``.
    """
    ab_T = ab(chain[-1])
    total = 0.5 * (1 - ab_T + ab_T * (m**2 + v) - 1 - math.log(1 - ab_T))
    for s, t in itertools.pairwise(chain):
        _, from_0, small, large = coefficients(ab(t), ab(s))
        model = {"small": small, "large": large, "exact": exact_variance(ab(t), ab(s), v)}[variance]
        ratio = small / model
        total += 0.5 * (ratio - 1 - math.log(ratio) + from_0**2 * left_over(ab(t), v) / model)
    rest = left_over(ab(chain[0]), v)
    if decoder_variance == "beta_1":
        scale = 1 - ab(chain[0])
    elif decoder_variance == "ho20":
        scale = coefficients(ab(chain[1]), ab(chain[0]))[2]
    else:
        scale = rest
    return total + 0.5 * (math.log(2 * math.pi * scale) + rest / scale)
