"""Denoising and inpainting by a trained model: samples of p(x0 | y), for every kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unstir import samplers
from unstir.denoisers import DenoiserBase
from unstir.editing.channels import Noise, likelihood, matched
from unstir.editing.measure import Measure
from unstir.editing.observe import Observe, Spread
from unstir.editing.operators import Operator
from unstir.editing.steps import SCHEDULES, Multiply, Renoise
from unstir.editing.variations import below
from unstir.samplers import Ancestral, Edit, Grid, Sampler
from unstir.shapes import Data, Elements, Mask, Measurements, Meets, Reals

DENOISE = ("observed", *SCHEDULES, "matched")
INPAINT = ("observed", *SCHEDULES, "renoised")


def denoise(
    denoiser: DenoiserBase,
    y: Data,
    noise: Noise,
    grid: Grid,
    *,
    method: str = "observed",
    sampler: Sampler | None = None,
    spread: Spread = "covariance",
    **options: Any,
) -> Data:
    """A draw from ``p(x0 | y) ∝ p(x0) p(y | x0)`` for each row of y [SD15 §2.5, fig. 3].

    Methods:

    - ``observed``: multiply on x0, :class:`Observe`; for real numbers right in the limit of many steps, as far as p(x0 | x_t) is
      Gaussian, for bits and symbols as far as they are independent;
    - ``constant`` (what [SD15] do), ``fading``, ``carried``: multiply every reverse step, :class:`Multiply`;
    - ``matched``: no factor; begin at the time whose noise is y's own, :func:`unstir.editing.channels.matched`. Exact for any
      data and any correlation, where there is such a time and the noise is one number.

    Args:
        y: (B, *E). noise: the variance of real numbers' noise, or the probability that a bit was flipped or a symbol replaced; a
            number, or a tensor that broadcasts against y (infinite, respectively uninformative: not observed; 0: known).
        grid: the times to visit; ``matched`` uses those below its own start.
        sampler: default ancestral, which draws from the posterior's steps.
        spread: for ``observed`` real numbers, see :class:`Observe`.
        options: seed, indices, condition, device, dtype (default y's) as for :func:`unstir.samplers.walk`.

    Returns:
        x0, (B, *E).

    Raises:
        ValueError: for another method, and what :class:`Observe`, :class:`Multiply` and the channels refuse.
    """
    _known_method(method, DENOISE)
    process = denoiser.process
    factor = likelihood(process, y, noise)  # checks the noise for every method
    if method == "matched":
        if isinstance(noise, Tensor) and noise.numel() != 1:
            raise ValueError('"matched" begins all elements at one time, so its noise is one number: use "observed"')
        tau, start = matched(process, y, float(noise))
        return _sample(denoiser, sampler, below(grid, tau), y, (), start=start, **options)
    return _sample(denoiser, sampler, grid, y, (_edit(factor, method, spread, None),), **options)


def inpaint(
    denoiser: DenoiserBase,
    x0: Elements,
    known: Meets,
    grid: Grid,
    *,
    method: str = "observed",
    sampler: Sampler | None = None,
    spread: Spread = "covariance",
    **options: Any,
) -> Elements:
    """A draw from ``p(x0 | the known part of x0)`` for each row; what is known comes back exactly [SD15 §2.5, fig. 5].

    Methods:

    - ``observed``: the known part walks on a path of the forward chain to its value, of variance ``sigma_s²`` at s, and with
      the spread ``covariance`` it also tells the rest where to go: :class:`Observe`;
    - ``constant``: r(x_s) is a point at the known values at every s, as [SD15] write; it is also what their released code does
      when it sets these to their clean values with variance 0. The model then sees them cleaner than it expects, except behind
      masks, where what is seen is clean anyway. ``fading`` is the same, since a point's power is a point;
    - ``carried``: r is ``q(x_s | x0)``, multiplied with the model's step;
    - ``renoised``: the known part is replaced by a fresh draw from ``q(x_s | x0)``, :class:`Renoise`: what later codes do.

    Args:
        x0: (B, *E), holding anything where it is not known. known: bool, broadcasting against x0.
        grid, sampler, spread, options: as for :func:`denoise`.

    Returns:
        x0, (B, *E).

    Raises:
        ValueError: for another method, a mask that is not bool, and what the edits refuse.
    """
    _known_method(method, INPAINT)
    if known.dtype != torch.bool:
        raise ValueError(f"the mask of known values is bool, not {known.dtype}")
    filled = torch.where(known, x0, torch.zeros((), dtype=x0.dtype, device=x0.device))
    if method == "renoised":
        edit: Edit = Renoise(filled, known)
    else:
        edit = _edit(denoiser.process.marginal(filled, 0), method, spread, known)  # at t = 0 a point at x0
    return _sample(denoiser, sampler, grid, x0, (edit,), **options)


def restore(
    denoiser: DenoiserBase,
    y: Measurements,
    operator: Operator,
    noise: float,
    grid: Grid,
    shape: Sequence[int],
    *,
    sampler: Sampler | None = None,
    spread: float | str = "covariance",
    **options: Any,
) -> Reals:
    """A draw from ``p(x0 | y)`` for ``y = A x0 + sqrt(noise) n``, row by row: :class:`unstir.editing.Measure`.

    Args:
        y: (B, *Y). operator: A. noise: the variance of n's scale, 0 for a measurement that is exact.
        shape: x0's, (B, *E).
        grid, sampler, spread, options: as for :func:`denoise`.

    Returns:
        x0, (B, *E).

    Raises:
        ValueError: as :class:`unstir.editing.Measure`.
    """
    options = {"dtype": y.dtype, "device": y.device} | options
    edit = Measure(operator, y, noise, spread)
    return samplers.sample(denoiser, sampler or Ancestral(), grid, tuple(shape), edits=(edit,), **options)


def _edit(factor: Any, method: str, spread: Spread, where: Mask | None) -> Edit:
    if method == "observed":
        return Observe(factor, spread, where)
    return Multiply(factor, method, where)


def _sample(
    denoiser: DenoiserBase, sampler: Sampler | None, grid: Grid, like: Data, edits: tuple[Edit, ...], **options: Any
) -> Data:
    if "dtype" not in options and like.is_floating_point():
        options["dtype"] = like.dtype
    options.setdefault("device", like.device)
    sampler = Ancestral() if sampler is None else sampler
    return samplers.sample(denoiser, sampler, grid, tuple(like.shape), edits=edits, **options)


def _known_method(method: str, methods: tuple[str, ...]) -> None:
    if method not in methods:
        raise ValueError(f"no method is called {method!r}; there are {', '.join(methods)}")
