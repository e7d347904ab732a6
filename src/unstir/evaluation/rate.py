"""Rate and distortion on held-out data: the table of [HO20 §4.3], and the curve behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unstir.bound import rate_distortion
from unstir.data import Split
from unstir.evaluation import chains
from unstir.runs import Model

ROWS = 10


@dataclass(frozen=True)
class Rate:
    """How much has been sent when the receiver stands at x_t, and how wrong its best guess of x0 then is.

    Args:
        unit: of rates. distortion_unit: of distortions, in words.
        times: t = T … 1. rate, distortion: at these times, averages over the items.
    """

    unit: str
    distortion_unit: str
    times: tuple[int, ...]
    rate: tuple[float, ...]
    distortion: tuple[float, ...]
    items: int
    weights: str
    given_labels: bool
    variance: str

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types, with every time; a rate that is infinite, which JSON does not know, is None."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}
        return values | {"rate": [r if math.isfinite(r) else None for r in self.rate]}

    def table(self) -> str:
        """Ten times of the whole chain, and T - t + 1, how [HO20 table 4] counts; at t = 1 all but the decoder's part is sent."""
        T = len(self.times)
        rows = sorted({max(1, round(T * i / ROWS)) for i in range(1, ROWS + 1)}, reverse=True)
        lines = [
            f"sent so far, walking all {T} steps",
            f"   t   T - t + 1   rate ({self.unit})   distortion ({self.distortion_unit})",
        ]
        lines += [f"{T - r + 1:4d}   {r:9d}   {self.rate[r - 1]:15.5f}   {self.distortion[r - 1]:10.5f}" for r in rows]
        given = "; given each item's class" if self.given_labels else ""
        lines.append(f"{self.items} held-out items; {self.weights} weights{given}")
        return "\n".join(lines)


def measure(
    model: Model,
    heldout: Split,
    *,
    images: int = 256,
    given_labels: bool = False,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Rate:
    """The curve over all T times, on items spread evenly over a split.

    Rates are in bits/dim for 8-bit data, else in bits per item. The distortion is the root mean square of the guess's error:
    on levels 0 … 255, in the data's own units, or, for bits and symbols, the share of them that is wrong.

    Args:
        progress: called with (network calls done, all).
    """
    index = heldout.spread(images)
    labels = heldout.labels if given_labels else None
    batches = math.ceil(len(index) / batch)
    rate = square = torch.zeros(model.denoiser.process.T, dtype=torch.float64)
    for i in range(batches):
        rows = index[i * batch : (i + 1) * batch]
        x0, condition = model.at_hand(heldout.x[rows], labels[rows] if labels is not None else None)
        curve = rate_distortion(
            model.bounded, x0, condition=condition, noise=model.noise(seed, i * batch, len(rows)),
            progress=None if progress is None else lambda done, each, i=i: progress(i * each + done, batches * each),
        )  # fmt: skip
        rate = rate + curve.rate.cpu() * (len(rows) / len(index))
        square = square + curve.distortion.cpu() ** 2 * (len(rows) / len(index))
    spec = model.spec
    if not spec.eight_bit:
        rate = rate * math.prod(spec.shape)
    if spec.eight_bit:
        distortion, unit = square.sqrt() * 127.5, "root mean square, levels 0 … 255"
    elif spec.scaling:
        distortion, unit = square.sqrt() * spec.scaling.scale, "root mean square, the data's units"
    elif model.denoiser.process.continuous:
        distortion, unit = square.sqrt(), "root mean square, the data's units"
    else:
        distortion, unit = square, "share that is wrong"
    return Rate(
        unit="bits/dim" if spec.eight_bit else "bits/item",
        distortion_unit=unit,
        times=tuple(range(model.denoiser.process.T, 0, -1)),
        rate=tuple(rate.tolist()),
        distortion=tuple(distortion.tolist()),
        items=len(index),
        weights=model.weights,
        given_labels=labels is not None,
        variance=chains.described(model),
    )
