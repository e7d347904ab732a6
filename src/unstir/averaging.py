"""Power-function averages over a run: their profiles, and one profile made of others (Karras et al. 2024, §3 and App. C)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Profile = tuple[float, float]
"""(t, gamma): an average that was taken at time t of a run, counting the weights at time tau as ``tau^gamma``."""


def gamma_of(width: float) -> float:
    """The exponent whose profile has this relative standard deviation, ``width² = (g + 1) / ((g + 2)² (g + 3))`` (eq. 123)."""
    if not 0 < width <= 0.28:
        raise ValueError(f"the average's width is a share of the run in (0, 0.28], not {width}")
    low, high = 0.0, 1e6
    for _ in range(200):
        g = (low + high) / 2
        # The width falls as g grows.
        low, high = (g, high) if (g + 1) / ((g + 2) ** 2 * (g + 3)) > width**2 else (low, g)
    return (low + high) / 2


def overlap(a: Profile, b: Profile) -> float:
    """``∫ p_a(tau) p_b(tau) dtau`` of ``p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)`` on 0 … t.

    It is ``(g_a + 1)(g_b + 1) / (g_a + g_b + 1) · (s / t_a)^(g_a) (s / t_b)^(g_b) s / (t_a t_b)`` with s the earlier of both times.
    """
    (t_a, g_a), (t_b, g_b) = a, b
    s = min(t_a, t_b)
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * (s / t_a) ** g_a * (s / t_b) ** g_b * s / (t_a * t_b)


def combination(stored: Sequence[Profile], wanted: Profile) -> tuple[np.ndarray, float]:
    """What stored averages count in the sum that comes nearest to the wanted one: ``min |sum_k x_k p_k - p|²`` with sum x = 1.

    As their eq. 151, but for the condition: with it, weights that did not change come back as they are.

    Returns:
        x, (K,), and the distance left, as a share of ``|p|``.
    """
    k = len(stored)
    gram = np.array([[overlap(a, b) for b in stored] for a in stored])
    towards = np.array([overlap(a, wanted) for a in stored])
    own = overlap(wanted, wanted)
    # The profile is a density over the run: in units of the wanted one all entries are about 1.
    system = np.ones((k + 1, k + 1))
    system[:k, :k], system[k, k] = gram / own, 0
    x = np.linalg.lstsq(system, np.append(towards / own, 1.0), rcond=1e-13)[0][:k]
    left = 1 - 2 * x @ towards / own + x @ gram @ x / own
    return x, float(np.sqrt(max(left, 0.0)))
