"""Held-out likelihood along the probability-flow ODE: no bound, the density of the model that the ODE samples from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unstir.bound import bits_per_dim, mean_interval
from unstir.data import Split
from unstir.errors import UserError
from unstir.likelihood import ode_log_likelihood
from unstir.processes import Gaussian
from unstir.runs import Model

_EXACT_UP_TO = 8  # numbers in an item for which the divergence is taken exactly: one backward pass for each


@dataclass(frozen=True)
class OdeResult:
    """``-log p`` of the flow, averaged over held-out items, in ``unit``.

    Args:
        total, half_width: mean and half of the 95 % interval of the mean, from the spread over items: infinite for one item.
        start_shift: how much of the total the noise at the start adds, to first order.
        start: the time at which the flow begins. noise: sigma/alpha there.
        calls: network calls for each item, on average; each comes with its backward passes.
        exact: whether the divergence was taken exactly, or estimated without bias.
    """

    unit: str
    total: float
    half_width: float
    start_shift: float
    start: float
    noise: float
    items: int
    calls: float
    exact: bool
    weights: str
    given_labels: bool

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; what is infinite, which JSON does not know, is None."""
        return {key: None if value == math.inf else value for key, value in vars(self).items()}

    def table(self) -> str:
        divergence = "exact divergence" if self.exact else "divergence estimated without bias"
        given = "; given each item's class" if self.given_labels else ""
        return (
            f"{self.unit:<10} {self.total:8.4f} ± {self.half_width:.4f}   "
            f"(95 % interval, {self.items} held-out items; probability-flow ODE)\n"
            f"begun at t = {self.start:.4g}, sigma/alpha = {self.noise:.2g}, whose noise adds {self.start_shift:.4f}; "
            f"{divergence}, {self.calls:.0f} network calls an item; {self.weights} weights{given}"
        )


def check(model: Model) -> None:
    """Refuses what has no flow, before any data is read."""
    if not isinstance(model.denoiser.process, Gaussian):
        raise UserError(
            f"the ODE likelihood is for real numbers: {model.spec.kind} jump between values, so measure the bound instead"
        )


def measure(
    model: Model,
    heldout: Split,
    *,
    images: int = 256,
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> OdeResult:
    """The ODE's likelihood of items spread evenly over a split: bits/dim for 8-bit data, else bits per item in its own units.

    Levels are spread evenly over their bins, one draw an item. A network that learned whole times alone is followed from t = 1.

    Args:
        progress: called with (thousandths of the way done, all).
    """
    check(model)
    spec, process = model.spec, model.denoiser.process
    dims = math.prod(spec.shape)
    start = 1.0 if model.config.times.name == "uniform" and process.T > 1 else None
    index = heldout.spread(images)
    labels = heldout.labels if given_labels else None
    batches = math.ceil(len(index) / batch)
    totals, shifts, calls = [], [], []
    model.denoiser.eval()
    for i in range(batches):
        rows = index[i * batch : (i + 1) * batch]
        x0, condition = model.at_hand(heldout.x[rows], labels[rows] if labels is not None else None)
        try:
            found = ode_log_likelihood(
                model.denoiser, x0, condition=condition, start=start, dequantise=spec.eight_bit,
                divergence="exact" if dims <= _EXACT_UP_TO else "hutchinson", noise=model.noise(seed, i * batch, len(rows)),
                progress=None if progress is None else lambda done, each, i=i: progress(i * each + done, batches * each),
            )  # fmt: skip
        except ValueError as error:
            raise UserError(f"the flow of this model cannot be followed: {error}") from None
        totals.append(found.total.cpu())
        shifts.append(found.start_shift.cpu())
        calls.append(found.calls.double().cpu())
    nats = torch.cat(totals)
    if spec.scaling:
        # A density in the data's own units: the scaling stretched each of the D coordinates.
        nats = nats + dims * math.log(spec.scaling.scale)
    values = bits_per_dim(nats, dims, density=True) if spec.eight_bit else nats / math.log(2)
    total, half_width = mean_interval(values)
    first = float(process.schedule.time(-2 * math.log(1e-3))) if start is None else start
    return OdeResult(
        unit="bits/dim" if spec.eight_bit else "bits/item",
        total=total,
        half_width=half_width,
        start_shift=float(torch.cat(shifts).mean()) / math.log(2) / (dims if spec.eight_bit else 1),
        start=first,
        noise=float((process.schedule.sigma(first) / process.schedule.alpha(first)).detach()),
        items=len(index),
        calls=float(torch.cat(calls).mean()),
        exact=dims <= _EXACT_UP_TO,
        weights=model.weights,
        given_labels=labels is not None,
    )
