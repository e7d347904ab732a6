"""How uncertain a reverse step can be: the bounds of [SD15] on H_q(x_{t-1} | x_t), known before anything is learned."""

from __future__ import annotations

import torch
from torch import Tensor

from unstir.bound.terms import nats
from unstir.processes import Process
from unstir.shapes import Data, Vector64


@torch.no_grad()
def entropy_bounds(process: Process, x0: Data) -> tuple[Vector64, Vector64]:
    """``H(x_t|x_{t-1}) + H(x_{t-1}|x0) - H(x_t|x0) <= H(x_{t-1}|x_t) <= H(x_t|x_{t-1})`` [SD15 eqs. 24, 36].

    For the Gaussian chain they are ``D/2 log(2 pi e v)`` with v = beta-tilde_t below and beta_t above: the two variances that
    [HO20 §3.2] chooses between. The upper one holds where :func:`upper_bound_holds`.

    Args:
        x0: (B, *E), data to average over.

    Returns:
        lower and upper for t = 1 … T, nats per whole sample, float64 (T,). At t = 1 real numbers have lower = -inf.
    """
    if not len(x0):
        raise ValueError("the entropies are averages over data, and need at least one sample")
    x0 = _exact(x0)
    lower, upper = [], []
    at_s = _entropy(process, x0, 0)
    for t in range(1, process.T + 1):
        step = nats(process.step_entropy(x0, t - 1, t)).mean()
        at_t = _entropy(process, x0, t)
        lower.append(step + at_s - at_t)
        upper.append(step)
        at_s = at_t
    return torch.stack(lower), torch.stack(upper)


def upper_bound_holds(process: Process, x0: Data) -> bool:
    """``E[-log pi(x0)] <= H(pi)``: the chain then only gains entropy, which is what the upper bound of [SD15 App. A] needs.

    ``H(x_t) = E[-log pi(x_t)] - KL(x_t ‖ pi)``: the KL falls along any chain that ends at pi, and the first term moves in a
    straight line in alpha_bar from ``E[-log pi(x0)]`` to ``H(pi)``. For the Gaussian chain this says ``E|x0|² <= D``; for the
    binomial one that pi = 1/2, or the data's mean activity, or lies between the two. The condition suffices; without it a
    single step may still gain entropy. An absorbing chain, which ends knowing nothing but a mask, never meets it.
    """
    prior = process.prior(x0.shape, torch.float64, x0.device)
    score = -nats(prior.log_prob(_exact(x0))).mean()
    # Data scaled to unit variance meet it as an equality: what rounding adds must not count.
    return bool(score <= nats(prior.entropy()).mean() * (1 + 1e-9) + 1e-9)


def _exact(x0: Tensor) -> Tensor:
    return x0.double() if x0.is_floating_point() else x0


def _entropy(process: Process, x0: Tensor, t: int) -> Tensor:
    """``H(x_t | x0)`` averaged over x0, nats per whole sample."""
    return nats(process.marginal(x0, t).entropy()).mean()
