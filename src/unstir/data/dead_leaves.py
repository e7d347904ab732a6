"""Dead leaves: opaque discs that fall on one another until nothing else is seen."""

from __future__ import annotations

import math

import numpy as np

from unstir.data.draws import Draws, normals
from unstir.errors import UserError

NOISE = 0.05  # standard deviation, where that of the leaves' greys is 1
SMALLEST, LARGEST = 2.0, 64.0  # radii in pixels
_PART = 256  # images made together; it decides which draw is whose, so changing it changes the data


def dead_leaves(
    n: int,
    size: int = 32,
    seed: int = 0,
    *,
    smallest: float = SMALLEST,
    largest: float = LARGEST,
    noise: float = NOISE,
) -> np.ndarray:
    """Windows of the occlusion model with radii of density ∝ r^-3 (Lee, Mumford & Huang 2001), which looks alike at every scale.

    Discs fall on the plane without end: centres uniform, radii r of density ∝ r^-3 in [smallest, largest], greys uniform;
    each hides what lies under it. A pixel has the grey of the top disc over its centre, plus Gaussian noise. Greys have mean
    0 and variance 1 before the noise, and all is divided by sqrt(1 + noise²), so that pixels have mean 0 and variance 1.

    Discs are laid from the top down, each filling what is still bare, until nothing is: that gives the endless fall's
    distribution exactly (Kendall & Thönnes 1999). Discs that miss the window's square are never drawn: radii have the
    density ∝ r^-3 (size + 2 r)², and centres are uniform on the window grown by r.

    Without noise neighbouring pixels are equal with positive probability, and images have no density at all: noise is part of
    the definition of any bits/pixel. [SD15] uses the images of Theis et al. 2012, which are not used here: radii and noise are
    ours, so its 1.489 bits/pixel are of another density.

    Args:
        n: how many. size: the side in pixels. seed: 0 or more; the first images of a seed are the same for every n.
        smallest, largest: radii in pixels, 0 < smallest < largest; below about 0.7 some discs hide no pixel's centre.
        noise: its standard deviation, where that of the greys is 1.

    Returns:
        float32 (n, size, size, 1).

    Raises:
        UserError: for numbers out of range.
    """
    if n < 0 or size < 1:
        raise UserError(f"{n} images of side {size} cannot be made")
    if not 0 < smallest < largest < math.inf or not 0 <= noise < math.inf:
        raise UserError(f"radii are 0 < smallest < largest and noise is not negative: {smallest}, {largest}, {noise}")
    images = np.empty((n, size, size, 1), np.float32)
    for part, first in enumerate(range(0, n, _PART)):
        number = min(_PART, n - first)
        greys = math.sqrt(12) * (_fallen(seed, part, number, size, smallest, largest) - 0.5)
        if noise:
            pairs = Draws(seed, 2 * part + 1).uniforms(_PART, math.ceil(size * size / 2), 2)[:number]
            greys += noise * normals(pairs).reshape(number, -1)[:, : size * size]
        images[first : first + number] = (greys / math.sqrt(1 + noise**2)).reshape(number, size, size, 1)
    return images


def _fallen(seed: int, part: int, number: int, size: int, smallest: float, largest: float) -> np.ndarray:
    """Greys in (0, 1) of the first ``number`` images of a part, (number, size²)."""
    greys = np.empty(number * size * size)
    bare = np.arange(number * size * size)  # pixels not yet hidden
    image, pixel = np.divmod(bare, size * size)
    y, x = np.divmod(pixel, size)
    image, y, x = image.astype(np.int32), y + 0.5, x + 0.5
    draws = Draws(seed, 2 * part)
    while len(bare):
        u = draws.uniforms(5, _PART)[:, :number]
        r = _radii(u[0], u[1], size, smallest, largest)
        centre_y, centre_x = ((size + 2 * r) * u[i] - r for i in (2, 3))
        hidden = (y - centre_y[image]) ** 2 + (x - centre_x[image]) ** 2 <= (r * r)[image]
        greys[bare[hidden]] = u[4][image[hidden]]
        left = ~hidden
        bare, image, y, x = bare[left], image[left], y[left], x[left]
    return greys.reshape(number, size * size)


def _radii(which: np.ndarray, u: np.ndarray, size: int, a: float, b: float) -> np.ndarray:
    """Radii of density ∝ r^-3 (size + 2 r)² = size² r^-3 + 4 size r^-2 + 4 r^-1 in [a, b]: each of three powers by its inverse."""
    masses = np.array([size**2 * (a**-2 - b**-2) / 2, 4 * size * (1 / a - 1 / b), 4 * math.log(b / a)])
    first, second = np.cumsum(masses / masses.sum())[:2]
    cubic = (a**-2 - u * (a**-2 - b**-2)) ** -0.5
    square = 1 / (1 / a - u * (1 / a - 1 / b))
    return np.select([which < first, which < second], [cubic, square], a * (b / a) ** u)
