"""Rules for the variance of the reverse step p(x_s | x_t)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unstir.denoisers.prediction import VarianceRule
from unstir.processes import Gaussian, Process
from unstir.shapes import LeadingB, Raw

NAMES = ("small", "large", "learned", "free", "analytic")
LEARNED = ("learned", "free")
"""Those for which a network's output has a second half."""


def rule(
    name: str | Callable[..., Tensor], process: Process, like: LeadingB, spread: Raw | None = None
) -> VarianceRule:
    """The rule that a name stands for.

    - ``small``: the posterior's, ``s2 sigma_s² / sigma_t²``, beta-tilde_t in the chain [HO20 §3.2];
    - ``large``: the step's, ``s2``, beta_t in the chain [HO20 §3.2];
    - ``learned``: the geometric interpolation ``exp(f log large + (1 - f) log small)`` with ``f = (spread + 1)/2``
      (Nichol & Dhariwal 2021, eq. 15): spread = -1 gives small, +1 large;
    - ``free``: ``sigmoid(spread + logit s2)``, anything from 0 to 1 [SD15 App. D.2]; spread = 0 gives large;
    - ``analytic``: the best for data that have to be seen first, by ``fit_variance``: until then it says so when asked;
    - a callable ``(s, t) -> variance``, of shape (B,) or one that meets x_t.

    Args:
        like: the x_t that the variance will meet, (B, *E).
        spread: for ``learned`` and ``free``, the network's second half, (B, *E).
    """
    if callable(name):

        def from_callable(s: Tensor, t: Tensor) -> Tensor:
            value = name(s, t)
            # A value for each row is a column: left as (B,), it would broadcast along the sample instead.
            return value.reshape(-1, *(1,) * (like.ndim - 1)) if value.ndim == 1 else value

        return from_callable

    if name not in NAMES:
        raise ValueError(f"no variance rule is called {name!r}; there are {', '.join(NAMES)}")

    def variance(s: Tensor, t: Tensor) -> Tensor:
        if name == "analytic":
            raise ValueError(
                "the analytic variance is found from data: call unstir.denoisers.fit_variance(denoiser, x0) first"
            )
        assert isinstance(process, Gaussian)
        small, large = process.variances(s, t, like)
        if name == "small":
            return small
        if name == "large":
            return large
        assert spread is not None
        if name == "free":
            return torch.sigmoid(spread + torch.logit(large).to(spread.dtype))
        f = (spread + 1) / 2
        # At s = 0 the posterior is a point and log small is -inf: any f < 1 must give 0, f = 1 not NaN, and f > 1, which
        # nothing forbids a network, not infinity.
        log_ratio = (small / large).log().clamp(min=-1e4).to(spread.dtype)
        exponent = (1 - f) * log_ratio
        return large.to(spread.dtype) * torch.where(small == 0, exponent.clamp(max=0), exponent).exp()

    return variance
