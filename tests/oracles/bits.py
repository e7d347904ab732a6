"""Binomial chains of a few bits, by enumerating every path: plain numpy, apart from the library.

A state is a whole number whose binary digits are the bits; a chain is a list of 2^D × 2^D matrices.
"""

from __future__ import annotations

import itertools

import numpy as np


def states(dims: int) -> np.ndarray:
    """All joint values of D bits, (2^D, D)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=dims)))


def step(dims: int, kept: float, pi: float) -> np.ndarray:
    """``q(x_t | x_s)`` of all bits together, rows x_s and columns x_t, when a bit is kept with probability ``kept``."""
    all_states = states(dims)
    p_one = kept * all_states + pi * (1 - kept)
    return np.array([[np.prod(np.where(x == 1, p, 1 - p)) for x in all_states] for p in p_one])


def factorised_reverse(data: np.ndarray, to_s: np.ndarray, s_to_t: np.ndarray) -> np.ndarray:
    """``prod_i q(x_s,i | x_t)``, rows x_t and columns x_s: the best that a reverse step of independent bits can be.

    Args:
        data: the probabilities of x0, (2^D,). to_s, s_to_t: the kernels 0 to s and s to t.
    """
    dims = int(np.log2(len(data)))
    all_states = states(dims)
    joint = (data @ to_s)[:, None] * s_to_t  # (x_s, x_t)
    given_t = joint / joint.sum(0)
    p_one = given_t.T @ all_states  # (x_t, D)
    return np.array([[np.prod(np.where(x == 1, p, 1 - p)) for x in all_states] for p in p_one])


def log_likelihood(prior: np.ndarray, reverse: list[np.ndarray]) -> np.ndarray:
    """``log p(x0)`` of the chain p(x_T) p(x_{T-1}|x_T) … p(x_0|x_1), summed over every path, (2^D,).

    Args:
        reverse: ``p(x_{t-1} | x_t)`` for t = T … 1, rows x_t.
    """
    p = prior
    for kernel in reverse:
        p = p @ kernel
    return np.log(p)


def bound(x0: int, kernels: list[np.ndarray], prior: np.ndarray, reverse: list[np.ndarray]) -> float:
    """``E_q[log q(x_1 … x_T | x0) - log p(x_0 … x_T)]`` by the sum over every path from x0, nats.

    Args:
        kernels: ``q(x_t | x_{t-1})`` for t = 1 … T. reverse: ``p(x_{t-1} | x_t)`` for t = 1 … T.
    """
    total = 0.0
    for path in itertools.product(range(len(prior)), repeat=len(kernels)):
        chain = (x0, *path)
        q = np.prod([kernel[a, b] for kernel, a, b in zip(kernels, chain, chain[1:])])
        if q == 0:
            continue
        p = prior[chain[-1]] * np.prod([kernel[b, a] for kernel, a, b in zip(reverse, chain, chain[1:])])
        total += q * (np.log(q) - np.log(p))
    return float(total)
