"""Points scattered about a curve in the plane, with their exact density."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from unstir.data.draws import Draws, normals
from unstir.errors import UserError

_PANEL = 2.0  # standard deviations of the noise between the ends of a panel of eight nodes: errors below 1e-10
_TURN = 0.25  # radians: what a panel turns through at most
_TILE = 8.0  # standard deviations: what is farther from a point adds less than exp(-32) to its density
_ACROSS = 16  # grid points along a tile's side: half a standard deviation apart
_AT_ONCE = 1 << 21  # numbers in memory at a time


@dataclass(frozen=True)
class Curve:
    """``z = (c(phi) + noise n - centre) / sqrt(spread + noise²)``, phi uniform on [start, stop], n standard normal in the plane.

    So z has mean 0, and mean square 1 averaged over its two coordinates.

    Args:
        place: c, from (M,) to (M, 2).
        start, stop: of phi, radians.
        corners: where c jumps, between start and stop.
        speed: the largest |dc/dphi|.
        centre: the mean of c.
        spread: the mean of |c - centre|² / 2.
    """

    place: Callable[[np.ndarray], np.ndarray]
    start: float
    stop: float
    corners: tuple[float, ...]
    speed: float
    centre: tuple[float, float]
    spread: float

    def scale(self, noise: float) -> float:
        """What the points are divided by."""
        if not 0 < noise < math.inf:
            raise UserError(f"the noise is a positive number, not {noise}: without noise there is no density")
        return math.sqrt(self.spread + noise**2)

    def sample(self, n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n points float32 (n, 2), and their phi (n,); the first points of a seed are the same for every n."""
        scale = self.scale(noise)
        u = Draws(seed).uniforms(n, 3)
        phi = self.start + (self.stop - self.start) * u[:, 0]
        x = self.place(phi) + noise * normals(u[:, 1:])
        return ((x - np.asarray(self.centre)) / scale).astype(np.float32), phi

    def log_density(self, z: np.ndarray, noise: float) -> np.ndarray:
        """``log p(z)`` in nats, (N,), for z (N, 2): the integral over phi by Gauss-Legendre quadrature in float64."""
        z = np.asarray(z, np.float64)
        if z.ndim != 2 or z.shape[1] != 2:
            raise UserError(f"expected points (N, 2), got {z.shape}")
        scale = self.scale(noise)
        nodes, log_weights = self._nodes(noise)
        x = z * scale + np.asarray(self.centre)
        step = max(1, _AT_ONCE // len(nodes))
        parts = [_log_mixture(x[i : i + step], nodes, log_weights, noise) for i in range(0, len(x), step)]
        return np.concatenate([*parts, np.empty(0)]) + 2 * math.log(scale)

    def entropy_bits(self, noise: float) -> float:
        """``-∫ p log2 p dz`` by the trapezoidal rule on a grid of half a standard deviation of the noise around the curve."""
        scale = self.scale(noise)
        cell = (_TILE / _ACROSS * noise) ** 2
        nats = -cell * math.fsum(float(np.sum(np.exp(log_p) * log_p)) for log_p in self._grid(noise))
        return (nats - 2 * math.log(scale)) / math.log(2)

    def _nodes(self, noise: float) -> tuple[np.ndarray, np.ndarray]:
        """Points of the curve (M, 2) and logarithms of their weights (M,), which sum to 1 once exponentiated."""
        abscissae, weights = np.polynomial.legendre.leggauss(8)
        step = min(_PANEL * noise / self.speed, _TURN)
        ends = (self.start, *self.corners, self.stop)
        phi, mass = [], []
        for a, b in pairwise(ends):
            edges = np.linspace(a, b, math.ceil((b - a) / step) + 1)
            middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
            phi.append((middle[:, None] + half[:, None] * abscissae).ravel())
            mass.append((half[:, None] * weights).ravel())
        return self.place(np.concatenate(phi)), np.log(np.concatenate(mass) / (self.stop - self.start))

    def _grid(self, noise: float) -> Iterator[np.ndarray]:
        """Log density in the curve's own units on a grid, tile by tile, wherever it matters."""
        nodes, log_weights = self._nodes(noise)
        side = _TILE * noise
        members: dict[tuple[int, int], list[int]] = {}
        for i, (row, column) in enumerate(np.floor(nodes / side).astype(int).tolist()):
            members.setdefault((row, column), []).append(i)
        around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        steps = (np.arange(_ACROSS) + 0.5) / _ACROSS
        inside = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
        for row, column in sorted({(row + i, column + j) for row, column in members for i, j in around}):
            near = [k for i, j in around for k in members.get((row + i, column + j), ())]
            yield _log_mixture((inside + np.array([row, column])) * side, nodes[near], log_weights[near], noise)


def _log_mixture(x: np.ndarray, means: np.ndarray, log_weights: np.ndarray, noise: float) -> np.ndarray:
    """``log Σ_k w_k N(x; m_k, noise² I)``, (N,)."""
    squares = sum((x[:, None, i] - means[None, :, i]) ** 2 for i in (0, 1))
    exponents = log_weights - squares / (2 * noise**2)
    most = exponents.max(axis=1)
    return most + np.log(np.exp(exponents - most[:, None]).sum(axis=1)) - math.log(2 * math.pi * noise**2)


@cache
def swiss_roll_curve() -> Curve:
    """``c(phi) = phi (cos phi, sin phi)`` for phi in [1.5π, 4.5π]."""
    mean = np.array(
        [2.0, 2 / (3 * np.pi)]
    )  # ∫ phi cos phi = phi sin phi + cos phi, ∫ phi sin phi = sin phi - phi cos phi
    square = 9.75 * np.pi**2  # of phi: (4.5³ - 1.5³) π³ / 3 / (3π)
    return Curve(
        place=lambda phi: phi[:, None] * np.stack([np.cos(phi), np.sin(phi)], axis=-1),
        start=1.5 * np.pi,
        stop=4.5 * np.pi,
        corners=(),
        speed=math.hypot(1, 4.5 * np.pi),
        centre=(float(mean[0]), float(mean[1])),
        spread=float(square - mean @ mean) / 2,
    )


@cache
def moons_curve() -> Curve:
    """The upper half circle ``(cos phi, sin phi)`` for phi < π, and ``(1 + cos phi, 1/2 + sin phi)`` from there to 2π."""

    def place(phi: np.ndarray) -> np.ndarray:
        lower = (phi >= np.pi)[:, None] * np.array([1.0, 0.5])
        return np.stack([np.cos(phi), np.sin(phi)], axis=-1) + lower

    # About the centre (1/2, 1/4), in which the moons mirror each other: E (cos phi - 1/2)² and E (sin phi - 1/4)² on [0, π].
    spread = (0.5 + 0.25 + 0.5 - 1 / np.pi + 1 / 16) / 2
    return Curve(place, 0.0, 2 * np.pi, (np.pi,), 1.0, (0.5, 0.25), float(spread))
