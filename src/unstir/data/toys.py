"""Data made on the spot, by name: ``swiss-roll``, ``moons``, ``heartbeat``, ``dead-leaves``.

Each is drawn from a fixed seed and a law that is written down, so that what a model learned can be held against the truth:

| name        | kind   | an item                     | to learn from | held out | truth                           |
|-------------|--------|-----------------------------|---------------|----------|---------------------------------|
| swiss-roll  | points | (2,)                        | 100,000       | 10,000   | ``swiss_roll_entropy_bits``     |
| moons       | points | (2,), two classes           | 20,000        | 2,000    | ``moons_entropy_bits``          |
| heartbeat   | bits   | (20,)                       | 20,000        | 2,000    | log2 5 bits a sequence          |
| dead-leaves | image  | (1, 32, 32), real-valued    | 10,000        | 1,000    | not known in closed form        |

What is learned from has seed 0, what is held out seed 1. All but the heartbeat have mean 0 and variance 1 as they are.
"""

from __future__ import annotations

import math

import numpy as np

from unstir.data import dead_leaves as leaves
from unstir.data.codec import Scaling
from unstir.data.curves import moons_curve, swiss_roll_curve
from unstir.data.dead_leaves import dead_leaves
from unstir.data.draws import Draws
from unstir.data.raw import Source, Values
from unstir.errors import UserError

__all__ = [
    "NAMES",
    "dead_leaves",
    "heartbeat",
    "heartbeat_entropy_bits",
    "moons",
    "moons_entropy_bits",
    "moons_log_density",
    "source_of",
    "swiss_roll",
    "swiss_roll_entropy_bits",
    "swiss_roll_log_density",
    "swiss_roll_thickness",
]

NAMES = ("swiss-roll", "moons", "heartbeat", "dead-leaves")
SWISS_ROLL_NOISE = 0.5  # in the roll's own units, whose turns are 2π apart
MOONS_NOISE = 0.1  # where the moons have radius 1


def swiss_roll(n: int, noise: float = SWISS_ROLL_NOISE, seed: int = 0) -> np.ndarray:
    """``z = (phi (cos phi, sin phi) + noise n - m) / s``, phi uniform on [1.5π, 4.5π], n standard normal in the plane.

    m = (2, 2/(3π)) is the mean and s² = 9.75π²/2 - |m|²/2 + noise² the variance averaged over the coordinates, both exact: so z
    has mean 0 and mean square 1 a coordinate, as [SD15] scales its data. The noise of the paper's roll is not stated; ours is
    0.5, which is 0.073 after scaling.

    Args:
        n: how many. noise: positive, before scaling. seed: 0 or more; the first points of a seed are the same for every n.

    Returns:
        float32 (n, 2).

    Raises:
        UserError: for noise that is not positive, or a negative seed.
    """
    return swiss_roll_curve().sample(n, noise, seed)[0]


def swiss_roll_log_density(z: np.ndarray, noise: float = SWISS_ROLL_NOISE) -> np.ndarray:
    """``log p(z) = 2 log s + log (1/3π) ∫ N(s z + m; c(phi), noise² I) dphi``: of what ``swiss_roll`` draws, in nats.

    By Gauss-Legendre quadrature in float64, to about ten digits; time and memory grow with 1/noise.

    Args:
        z: (N, 2).

    Returns:
        float64 (N,).

    Raises:
        UserError: for noise that is not positive, or another shape.
    """
    return swiss_roll_curve().log_density(z, noise)


def swiss_roll_thickness(noise: float = SWISS_ROLL_NOISE) -> float:
    """``noise / s``: the noise of the roll after scaling to mean square 1."""
    return noise / swiss_roll_curve().scale(noise)


def swiss_roll_entropy_bits(noise: float = SWISS_ROLL_NOISE) -> float:
    """``-∫ p log2 p dz`` of ``swiss_roll_log_density``, bits a point, by integration over a grid around the roll.

    The largest log likelihood that any model can reach, on average over fresh points, is its negative: [SD15]'s K is compared
    with that.
    """
    return swiss_roll_curve().entropy_bits(noise)


