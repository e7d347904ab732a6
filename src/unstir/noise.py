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

import numpy as np
import torch
from torch import Tensor

from unstir.shapes import Anything, Reals, Reals64, Rows, RowSteps, Symbols, Words

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)

Counter = tuple[Words, Words, Words, Words]


def philox4x32(counter: Counter, key: tuple[int, int], rounds: int = 10) -> Counter:
    """Philox4x32: four 32-bit words from a 128-bit counter and a 64-bit key.

    Args:
        counter: four int64 tensors that broadcast together, each holding words in 0 … 2³²-1.
        key: two words in 0 … 2³²-1.

    Returns:
        Four int64 tensors of words in 0 … 2³²-1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The 64-bit products wrap around in int64; their bits are those of the unsigned product all the same.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, high1 = (p0 >> 32) & _MASK, (p1 >> 32) & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & _MASK, high0 ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


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
        u = (self._words(size + size % 2, purpose, step).to(torch.float64) + 0.5) * 2.0**-32
        u1, u2 = u.chunk(2, dim=1)
        radius = u1.log_().mul_(-2).sqrt_()
        angle = u2.mul_(2 * math.pi)
        out = torch.cat([radius * angle.cos(), radius * angle.sin_()], dim=1)
        return out[:, :size].to(dtype).reshape(len(self.indices), *shape)

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
