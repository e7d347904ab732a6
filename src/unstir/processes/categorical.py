"""Categorical diffusion: chains of classes that fade into uniform noise or behind a mask, for any pair of times s < t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from unstir import distributions
from unstir.processes.base import Process
from unstir.processes.keeping import log_kept
from unstir.schedules import Schedule, Time
from unstir.shapes import Data, Logits, Raw, Reals, RowTimes, States

KINDS = ("uniform", "absorbing")


class Categorical(Process):
    """The chain ``q(x_t = k | x_s) = a [k = x_s] + (1 - a) pi_k`` with ``a = alpha_bar_t / alpha_bar_s``.

    Each value is kept with probability a, or else drawn anew from pi (Austin et al. 2021, §3.1, App. A): over the K classes
    alike (``uniform``, S = K states), or always a mask (``absorbing``, S = K + 1 states, the mask being state K). A kernel is a
    diagonal plus a matrix of rank one, so sums over x0 need S numbers for each element, never S².

    Data is int64. Logits are float64, or in the dtype of the distribution of x0 where one is given.

    Args:
        schedule: its ``alpha_bar`` is the probability that a value of x0 is still kept at t. An absorbing chain needs one
            that ends at ``alpha_bar_T = 0``: what is unmasked at T is impossible under the prior, and its KL is inf.
        classes: K, at least 2.
        kind: ``uniform`` or ``absorbing``.

    Raises:
        ValueError: if there are fewer than two classes, no such kind, or no alpha_bar. Every method: if the data is not int64,
            or (on the CPU, where looking costs nothing) holds other numbers than the chain's.
    """

    decoder = "reverse"
    prediction = "logits"
    sampler = "ancestral"

    def __init__(self, schedule: Schedule, classes: int, kind: str = "uniform") -> None:
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise ValueError(f"a categorical chain needs a whole number of classes, at least 2, not {classes!r}")
        if kind not in KINDS:
            raise ValueError(f"no categorical chain is called {kind!r}; there are {' and '.join(KINDS)}")
        super().__init__(schedule)
        schedule.log_alpha_bar(0)  # a schedule without one says so here
        self.classes, self.kind = classes, kind
        self.states = classes + (kind == "absorbing")
        log_pi = torch.full((self.states,), -math.log(classes), dtype=torch.float64)
        if kind == "absorbing":
            log_pi = torch.full_like(log_pi, -torch.inf)
            log_pi[classes] = 0
        self._log_pi = log_pi

    def step(self, x_s: Data, s: RowTimes, t: RowTimes) -> distributions.Categorical:
        """``q(x_t | x_s)``: x_s with probability a, else drawn from pi; logits (B, *E, S)."""
        return self._from(self._known(x_s, self.states), s, t)

    def marginal(self, x0: Data, t: RowTimes) -> distributions.Categorical:
        """``q(x_t | x0)``: x0 with probability alpha_bar_t, else drawn from pi; at t = 0 a point at x0."""
        return self._from(self._known(x0, self.classes), 0, t)

    def posterior(
        self, x_t: Data, x0: Data | distributions.Distribution, s: RowTimes, t: RowTimes
    ) -> distributions.Categorical:
        """``q(x_s | x_t, x0) ∝ q(x_t | x_s) q(x_s | x0)`` (Austin et al. 2021, eq. 3); logits (B, *E, S).

        When x0 is itself a distribution p(x0), over the K classes or the S states, the posterior is averaged over it:
        ``sum_x0 p(x0) q(x_s | x_t, x0)``. Values of x0 that x_t rules out are dropped and the others renormalised, so what a mask
        does not hide stays as it is. That is ``q(x_s | x_t)`` exactly when p(x0) is ``q(x0 | x_t)``. At s = 0 it is x0 itself.
        """
        x_t = self._known(x_t, self.states)
        if isinstance(x0, Tensor):
            marginal = self._from(self._known(x0, self.classes), 0, s).logits
            return distributions.Categorical(self._likelihood(x_t, s, t, marginal.dtype) + marginal)
        log_p = self._log_probs(x0)
        log_kernel = self._likelihood(x_t, 0, t, log_p.dtype)
        # With w = p(x0) / q(x_t|x0) the sum over x0 is q(x_t|x_s) (alpha_bar_s w(x_s) + (1 - alpha_bar_s) pi(x_s) sum w).
        log_w = torch.where(log_kernel == -torch.inf, -torch.inf, log_p - log_kernel)
        return distributions.Categorical(
            self._likelihood(x_t, s, t, log_p.dtype) + self._push(log_w, log_w.logsumexp(-1, keepdim=True), s)
        )

    def joint_posterior(
        self, x_t: Data, x0: distributions.Distribution, s: RowTimes, t: RowTimes
    ) -> distributions.Categorical:
        """``∝ sum_x0 q(x_s, x_t | x0) p(x0)``, the reverse step of Austin et al. 2021, eq. 4; logits (B, *E, S).

        It takes p(x0) for what was known before x_t was seen, so with ``p(x0) = q(x0 | x_t)`` it counts x_t twice, and is another
        thing than :meth:`posterior`. The two agree for a point x0, and in the absorbing chain.
        """
        x_t, log_p = self._known(x_t, self.states), self._log_probs(x0)
        likelihood = self._likelihood(x_t, s, t, log_p.dtype)
        return distributions.Categorical(likelihood + self._push(log_p, log_p.new_zeros(()), s))

    def prior(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> distributions.Categorical:
        """``p(x_T) = pi``: uniform over the classes, or a point at the mask; for a batch of the given shape (B, *E)."""
        return distributions.Categorical(self._log_pi.to(device, dtype).expand(*shape, self.states))

    def step_entropy(self, x0: Data, s: RowTimes, t: RowTimes) -> Reals:
        of_state = [self.step(torch.full_like(x0, state), s, t).entropy() for state in range(self.states)]
        return (self.marginal(x0, s).probs * torch.stack(of_state, -1)).sum(-1)

    def describe(self) -> dict[str, Any]:
        return {"name": "categorical", "classes": self.classes, "kind": self.kind}

    def encode(self, x_t: Data, dtype: torch.dtype = torch.float32) -> Raw:
        """What a network sees of x_t (B, C, …): one channel of 0 and 1 for each state, (B, C·S, …), the states of one c together."""
        states = one_hot(self._known(x_t, self.states), self.states)
        return states.movedim(-1, 2).flatten(1, 2).to(dtype)

    def x0_of(self, raw: Raw) -> distributions.Categorical:
        """What a network's raw output (B, C·K, …) says about x0: its logits (B, C, …, S), -inf for a mask.

        Raises:
            ValueError: if there are not K channels for each c.
        """
        if raw.shape[1] % self.classes:
            raise ValueError(f"{raw.shape[1]} channels do not divide among {self.classes} classes")
        return distributions.Categorical(self._padded(raw.unflatten(1, (-1, self.classes)).movedim(2, -1)))

    def states_of(self, x0: Data) -> States:
        """Which class each element has: bool (N, *E, K)."""
        return x0[..., None] == torch.arange(self.classes, device=x0.device)

    def logits_of(self, log_masses: Logits) -> Raw:
        """What a network would say for log masses (B, C, …, K): the inverse of :meth:`x0_of`."""
        return log_masses.movedim(-1, 2).flatten(1, 2)

    def features(self, shape: Sequence[int]) -> tuple[int, int]:
        """A network's channels, in and out, for an event of the given shape (C, …): C·S and C·K."""
        return shape[0] * self.states, shape[0] * self.classes

    def _from(self, x: Tensor, s: Time, t: Time) -> distributions.Categorical:
        """``q(x_t | x_s)`` over x_t, for x_s = x."""
        log_a, log_new = self._kept(s, t, x)
        moved = log_new + self._log_pi.to(x.device)
        return distributions.Categorical(torch.where(self._is(x), _log_add(log_a, moved), moved))

    def _likelihood(self, x_t: Tensor, s: Time, t: Time, dtype: torch.dtype) -> Tensor:
        """``log q(x_t | x_s)`` over x_s, (B, *E, S)."""
        log_a, log_new = self._kept(s, t, x_t)
        moved = log_new + self._log_pi.to(x_t.device)[x_t][..., None]
        return torch.where(self._is(x_t), _log_add(log_a, moved).to(dtype), moved.to(dtype))

    def _push(self, log_p: Tensor, log_total: Tensor, s: Time) -> Tensor:
        """``log sum_x0 p(x0) q(x_s | x0)`` over x_s, for a p that sums to the total: (B, *E, S), in p's dtype."""
        log_a, log_new = self._kept(0, s, log_p[..., 0])
        fresh = (log_new + self._log_pi.to(log_p.device)).to(log_p.dtype)
        return _log_add(log_a.to(log_p.dtype) + log_p, fresh + log_total)

    def _kept(self, s: Time, t: Time, like: Tensor) -> tuple[Tensor, Tensor]:
        """``log a, log(1 - a)`` with a last dimension for the states: float64, (B, 1, …, 1)."""
        log_a, log_new = log_kept(self.schedule, *self.columns(s, t, like))
        return log_a[..., None], log_new[..., None]

    def _is(self, x: Tensor) -> Tensor:
        return x[..., None] == torch.arange(self.states, device=x.device)

    def _log_probs(self, x0: distributions.Distribution) -> Tensor:
        if not isinstance(x0, distributions.Categorical):
            raise ValueError(f"x0 is classes or a Categorical distribution of them, not {type(x0).__name__}")
        return self._padded(x0.logits).log_softmax(-1)

    def _padded(self, logits: Tensor) -> Tensor:
        """Logits over the K classes or the S states as those over the S states: a mask is never clean data."""
        if logits.shape[-1] not in (self.classes, self.states):
            raise ValueError(f"x0 has {self.classes} classes, and {logits.shape[-1]} logits were given for it")
        return pad(logits[..., : self.classes], (0, self.states - self.classes), value=-torch.inf)

    def _known(self, x: Tensor, states: int) -> Tensor:
        if x.dtype != torch.int64:
            raise ValueError(
                f"categorical data is whole numbers of dtype int64, not {x.dtype}: convert it with .long()"
            )
        # On a device the check would wait for it.
        if x.device.type == "cpu" and not bool(((x >= 0) & (x < states)).all()):
            raise ValueError(f"this chain's data lies in 0 … {states - 1}, and some of it does not")
        return x


def _log_add(a: Tensor, b: Tensor) -> Tensor:
    """``log(e^a + e^b)``, whose gradient stays finite where both are -inf; torch's gives NaN there."""
    nothing = (a == -torch.inf) & (b == -torch.inf)
    total = torch.logaddexp(torch.where(nothing, 0.0, a), torch.where(nothing, 0.0, b))
    return torch.where(nothing, -torch.inf, total)
