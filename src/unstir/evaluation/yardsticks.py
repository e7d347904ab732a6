"""Yardsticks: what other coders need for the very items that the bound is measured on."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from unstir.bound import mean_interval
from unstir.data import DataSpec, Split
from unstir.errors import UserError
from unstir.evaluation.gaussian_fit import GaussianFit

FITTED, FITTED_WIDE, WIDE = 10_000, 2_000, 2_000
"""Training items, evenly spread, that a Gaussian is fitted to: fewer of more than 2,000 numbers each, for time and memory."""

FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {"optimize": True},
    "WebP": {"lossless": True, "quality": 100, "method": 6, "exact": True},
}
"""Lossless coders of pictures and how hard they try: as hard as they can."""

UNIFORM = "uniform"
_TALLEST = {"PNG": 1 << 20, "WebP": 16_383}  # lines of one file
_WIDTH = 10  # of units and names, as in the bound's table


@dataclass(frozen=True)
class Yardstick:
    """One coder's mean over the items. ``half``: of the 95 % interval; None where items are coded together."""

    name: str
    value: float
    half: float | None
    phrase: str


@dataclass(frozen=True)
class Yardsticks:
    """What other coders need, in ``unit``, for the same held-out items as the bound.

    Args:
        items: how many items. notes: sentences on what could not be measured.
    """

    unit: str
    items: int
    rows: tuple[Yardstick, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types; what is infinite, which JSON does not know, is None."""
        rows = [{k: None if v == math.inf else v for k, v in asdict(row).items()} for row in self.rows]
        return {"unit": self.unit, "items": self.items, "rows": rows, "notes": list(self.notes)}

    def verdict(self, total: float) -> str:
        """What a model's own figure means beside these, in one sentence."""
        values = {row.name: row.value for row in self.rows if row.half is not None or row.name == UNIFORM}
        if total > values.get(UNIFORM, math.inf):
            return f"more than {UNIFORM}: worse than knowing nothing, so it has learned nothing of new data yet; train longer"
        for name, what in (("Gaussian", "no shapes"), ("marginals", "not how values belong together")):
            if total > values.get(name, math.inf):
                return f"more than the {name} of the same data: it has learned {what} yet; train longer"
        fewer, more = ([name for name, value in values.items() if (total < value) == less] for less in (True, False))
        said = [f"{word} than {', '.join(names)}" for word, names in (("fewer", fewer), ("more", more)) if names]
        return f"the model needs {' and '.join(said)}" if said else ""

    def table(self) -> str:
        """Lines that stand beneath the bound's."""
        lines = [
            f"{row.name:<{_WIDTH}} {row.value:8.4f} {'' if row.half is None else f'± {row.half:.4f}':<9} {self.unit}   {row.phrase}"
            for row in self.rows
        ]
        return "\n".join([*lines, *self.notes])


def measure(
    training: Split,
    heldout: Split,
    spec: DataSpec,
    *,
    images: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Yardsticks:
    """The items are those of :func:`unstir.evaluation.likelihood.measure`, the unit is its own.

    - Pictures of levels, bits/dim: PNG and lossless WebP, each picture a file with its headers, and all in one file; a Gaussian
      (:class:`GaussianFit`) over levels spread evenly over their bins, from above.
    - Other real data, bits/item in their own units: a Gaussian's density.
    - Bits and symbols, bits/item: every place by itself, its probabilities ``(count + 1) / (N + K)`` from training data.
    - Of all that have a finite number of values: what it costs to know nothing of them.

    Args:
        images: held-out items, evenly spread.
        progress: called with (items coded, all of them by each coder).

    Raises:
        UserError: without anything held out.
    """
    x = np.asarray(heldout.x[heldout.spread(images)])
    if not len(x):
        raise UserError("yardsticks are laid on held-out items, and there are none")
    rows: list[Yardstick] = []
    notes: list[str] = []
    levels = spec.kind == "image" and spec.eight_bit
    unit = "bits/dim" if levels else "bits/item"
    names = [name for name in FORMATS if levels]
    whole = len(x) * (len(names) + 1)
    for turn, name in enumerate(names):
        if name == "WebP" and not features.check("webp"):
            notes.append("WebP is left out: this Pillow was built without it")
        else:
            rows += _files(name, x, lambda done, turn=turn: progress(turn * len(x) + done, whole) if progress else None)
    if spec.kind in ("bits", "symbols"):
        rows.append(_independent(training, x, spec))
    else:
        rows += _gaussian(training, x, spec, notes)
    states = 256 if levels else (spec.symbols or 2) if spec.kind in ("bits", "symbols") else 0
    if states:
        each = math.log2(states) * (1 if levels else math.prod(spec.shape))
        rows.append(Yardstick(UNIFORM, each, None, "every value as likely as every other: nothing known"))
    if progress:
        progress(whole, whole)
    return Yardsticks(unit, len(x), tuple(rows), tuple(notes))


def encoded(x: np.ndarray, name: str) -> bytes:
    """One picture, uint8 (H, W, 1 or 3), as a lossless file of this format, headers included."""
    buffer = io.BytesIO()
    Image.fromarray(x[:, :, 0] if x.shape[2] == 1 else x).save(buffer, name, **FORMATS[name])
    return buffer.getvalue()


def _files(name: str, x: np.ndarray, progress: Callable[[int], None]) -> list[Yardstick]:
    n, height, width, channels = x.shape
    dims = height * width * channels
    each = torch.empty(n, dtype=torch.float64)
    for i, picture in enumerate(x):
        each[i] = 8 * len(encoded(picture, name)) / dims
        progress(i + 1)
    together = max(_TALLEST[name] // height, 1)  # pictures; one file of them where the format has as many lines
    parts = [x[i : i + together] for i in range(0, n, together)]
    size = sum(len(encoded(part.reshape(-1, width, channels), name)) for part in parts)
    files = "one file" if len(parts) == 1 else f"{len(parts)} files"
    return [
        Yardstick(name, *mean_interval(each), "each picture its own file, headers included"),
        Yardstick(f"{name} sheet", 8 * size / (dims * n), None, f"all {n} pictures below one another in {files}"),
    ]


def _gaussian(training: Split, x: np.ndarray, spec: DataSpec, notes: list[str]) -> list[Yardstick]:
    dims = math.prod(spec.shape)
    bin_width = 2 / 255 if spec.eight_bit else 0.0
    items = spec.inside(np.asarray(training.x[training.spread(FITTED if dims <= WIDE else FITTED_WIDE)])).flatten(1)
    fit = GaussianFit.chosen(items, bin_width)
    if fit is None:
        notes.append("the Gaussian is left out: it takes four training items that are not all equal")
        return []
    nats = fit.nats(spec.inside(x).flatten(1))
    if spec.eight_bit:
        bits = (nats - dims * math.log(bin_width)) / (dims * math.log(2))
        bounds = "; an upper bound"
    else:
        bits = (nats + dims * math.log(spec.scaling.scale if spec.scaling else 1.0)) / math.log(2)
        bounds = ""
    axes = "" if fit.rank == dims - 1 else f", of {fit.rank} axes and one width for the rest"
    phrase = f"a normal law fitted to {len(items):,} training items{axes}{bounds}"
    return [Yardstick("Gaussian", *mean_interval(bits), phrase)]


def _independent(training: Split, x: np.ndarray, spec: DataSpec) -> Yardstick:
    """``sum_d -log2 p_d(x_d)`` with ``p_d(k) = (count_d(k) + 1) / (N + K)``."""
    states = spec.symbols or 2
    known = np.asarray(training.x)
    counts = np.stack([(known == k).sum(0) for k in range(states)])
    bits = -np.log2((counts + 1) / (len(known) + states))
    spent = np.take_along_axis(bits, x.astype(np.int64), 0).sum(1)
    return Yardstick(
        "marginals", *mean_interval(torch.from_numpy(spent)), f"every one of the {x.shape[1]} places by itself"
    )
