"""Held-out likelihood by the variational bound, with its parts and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.bound import mean_interval
from unstir.data import Split
from unstir.data.unit import unit_of
from unstir.errors import UserError
from unstir.evaluation import chains
from unstir.processes import Gaussian
from unstir.runs import Model
from unstir.schedules import PRIOR_KL_LIMIT

PARTS = {
    "prior": "KL of q(x_T | x0) from the prior",
    "steps": "sum of the KL of the reverse steps",
    "decoder": "-log p(x0 | x_1)",
}
"""What the parts of the total are, whatever the data: in the table and in the report."""
_PILOT = (
    64  # items, whose spread is to tell how many more it takes: of fewer, skewed values often show too little of it
)


@dataclass(frozen=True)
class Likelihood:
    """The mean bound over held-out items, in ``unit``.

    Args:
        total, half_width: mean and half of the 95 % interval of the mean, from the spread over items: infinite for one item.
        prior, steps, decoder: the parts of the total.
        given_labels: whether each item's class was given.
        items, calls: how many items, and network calls for each.
        chain: how many steps the chain has: T, unless it is one of some of its times.
        times: the chain's times, rising, where they are not all of 1 … T. spacing: how they were chosen.
        variance: of the reverse step, where it is not the run's own.
        prior_report: one sentence where the chain leaves more than 1e-3 bits/dim behind at T.
        within: half of the interval that was wanted, where one was.
    """

    unit: str
    total: float
    half_width: float
    prior: float
    steps: float
    decoder: float
    items: int
    calls: int
    chain: int
    weights: str
    given_labels: bool
    per_step: tuple[float, ...]
    """Each step's share of ``steps``, by rising t from the second time on; of an estimate, each stratum's."""
    times: tuple[float, ...] = ()
    spacing: str = ""
    variance: str = ""
    prior_report: str | None = None
    within: float | None = None

    @property
    def described(self) -> str:
        """How the sum over steps was taken."""
        if self.calls == self.chain:
            return f"all {self.chain} terms"
        return f"estimated from {self.calls} network calls an item, without bias, of a chain of {self.chain} steps"

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; what is infinite, which JSON does not know, is None."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return {key: None if value == math.inf else value for key, value in values.items()}

    def table(self) -> str:
        chosen = {
            "best": f"the best {self.chain} steps, found on training data:",
        }.get(self.spacing, f"{self.chain} steps, {self.spacing}:")
        return "\n".join(
            [
                f"{self.unit:<10} {self.total:8.4f} ± {self.half_width:.4f}   (95 % interval, {self.items} held-out items)",
                *(f"  {name:<8} {getattr(self, name):8.4f}   {what}" for name, what in PARTS.items()),
                *(
                    [
                        f"the interval wanted is ± {self.within:g}; all {self.items:,} held-out items give ± {self.half_width:.2g}"
                    ]
                    if self.within is not None and self.half_width > self.within
                    else ()
                ),
                f"an upper bound: {self.described}; {self.weights} weights"
                + ("; given each item's class" if self.given_labels else ""),
                *([f"{chosen} t = {', '.join(f'{t:.6g}' for t in self.times)}"] if self.times else ()),
                *([f"reverse variance: {self.variance}"] if self.variance else ()),
                *([self.prior_report] if self.prior_report else ()),
            ]
        )


def measure(
    model: Model,
    heldout: Split,
    *,
    images: int = 256,
    within: float | None = None,
    terms: int | None = 100,
    times: Sequence[int | float] | None = None,
    spacing: str = "",
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """The bound on items spread evenly over a split: bits/dim for 8-bit data, else bits per item in the data's own units.

    Args:
        images: how many items; with ``within`` those whose spread tells how many more it takes, 64 at least.
        within: half of the interval that is wanted, in the result's unit. In two stages (Stein 1945): with the spread s of n items
            ``max(n, ⌈(t s / within)²⌉)`` are measured, t Student's quantile of n - 1 degrees of freedom. The half width is the larger
            of ``t s / sqrt`` of their number, which keeps its promise for values that are normal although their number was chosen
            on the way, and that of the mean of them all: the first n of skewed values may have shown too little spread. Where
            that is still above ``within`` it goes on in the same way with the spread of them all (Chow & Robbins 1965). Where
            there are not so many, it is all of them, and the interval theirs.
        times: of the chain, rising to T, instead of all of 1 … T. spacing: how they were chosen, for the table.
        given_labels: bound -log p(x | class) with each item's class instead of -log p(x), the figure others publish.
        terms: None for all T terms; a number for an unbiased estimate from at most so many, whose error is in the interval.
        progress: called with (network calls done, all).
    """
    unit, labels = unit_of(model.spec), heldout.labels if given_labels else None
    index = heldout.spread(images) if within is None else _evenly(len(heldout))
    pilot = min(images if within is None else max(images, _PILOT), len(index))
    if within is not None and (not within > 0 or pilot < 2):
        raise UserError(f"an interval of ± {within:g} is wanted from {pilot} items: it takes 2, and must be above 0")
    told = progress or (lambda calls, of: None)
    taken: list[Tensor] = []  # of each batch: nats of the prior, the decoder and the steps
    squares = 0.0

    def look(begin: int, end: int) -> Tensor:
        """Also at items begin … end - 1; the totals so far. Noise is keyed by the place in the order, whatever the stage and batch."""
        nonlocal squares
        starts = range(begin, end, batch)
        batches = len(taken) + len(starts)
        for done, start in enumerate(starts, len(taken)):
            rows = index[start : min(start + batch, end)]
            bound = model.bound(
                heldout.x[rows], labels[rows] if labels is not None else None, seed=seed, first=start, terms=terms, times=times,
                progress=lambda calls, each, done=done: told(done * each + calls, batches * each),
            )  # fmt: skip
            taken.append(torch.cat([bound.prior[:, None], bound.decoder[:, None], bound.steps], 1).cpu())
            squares += float(model.inside(heldout.x[rows]).double().square().sum())
        return unit.of(torch.cat(taken).sum(1))

    total, half_width = mean_interval(look(0, pilot))
    if within is not None and half_width > within:
        spread = half_width * math.sqrt(pilot)  # t s
        seen = pilot
        while half_width > within and seen < len(index):
            ratio = half_width * math.sqrt(seen) / within
            # The ratio may be infinite, or its square too large for a number.
            wanted = math.ceil(ratio**2) if ratio <= math.sqrt(len(index)) else len(index)
            begin, seen = seen, min(max(wanted, seen + 1), len(index))
            total, half_width = mean_interval(look(begin, seen))
            if seen < len(index):
                half_width = max(half_width, spread / math.sqrt(seen))
    nats, dims = torch.cat(taken), math.prod(model.spec.shape)
    report = prior_report(model, float(nats[:, 0].mean()) / (dims * math.log(2)), squares / (len(nats) * dims))
    nats[:, 1] += unit.shift
    means = unit.per_nat * nats.mean(0)
    return Likelihood(
        unit=unit.name,
        total=total,
        half_width=half_width,
        prior=float(means[0]),
        steps=float(means[2:].sum()),
        decoder=float(means[1]),
        items=len(nats),
        calls=nats.shape[1] - 1,
        chain=model.denoiser.process.T if times is None else len(times),
        weights=model.weights,
        given_labels=labels is not None,
        per_step=tuple(means[2:].tolist()),
        times=() if times is None else tuple(times),
        spacing=spacing,
        variance=chains.described(model),
        prior_report=report,
        within=within,
    )


def _evenly(number: int) -> np.ndarray:
    """All of 0 … number - 1 in an order whose every beginning is spread evenly: by the fractions of i times the golden ratio, whose
    gaps are of three lengths at most (Sós 1958)."""
    return np.argsort(np.arange(number) * ((math.sqrt(5) - 1) / 2) % 1, kind="stable")


def prior_report(model: Model, bits_per_dim: float, mean_square: float) -> str | None:
    """One sentence with the number when the prior's KL is above 1e-3 bits/dim; None when all is well."""
    process = model.denoiser.process
    if isinstance(process, Gaussian):
        return process.schedule.prior_report(mean_square)
    if bits_per_dim <= PRIOR_KL_LIMIT:
        return None
    return (
        f"the chain's end is not yet its prior: prior KL {bits_per_dim:.3g} bits/dim, above {PRIOR_KL_LIMIT:g}; every bound "
        "is that much worse and samples start off the data's path: use a schedule that forgets more"
    )
