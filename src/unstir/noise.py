"""Keyed noise: every draw is a pure function of what it is for.

A draw depends on (seed, sample index, purpose, step, element, shape of the event) and on nothing else: not on the batch,
the device, the number of processes, nor on what was drawn before. The generator is Philox4x32-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): the seed is its key, everything else its counter. It is written with integer
tensor operations, so the same bits come out on every device.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from unstir.shapes import (
    Anything,
    Reals,
    Reals64,
    Rows,
    Rows64,
    RowSteps,
    RowTable,
    RowTable64,
    RowTimes,
    Symbols,
    Words,
)

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

_OCTAVES = 32
_LEAVES = 128  # an octave, halved again and again
_LEVELS = (2 * _OCTAVES * _LEAVES).bit_length() - 1
_AT_ONCE = 1 << 18  # numbers drawn together: enough to keep a device busy, few enough for a cache

Counter = tuple[Words, Words, Words, Words]


def philox4x32(counter: Counter, key: tuple[int, int], rounds: int = 10) -> Counter:
    """Philox4x32: four 32-bit words from a 128-bit counter and a 64-bit key.

    Args:
        counter: four int64 tensors that broadcast together, each holding words in 0 … 2³²-1.
        key: two words in 0 … 2³²-1.

    Returns:
        Four int64 tensors of words in 0 … 2³²-1.
    """
    c0, c1, c2, c3 = (word.clone() for word in torch.broadcast_tensors(*counter))
    p0, p1 = torch.empty_like(c0), torch.empty_like(c0)
    k0, k1 = key
    for _ in range(rounds):
        # The 64-bit products wrap around in int64; their bits are those of the unsigned product all the same. In place: a
        # quarter of the time that new tensors for each operation take.
        torch.mul(c0, _MULTIPLIERS[0], out=p0)
        torch.mul(c2, _MULTIPLIERS[1], out=p1)
        torch.bitwise_right_shift(p1, 32, out=c0).bitwise_and_(_MASK).bitwise_xor_(c1).bitwise_xor_(k0)
        torch.bitwise_right_shift(p0, 32, out=c2).bitwise_and_(_MASK).bitwise_xor_(c3).bitwise_xor_(k1)
        torch.bitwise_and(p1, _MASK, out=c1)
        torch.bitwise_and(p0, _MASK, out=c3)
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def brownian_weights(times: Rows64) -> tuple[RowTable, RowTable64]:
    """The nodes i and weights w_i of ``W(time) = sum_i w_i Z_i``, Z_i independent standard normals: each (B, 16) for times (B,).

    Lévy's construction along log2(time): W at both ends of the span 2⁻³² … 2³², then at the middle of each half, quarter, …,
    which adds to the straight line between its neighbours l and r a normal of variance ``(m - l)(r - m) / (r - l)``: 6
    halvings down to octaves, 7 more to leaves. In a leaf, time q takes the variance that is left, ``(q - l)(r - q) / (r - l)``,
    from the leaf's one normal. Below the span lies one leaf from 0 on, above it one without end.

    Args:
        times: from 0 on, finite.
    """
    low, high = 2.0**-_OCTAVES, 2.0**_OCTAVES
    q, edges = times.clamp(low, high), _edges(times.device)
    leaves = len(edges) - 1
    leaf = (torch.searchsorted(edges, q, right=True) - 1).clamp(max=leaves - 1)
    level = torch.arange(_LEVELS, device=times.device)[:, None]
    place, size = leaf >> (_LEVELS - level), leaves >> level
    left, middle, right = edges[place * size], edges[place * size + size // 2], edges[(place + 1) * size]
    hat = torch.minimum((q - left) / (middle - left), (right - q) / (right - middle))
    halvings = hat * ((middle - left) * (right - middle) / (right - left)).sqrt()

    left, right = edges[leaf], edges[leaf + 1]
    rest = (q - left) * (right - q) / (right - left)
    below, above = times < low, times > high
    rest = torch.where(below, times * (low - times) / low, torch.where(above, times - high, rest))
    leaf = torch.where(below, 2 * leaves + 1, torch.where(above, 2 * leaves + 2, leaves + leaf))

    first = torch.minimum(times, torch.full_like(times, low)) / low * math.sqrt(low)
    span = (q - low) / (high - low) * math.sqrt(high - low)
    ids = [torch.zeros_like(leaf), torch.full_like(leaf, 2 * leaves), *((1 << level) + place), leaf]
    return torch.stack(ids, 1), torch.stack([first, span, *halvings, rest.sqrt()], 1)


@cache
def _edges(device: torch.device) -> Tensor:
    """Where the leaves begin and end, the span cut evenly in log2(time).

    A table, since powers and logarithms of tensors are rounded one way in the middle of a batch and another at its end.
    """
    ends = _OCTAVES * _LEAVES
    return torch.tensor([2.0 ** (k / _LEAVES) for k in range(-ends, ends + 1)], dtype=torch.float64, device=device)


class NoiseSource:
    """Draws keyed by (seed, sample index, purpose, step).

    Args:
        seed: a whole number, 0 … 2⁶⁴-1.
        indices: which samples the rows of a batch are, shape (B,): whole numbers, 0 … 2⁴⁷-1. A row's draws depend on its
            index only, so sample 17 is the same alone and in any batch.
        device: where the draws are made.
    """

    def __init__(
        self, seed: int, indices: Anything | np.ndarray | Sequence[int], device: torch.device | str = "cpu"
    ) -> None:
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"a seed is a whole number from 0 to 2^64 - 1, not {seed}")
        self.seed = seed
        given = torch.as_tensor(indices)
        if given.is_floating_point() and given.numel():
            raise ValueError("sample indices are whole numbers, and these are not: a fraction would be cut off")
        indices = given.to(torch.int64)
        if indices.ndim != 1:
            raise ValueError(f"indices must have shape (B,), not {tuple(indices.shape)}")
        # Those already on a device are not checked, since that would wait for it.
        if indices.device.type == "cpu" and bool(((indices < 0) | (indices >= 1 << 47)).any()):
            raise ValueError("sample indices are whole numbers from 0 to 2^47 - 1")
        self.indices = indices.to(device)

    @staticmethod
    def wrap(generator: torch.Generator, batch: int) -> NoiseSource:
        """A :class:`torch.Generator` as a source for a batch, for code that brings its own: a stream, so not keyed."""
        return _Wrapped(generator, batch)

    def integers(self, shape: Sequence[int], purpose: str, step: RowSteps = 0) -> Symbols:
        """Uniform 32-bit words, int64 of shape (B, *shape), bitwise the same on every device."""
        return self._words(math.prod(shape), purpose, step).reshape(len(self.indices), *shape)

    def uniform(self, shape: Sequence[int], purpose: str, step: RowSteps = 0) -> Reals64:
        """Uniform draws in the open interval (0, 1), float64 of shape (B, *shape), bitwise the same on every device.

        Each is ``(word + 1/2) / 2³²``, so neither 0 nor 1 ever comes.
        """
        return (self.integers(shape, purpose, step).to(torch.float64) + 0.5) * 2.0**-32

    def normal(
        self, shape: Sequence[int], purpose: str, step: RowSteps = 0, dtype: torch.dtype = torch.float32
    ) -> Reals:
        """Standard normal draws of shape (B, *shape), computed in float64 (Box & Muller 1958) and rounded to ``dtype``.

        Args:
            shape: the event's shape, without the batch.
            purpose: what the draw is for; draws for different purposes are independent.
            step: which step of the walk, an int or (B,) whole numbers, 0 … 2³²-1.
        """
        size = math.prod(shape)
        u = self._words(size + size % 2, purpose, step).to(torch.float64).add_(0.5).mul_(2.0**-32)
        u1, u2 = u.chunk(2, dim=1)
        radius = u1.log_().mul_(-2).sqrt_()
        angle = u2.mul_(2 * math.pi)
        out = torch.empty(u.shape, dtype=dtype, device=u.device)
        first, second = out.chunk(2, dim=1)
        first.copy_(angle.cos().mul_(radius))
        second.copy_(angle.sin_().mul_(radius))
        return out[:, :size].reshape(len(self.indices), *shape)

    def brownian(
        self,
        shape: Sequence[int],
        purpose: str,
        end: RowTimes,
        start: RowTimes = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Reals:
        """``W(end) - W(start)`` of each sample's own Brownian path, W(0) = 0: of shape (B, *shape), computed in float64.

        The path is a function of (seed, sample index, purpose, element), whatever times are asked for, in which order, and how
        many: increments add up, have variance ``|end - start|``, and are independent on intervals that do not overlap. This
        is the law of the path exactly at any times of which no two lie in one leaf, 128 leaves to each octave (a factor of
        2) from 2⁻³² to 2³²: times that grow by 0.6 % or more from one to the next. Within a leaf each single time has its
        exact law, and two of them share one draw (see :func:`brownian_weights`).

        It costs 16 normals for each element, and twice that with a start other than the number 0.

        Args:
            shape, purpose, dtype: as for :meth:`normal`, with whose draws of the same purpose these are not independent.
            end, start: times from 0 on, a number or (B,) for one each.

        Raises:
            ValueError: for a time below 0 or infinite (on the CPU, where looking costs nothing), and for a wrapped generator.
        """
        path = self._path(shape, purpose, end)
        if not (isinstance(start, int | float) and start == 0):
            path -= self._path(shape, purpose, start)
        return path.to(dtype)

    def _path(self, shape: Sequence[int], purpose: str, time: RowTimes) -> Tensor:
        """W at a time, float64 (B, *shape)."""
        device = self.indices.device
        time = torch.as_tensor(time, dtype=torch.float64, device=device).expand(len(self.indices))
        if device.type == "cpu" and not bool(((time >= 0) & (time < math.inf)).all()):
            raise ValueError("a Brownian path has times from 0 on, and no infinite ones")
        nodes, weights = brownian_weights(time)
        path = torch.zeros(len(time), *shape, dtype=torch.float64, device=device)
        group = max(1, _AT_ONCE // max(1, path.numel()))
        for ids, scales in zip(nodes.T.split(group), weights.T.split(group)):
            many = NoiseSource(self.seed, self.indices.repeat(len(ids)), device)
            normals = many.normal(shape, purpose, ids.flatten(), torch.float64).reshape(len(ids), *path.shape)
            # One after the other, since the order of a sum would depend on the size of the groups.
            for drawn, scale in zip(normals, scales):
                path += drawn * scale.reshape(-1, *(1,) * len(shape))
        return path

    def _words(self, size: int, purpose: str, step: int | Tensor) -> Tensor:
        """The first ``size`` words of every row: int64 (B, size)."""
        device, indices = self.indices.device, self.indices[:, None]
        blocks = torch.arange(-(-size // 4), device=device)[None, :]
        step = torch.as_tensor(step, device=device).reshape(-1, 1)
        if step.is_floating_point():
            raise ValueError("a step is a whole number: real times would be cut, and neighbours share their noise")
        # 16 bits of the purpose's checksum, so that a purpose's draws do not depend on which others there are.
        last = ((zlib.crc32(purpose.encode()) & 0xFFFF) << 16) | ((indices >> 32) & 0xFFFF)
        counter = (blocks.expand(len(indices), -1), indices & _MASK, step & _MASK, last)
        words = philox4x32(counter, (self.seed & _MASK, self.seed >> 32))
        return torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(1)[:, :size]


class _Wrapped(NoiseSource):
    """See :meth:`NoiseSource.wrap`."""

    def __init__(self, generator: torch.Generator, batch: int) -> None:
        super().__init__(0, range(batch), generator.device)
        self.generator = generator

    def _path(self, shape: Sequence[int], purpose: str, time: RowTimes) -> Tensor:
        raise ValueError(
            "a generator's stream has no path to come back to: give this sampler a NoiseSource(seed, indices)"
        )

    def _words(self, size: int, purpose: str, step: int | Tensor) -> Tensor:
        shape = (len(self.indices), size)
        return torch.randint(0, 1 << 32, shape, generator=self.generator, device=self.generator.device)


class TwoPoint(NoiseSource):
    """Row i always draws ``signs[i]`` of ±1: averaged over both signs, every cubic has its exact Gaussian mean.

    Args:
        signs: (B,), ±1.
    """

    def __init__(self, signs: Rows) -> None:
        super().__init__(0, range(len(signs)))
        self.signs = signs

    def normal(
        self, shape: Sequence[int], purpose: str, step: RowSteps = 0, dtype: torch.dtype = torch.float32
    ) -> Reals:
        return self.signs.to(dtype).reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()
