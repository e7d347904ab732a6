"""Random numbers for the toys, the same for ever.

NumPy promises the raw integers of a bit generator, but not what its distributions make of them. A run knows its data by
their hash, so the toys make their own numbers out of the raw ones.
"""

from __future__ import annotations

import math

import numpy as np

from unstir.errors import UserError


class Draws:
    """A stream of numbers that a seed names.

    Args:
        seed: 0 or more.
        stream: tells apart what one seed is used for.

    Raises:
        UserError: for a negative seed.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        if seed < 0:
            raise UserError(f"a seed is a whole number from 0, not {seed}")
        self._bits = np.random.PCG64(np.random.SeedSequence((seed, stream)))

    def uniforms(self, *shape: int) -> np.ndarray:
        """The next ``u = (k + 1/2) / 2^53``, k the upper 53 bits of PCG64's integers: float64, neither 0 nor 1."""
        raw = np.asarray(self._bits.random_raw(math.prod(shape)))
        return (((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).reshape(shape)


def normals(u: np.ndarray) -> np.ndarray:
    """``sqrt(-2 ln u_0) (cos 2πu_1, sin 2πu_1)``: two standard normals of two uniforms (Box & Muller 1958).

    Args:
        u: (…, 2) in (0, 1).

    Returns:
        float64 (…, 2).
    """
    radius, angle = np.sqrt(-2 * np.log(u[..., 0])), 2 * np.pi * u[..., 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
