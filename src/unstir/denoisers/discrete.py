"""What networks say about bits and symbols: logits of x0, or of the reverse step itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from unstir.denoisers.parameterisation import Parameterisation, time_dtype
from unstir.denoisers.prediction import PredictionBase, VarianceRule
from unstir.distributions import Bernoulli, Distribution
from unstir.processes import Binomial, Categorical
from unstir.shapes import Data, LeadingB, Raw, Reals, Rows, Rows64


class _InLogits(PredictionBase):
    """A prediction given by logits, whose x0 is a distribution."""

    logits: Raw

    @property
    def likeliest(self) -> Data:
        return self.x0.mode

    def distortion(self, x0: Data) -> Reals:
        return (self.likeliest != x0).double()

    @property
    def given(self) -> dict[str, LeadingB]:
        return {"logits": self.logits}


@dataclass(frozen=True)
class DiscretePrediction(_InLogits):
    """A prediction about bits or symbols: a distribution over x0, element by element.

    ``p(x_s | x_t) = sum_x0 p(x0 | x_t) q(x_s | x_t, x0)``, exact when p(x0 | x_t) is; with ``joint``
    ``∝ sum_x0 p(x0 | x_t) q(x_s, x_t | x0)`` instead (Austin et al. 2021, eq. 4), which is another thing.

    Args:
        logits: of x0, laid out as a network gives them: (B, *E) for bits, (B, C·K, …) for symbols.
    """

    process: Binomial | Categorical
    logits: Raw
    joint: bool = False

    @property
    def x0(self) -> Any:
        return self.process.x0_of(self.logits)

    def reverse(self, s: Rows) -> Distribution:
        average = self.process.joint_posterior if self.joint else self.process.posterior
        return average(self.x_t, self.x0, s, self.t)


class Logits(Parameterisation):
    """Logits of p(x0 | x_t), learned by their cross-entropy (Austin et al. 2021, §§3.3, 3.4).

    The network sees the states as the process encodes them: bits as ±1, symbols one-hot.

    Args:
        joint: read the reverse step by D3PM's eq. 4, see :class:`DiscretePrediction`.
    """

    name = "logits"
    processes = (Binomial, Categorical)
    process: Binomial | Categorical

    def __init__(self, process: Binomial | Categorical, joint: bool = False) -> None:
        super().__init__(process)
        self.joint = joint

    def inputs(self, x_t: Data, t: Rows) -> tuple[Raw, Rows]:
        seen = self.process.encode(x_t)
        return seen, (t - 1).to(time_dtype(seen))

    def read(self, raw: Raw, spread: Raw | None, x_t: Data, t: Rows, variance: VarianceRule) -> DiscretePrediction:
        return DiscretePrediction(self.process, x_t, t, raw, self.joint)

    def error(self, raw: Raw, x0: Data, eps: Reals, t: Rows) -> Reals:
        """``-log p(x0 | x_t)``, nats."""
        return -self.process.x0_of(raw).log_prob(x0)

    def x0_error(self, t: Rows) -> Rows64:
        return torch.ones_like(t, dtype=torch.float64)

    def describe(self) -> str | dict[str, Any]:
        return {"name": self.name, "joint": self.joint}


@dataclass(frozen=True)
class ReversePrediction(_InLogits):
    """The next bits themselves: ``p(x_{t-1} = 1 | x_t)``, said without a detour over x0 [SD15 Table App.1].

    Args:
        logits: of x_{t-1} = 1, (B, *E).
    """

    process: Binomial
    logits: Reals

    @property
    def x0(self) -> Bernoulli:
        """The clean bits that would make this step: ``p = sum_x0 p(x0) q(x_{t-1} | x_t, x0)`` solved for p(x0 = 1), cut to 0 … 1.

        Where the step is the same whatever x0 is, it says nothing of x0, and p is the prior's pi.
        """
        # A difference of two near numbers: in float32 little of it would be left.
        x_t = self.x_t.double()
        high, low = (self.process.posterior(x_t, torch.full_like(x_t, bit), self.t - 1, self.t).mean for bit in (1, 0))
        silent = high == low
        p = ((self.logits.double().sigmoid() - low) / torch.where(silent, 1.0, high - low)).clamp(0, 1)
        p = torch.where(silent, self.process.pi, p)
        return Bernoulli(Bernoulli.from_probs(p).logits.to(self.logits.dtype))

    def reverse(self, s: Rows) -> Bernoulli:
        """``p(x_{t-1} | x_t)``.

        Raises:
            ValueError: for another s than t - 1: of longer steps this prediction says nothing.
        """
        if not bool((s == self.t - 1).all()):
            raise ValueError("this network speaks of the step from t to t - 1 alone: walk the whole chain, steps = T")
        return Bernoulli(self.logits)


class Reverse(Parameterisation):
    """``p(x_{t-1} = 1 | x_t) = sigmoid(raw)``, bit by bit: the binomial half of [SD15] (Table App.1, f_b).

    Args:
        offset: add the logit of the forward kernel read backwards, ``T_pi(x_{t-1} | x_t; beta_t)``, which is the right step for data
            that are the prior's own. An untrained network makes that step, and at a long chain's small beta its output is a
            small correction instead of a copy of x_t.
    """

    name = "reverse"
    processes = (Binomial,)
    consecutive = True
    process: Binomial

    def __init__(self, process: Binomial, offset: bool = True) -> None:
        super().__init__(process)
        self.offset = offset

    def inputs(self, x_t: Data, t: Rows) -> tuple[Raw, Rows]:
        return self.process.encode(x_t), (t - 1).to(time_dtype(x_t))

    def read(self, raw: Raw, spread: Raw | None, x_t: Data, t: Rows, variance: VarianceRule) -> ReversePrediction:
        if self.offset:
            raw = raw + self.process.step(x_t, t - 1, t).logits
        return ReversePrediction(self.process, x_t, t, raw)

    def describe(self) -> str | dict[str, Any]:
        return {"name": self.name, "offset": self.offset}
