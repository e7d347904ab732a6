"""Held-out likelihood by the variational bound, with its parts and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unstir.bound import bits_per_dim
from unstir.data import Split
from unstir.runs import Model

_Z95 = 1.96  # of the standard normal: 95 % of it lies within


@dataclass(frozen=True)
class Likelihood:
    """The mean bound over held-out items, in ``unit``.

    Args:
        total, half_width: mean and half of the 95 % interval of the mean, from the spread over items: infinite for one item.
        prior, steps, decoder: the parts of the total.
        given_labels: whether each item's class was given.
        items, calls: how many items, and network calls for each.
        chain: T.
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
    """Each step's share of ``steps``, by rising t from t = 2; of an estimate, each stratum's."""

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
        return "\n".join(
            [
                f"{self.unit:<10} {self.total:8.4f} ± {self.half_width:.4f}   (95 % interval, {self.items} held-out items)",
                f"  prior    {self.prior:8.4f}   KL of q(x_T | x0) from the prior",
                f"  steps    {self.steps:8.4f}   sum of the KL of the reverse steps",
                f"  decoder  {self.decoder:8.4f}   -log p(x0 | x_1)",
                f"an upper bound: {self.described}; {self.weights} weights"
                + ("; given each item's class" if self.given_labels else ""),
            ]
        )


def measure(
    model: Model,
    heldout: Split,
    *,
    images: int = 256,
    terms: int | None = 100,
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """The bound on items spread evenly over a split: bits/dim for 8-bit data, else bits per item in the data's own units.

    Args:
        given_labels: bound -log p(x | class) with each item's class instead of -log p(x), the figure others publish.
        terms: None for all T terms; a number for an unbiased estimate from at most so many, whose error is in the interval.
        progress: called with (network calls done, all).
    """
    index = heldout.spread(images)
    parts: list[torch.Tensor] = []
    labels = heldout.labels if given_labels else None
    batches = math.ceil(len(index) / batch)
    for i in range(batches):
        rows = index[i * batch : (i + 1) * batch]
        bound = model.bound(
            heldout.x[rows], labels[rows] if labels is not None else None, seed=seed, first=i * batch, terms=terms,
            progress=None if progress is None else lambda done, each, i=i: progress(i * each + done, batches * each),
        )  # fmt: skip
        parts.append(torch.cat([bound.prior[:, None], bound.decoder[:, None], bound.steps], 1).cpu())
    nats = torch.cat(parts)
    dims = math.prod(model.spec.shape)
    eight_bit = model.spec.eight_bit
    if model.spec.scaling:
        # A density in the points' own units: the scaling stretched each of the D coordinates.
        nats[:, 1] += dims * math.log(model.spec.scaling.scale)
    values = bits_per_dim(nats, dims) if eight_bit else nats / math.log(2)
    totals, means = values.sum(1), values.mean(0)
    return Likelihood(
        unit="bits/dim" if eight_bit else "bits/item",
        total=float(totals.mean()),
        half_width=float(_Z95 * totals.std() / math.sqrt(len(totals))) if len(totals) > 1 else math.inf,
        prior=float(means[0]),
        steps=float(means[2:].sum()),
        decoder=float(means[1]),
        items=len(index),
        calls=nats.shape[1] - 1,
        chain=model.denoiser.process.T,
        weights=model.weights,
        given_labels=labels is not None,
        per_step=tuple(means[2:].tolist()),
    )
