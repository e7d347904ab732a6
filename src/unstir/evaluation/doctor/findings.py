"""What a look at a run gives: figures, and where something is wrong a cause in words and what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from torch import Tensor

from unstir.bound import mean_interval

ALARM = 1e-3
"""The chance that one look alone finds by sampling error what is not there; over all looks about one run in a hundred."""

MATERIAL = 0.05
"""What part of a loss must be at stake for a sentence.

Losses are in units of what data of one variance in all directions would leave unknown. There a loss that is larger by the
share d costs at most d/2 nats/dim of likelihood for each unit of log-SNR, since ``KL = 1/2 integral SNR · excess d(log SNR)``
and ``SNR · unit <= 1``: a twentieth over the ten units between clean and noise is a quarter of a nat at the very most. A
network that is well trained differs from one that is better trained by as much.
"""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        name: one word for programs. text: what is wrong. advice: what to do. figures: what shows it.
    """

    name: str
    text: str
    advice: str
    figures: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "text": self.text, "advice": self.advice, "figures": plain(self.figures)}


@dataclass(frozen=True)
class Look:
    """One thing that was looked at.

    Args:
        name: of what was looked at. said: the figures in words. figures: the figures. finding: what is wrong, if anything is.
        rest: what of the loss is left once the fault is undone, where that can be tried: the less, the surer is the cause.
    """

    name: str
    said: str
    figures: dict[str, Any]
    finding: Finding | None = None
    rest: float = 1.0

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "said": self.said, "figures": plain(self.figures)}


@dataclass(frozen=True)
class Gain:
    """How far losses at several levels fall when something is changed: ``d = mean_l log(B_l / A_l)`` with B_l, A_l their means over
    items, so that each level counts by its own size; before, after are the geometric means.

    By the delta method d moves with item i as ``f_i = mean_l (B_li / B_l - A_li / A_l)``: the interval is that of the f_i's mean, and
    what items share, as that some are harder, is not in it.

    Args:
        half: of d's interval. each: f, (N,). z: how many standard errors it has.
    """

    before: float
    after: float
    half: float
    each: Tensor = field(repr=False)
    z: float

    @classmethod
    def of(cls, before: Tensor, after: Tensor, tries: int = 1) -> Gain:
        """Of the same items' losses, (levels, N).

        Args:
            tries: among how many changes this one was chosen (Bonferroni).
        """
        b, a = (x.mean(1, keepdim=True).clamp(min=1e-12) for x in (before, after))
        each, z = (before / b - after / a).mean(0), surely(tries)
        return cls(float(b.log().mean().exp()), float(a.log().mean().exp()), mean_interval(each, z)[1], each, z)

    @property
    def fall(self) -> float:
        """d."""
        return math.log(self.before / self.after)

    @property
    def certain(self) -> bool:
        """Whether the loss surely falls by more than the share :data:`MATERIAL`."""
        return self.fall - self.half > MATERIAL

    def below(self, part: float, room: Gain) -> bool:
        """Whether this fall is surely less than a part of another one of the same items."""
        return part * room.fall - self.fall > mean_interval(part * room.each - self.each, self.z)[1]

    def to_json(self) -> dict[str, float]:
        return {"before": self.before, "after": self.after, "half": self.half}


def surely(tries: int = 1) -> float:
    """How many standard errors a difference must have for :data:`ALARM`, two-sided, over so many tries."""
    return NormalDist().inv_cdf(1 - ALARM / (2 * tries))


def plain(value: Any) -> Any:
    """The same in JSON types: what is not finite, which JSON does not know, is None."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
