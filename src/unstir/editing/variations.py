"""Something like this, and something between these: to noise and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unstir import samplers
from unstir.denoisers import DenoiserBase
from unstir.editing.inversion import invert
from unstir.noise import NoiseSource
from unstir.samplers import DDIM, Grid, Sampler
from unstir.shapes import Data, Reals, Rows


def below(grid: Grid, t: float) -> Grid:
    """The grid from time t on: t itself, then the grid's times below it.

    Raises:
        ValueError: for a t that is not above the grid's last time.
    """
    if not t > float(grid.times[-1]):
        raise ValueError(f"a walk from time {t:g} goes nowhere: this grid ends at {float(grid.times[-1]):g}")
    return Grid.custom([t, *grid.times[grid.times < t].tolist()])


def noised(denoiser: DenoiserBase, x0: Data, t: float, seed: int = 0, indices: Sequence[int] | None = None) -> Data:
    """``x_t ~ q(x_t | x0)``, by the noise that is the sample's own: a pure function of seed and index, (B, *E)."""
    source = NoiseSource(seed, range(len(x0)) if indices is None else indices, x0.device)
    return denoiser.process.marginal(x0, t).draw(source, "vary")


def vary(
    denoiser: DenoiserBase,
    x0: Data,
    t: float,
    grid: Grid,
    *,
    sampler: Sampler | None = None,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    **options: Any,
) -> Data:
    """``x_t ~ q(x_t | x0)``, and from there back to 0 by any sampler (Meng et al. 2022, SDEdit; [HO20 §4.3]).

    What t's noise drowns is drawn anew, the rest stays; at T nothing stays. If x0 are data and the model is right, so are the
    results, at every t.

    Args:
        x0: (B, *E). t: in (0, T]. grid: its times below t are walked.
        sampler: default the process's own.
        options: condition, device, dtype, edits as for :func:`unstir.samplers.walk`.

    Raises:
        ValueError: for a t outside 0 … T, and one not above the grid's last time.
    """
    sampler = samplers.get(denoiser.process.sampler) if sampler is None else sampler
    start = noised(denoiser, x0, t, seed, indices)
    # Noise of the walk is keyed by other purposes than "vary", so it is another noise.
    return samplers.sample(
        denoiser, sampler, below(grid, t), tuple(x0.shape), start=start, seed=seed, indices=indices,
        **{"dtype": x0.dtype, "device": x0.device} | options,
    )  # fmt: skip


def slerp(a: Reals, b: Reals, weight: float | Rows) -> Reals:
    """``(sin((1 - w) theta) a + sin(w theta) b) / sin theta``, theta the angle between a and b (Shoemake 1985), row by row.

    Of two draws of N(0, I), nearly at right angles in many dimensions, it keeps the length that such draws have, which a straight
    line does not: its middle is shorter by 1/sqrt(2). Where the angle is 0, the straight line.

    Args:
        a, b: (B, *E). weight: w, 0 at a and 1 at b, one number or (B,).
    """
    w = torch.as_tensor(weight, dtype=torch.float64, device=a.device).reshape(-1, *(1,) * (a.ndim - 1))
    flat = [x.double().flatten(1) for x in (a, b)]
    cosine = (flat[0] * flat[1]).sum(1) / (flat[0].norm(dim=1) * flat[1].norm(dim=1))
    theta = cosine.clamp(-1, 1).acos().reshape(-1, *(1,) * (a.ndim - 1))
    sine = theta.sin()
    straight = ~(sine > 1e-7)  # NaN, of a zero, too
    safe = torch.where(straight, 1, sine)
    from_a = torch.where(straight, 1 - w, ((1 - w) * theta).sin() / safe)
    from_b = torch.where(straight, w, (w * theta).sin() / safe)
    return (from_a * a.double() + from_b * b.double()).to(a.dtype)


def interpolate(
    denoiser: DenoiserBase,
    a: Reals,
    b: Reals,
    weight: float | Rows,
    grid: Grid,
    *,
    t: float | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    **options: Any,
) -> Reals:
    """A picture between two, by one of two ways.

    - ``t`` None, in latent noise: both are inverted (:func:`unstir.editing.invert`), their noises joined by :func:`slerp`, the result
      decoded over the same grid. At w = 0 and 1 it is what the round trip makes of a and b.
    - ``t`` given [HO20 §4.3]: both are noised to t with the same noise, ``x_t = (1 - w) x_t^a + w x_t^b``, and decoded from there.
      That x_t is the mixed picture ``(1 - w) a + w b`` noised to t, of variance sigma_t² at every w; two noises would leave less in
      the middle. Small t blend, large t look for something else that both could be.

    Args:
        a, b: (B, *E). weight: w, one number or (B,).
        sampler: default DDIM; in latent noise a deterministic one.
        seed, indices: of the noise, with ``t``; rows of one index share it.
        options: condition, device, dtype as for :func:`unstir.samplers.walk`.

    Raises:
        ValueError: for data that are no real numbers, and what :func:`invert` and :func:`below` refuse.
    """
    sampler = DDIM() if sampler is None else sampler
    if not denoiser.process.continuous:
        raise ValueError("between two bits or two symbols there is nothing: only real numbers are interpolated")
    if t is None:
        condition = options.get("condition")
        ends = [invert(denoiser, x, grid, sampler=sampler, condition=condition) for x in (a, b)]
        start, walked = slerp(ends[0], ends[1], weight), grid
    else:
        w = torch.as_tensor(weight, dtype=a.dtype, device=a.device).reshape(-1, *(1,) * (a.ndim - 1))
        ends = [noised(denoiser, x, t, seed, indices) for x in (a, b)]
        start, walked = (1 - w) * ends[0] + w * ends[1], below(grid, t)
    return samplers.sample(
        denoiser, sampler, walked, tuple(a.shape), start=start, seed=seed, indices=indices,
        **{"dtype": a.dtype, "device": a.device} | options,
    )  # fmt: skip
