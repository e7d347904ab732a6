"""What the discrete chains share: each value is kept with probability a, or else drawn anew from where the chain ends."""

from __future__ import annotations

import torch

from unstir.schedules import Schedule
from unstir.shapes import Column64


def log_kept(schedule: Schedule, s: Column64, t: Column64) -> tuple[Column64, Column64]:
    """``log a`` and ``log(1 - a)`` for ``a = alpha_bar_t / alpha_bar_s``, the probability that x_s was kept until t.

    Float64, of the times' shape; -inf where alpha_bar_t = 0, respectively where s and t are too close to tell apart.

    Raises:
        ValueError: for a schedule without alpha_bar, whose variance is not preserved.
    """
    log_a = schedule.log_alpha_bar(t) - schedule.log_alpha_bar(s)
    rest = -torch.expm1(log_a)
    if not rest.requires_grad:
        return log_a, rest.log()
    # A schedule that learns keeps everything at s = t = 0 whatever it learns, but the logarithm's slope there is infinite.
    some = rest > 0
    return log_a, torch.where(some, torch.where(some, rest, 1.0).log(), -torch.inf)