def moons(n: int, noise: float = MOONS_NOISE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles of radius 1 that reach into each other: ``z = (c(phi) + noise n - (1/2, 1/4)) / s``, phi uniform on [0, 2π].

    c is (cos phi, sin phi) up to π, the upper moon, and (1 + cos phi, 1/2 + sin phi) beyond, the lower; s² is the variance
    averaged over the coordinates, 21/32 - 1/(2π) + noise².

    Args:
        n: how many. noise: positive, before scaling. seed: 0 or more; the first points of a seed are the same for every n.

    Returns:
        float32 (n, 2), and labels int64 (n,): 0 upper, 1 lower.

    Raises:
        UserError: for noise that is not positive, or a negative seed.
    """
    x, phi = moons_curve().sample(n, noise, seed)
    return x, (phi >= np.pi).astype(np.int64)


def moons_log_density(z: np.ndarray, noise: float = MOONS_NOISE) -> np.ndarray:
    """``log p(z)`` of both moons together, in nats; otherwise as ``swiss_roll_log_density``."""
    return moons_curve().log_density(z, noise)


def moons_entropy_bits(noise: float = MOONS_NOISE) -> float:
    """``-∫ p log2 p dz`` of both moons together, bits a point."""
    return moons_curve().entropy_bits(noise)


def heartbeat(n: int, length: int = 20, period: int = 5, seed: int = 0) -> np.ndarray:
    """``x_i = [i mod period = phase]``, the phase uniform on 0 … period - 1: one beat every ``period`` bins ([SD15], App. D).

    Args:
        n: how many. length: bins, at least ``period``, so that every phase is another sequence.
        seed: 0 or more; the first sequences of a seed are the same for every n.

    Returns:
        bool (n, length).

    Raises:
        UserError: for a period that is not within 1 … length, or a negative seed.
    """
    if not 1 <= period <= length:
        raise UserError(f"a period of {period} does not fit into {length} bins")
    phase = np.floor(period * Draws(seed).uniforms(n)).astype(np.int64)
    return np.arange(length) % period == phase[:, None]


def heartbeat_entropy_bits(period: int = 5) -> float:
    """``log2 period`` bits a sequence: its phase is all there is to know."""
    return math.log2(period)


def source_of(name: str) -> Source:
    """The toy of a name among ``NAMES``."""
    if name == "dead-leaves":
        # Seconds to make, so it is kept; 1 counts the versions of what makes it.
        return Source({}, _dead_leaves, recipe=f"dead-leaves 1 {leaves.SMALLEST} {leaves.LARGEST} {leaves.NOISE}")
    return Source({}, {"swiss-roll": _swiss_roll, "moons": _moons, "heartbeat": _heartbeat}[name])


def _swiss_roll() -> Values:
    x, heldout = _both(swiss_roll(100_000, seed=0), swiss_roll(10_000, seed=1))
    rules = f"A swiss roll with noise {SWISS_ROLL_NOISE} in units of phi, scaled to variance 1."
    return Values("points", x, scaling=Scaling((0.0, 0.0), 1.0), heldout=heldout, rules=rules)


def _moons() -> Values:
    (x0, labels0), (x1, labels1) = moons(20_000, seed=0), moons(2_000, seed=1)
    x, heldout = _both(x0, x1)
    rules = f"Two moons of radius 1 with noise {MOONS_NOISE}, scaled to variance 1."
    labels = np.concatenate([labels0, labels1])
    return Values(
        "points", x, labels, ("upper", "lower"), scaling=Scaling((0.0, 0.0), 1.0), heldout=heldout, rules=rules
    )


def _heartbeat() -> Values:
    x, heldout = _both(heartbeat(20_000, seed=0), heartbeat(2_000, seed=1))
    return Values(
        "bits", x, heldout=heldout, rules="Sequences of 20 bits with a 1 every 5th, at an even choice of phase."
    )


def _dead_leaves() -> Values:
    x, heldout = _both(dead_leaves(10_000, seed=0), dead_leaves(1_000, seed=1))
    rules = (
        f"Windows of 32×32 on fallen discs of radius {leaves.SMALLEST:g} to {leaves.LARGEST:g} pixels with density r^-3, "
        f"greys uniform, noise {leaves.NOISE:g} of their standard deviation, scaled to variance 1."
    )
    return Values("image", x, scaling=Scaling((0.0,), 1.0), heldout=heldout, rules=rules)


def _both(train: np.ndarray, heldout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([train, heldout]), np.arange(len(train) + len(heldout)) >= len(train)
