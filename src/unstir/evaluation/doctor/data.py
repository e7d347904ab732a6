"""Looks at data: their range, and whether they are what the run was told of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import Finding, Look
from unstir.evaluation.doctor.moments import Moments

_LOOKED = 2_000
_WIDER = 1.5
"""How much wider or narrower than recorded data may be before the network's inputs and outputs are of a wrong size: Karras et al.
2022 take 0.5 for pictures whose root mean square is anywhere between 0.35 and 0.75."""

_MAPS = {
    "−1 … 1, and these data are 0 … 1": lambda x: 2 * x - 1,
    "0 … 1, and these data are −1 … 1": lambda x: (x + 1) / 2,
    "levels 0 … 255 as −1 … 1, and these data are levels 0 and 1 only": lambda x: 255 * (x + 1) - 1,
}
"""What the run may have learned from, and what takes these data there."""


def levels(evidence: Evidence) -> Look | None:
    """Whether pictures use their levels 0 … 255, or show the trace of a scaling gone wrong.

    Numbers 0 … 1 brought to levels as if they were −1 … 1 lie in 127.5 … 255 with the lower end taken, rounded to 127 or 128; stored
    as levels without a scaling they are 0 and 1. Of pictures that were not scaled wrongly the least and the largest level over all
    pixels fall on these numbers only by chance.
    """
    spec = evidence.model.spec
    if spec.kind != "image" or not spec.eight_bit:
        return None
    train = evidence.dataset.train
    x = np.asarray(train.x[train.spread(_LOOKED)])
    low, high = int(x.min()), int(x.max())
    figures = {"low": low, "high": high, "pictures": len(x)}
    said = f"levels {low} … {high} in {len(x):,} pictures"
    if high == 1:
        text = (
            "the pictures are all but black: they hold the levels 0 and 1 only, numbers 0 … 1 stored as levels 0 … 255"
        )
        advice = "multiply them by 255 before they are stored as uint8, and train anew"
    elif low in (127, 128) and high >= 250:
        text = (
            f"the pictures use the levels {low} … {high} only, the lighter half: numbers 0 … 1 were brought to levels as if "
            "they were −1 … 1, so samples are pale"
        )
        advice = "store them as round(255 x) instead of round(127.5 (x + 1)), and train anew"
    else:
        return Look("levels", said, figures)
    return Look("levels", said, figures, Finding("data-range", text, advice, figures))


def recorded(evidence: Evidence) -> Look:
    """Whether the data's mean and spread are those that the run was told of, or would be after a known change of range.

    Told means: the scaling of points and real pictures; else the root mean square of a preconditioned prediction, and of data other
    than the run's own what samples have. A mean agrees within a fifth of the spread and the interval, a spread within a factor.
    """
    spec, train = evidence.model.spec, evidence.dataset.train
    if not evidence.real:
        return _states(evidence)
    x = evidence.model.inside(np.asarray(train.x[train.spread(_LOOKED)]))
    scaling = spec.scaling
    # On the data's own axis, where a change of range is what it is called.
    shift = torch.tensor(scaling.offset if scaling else [0.0]).reshape(-1, *(1,) * (x.ndim - 2))
    own = x.cpu() * scaling.scale + shift if scaling else x.cpu()
    here = Moments.of(own)
    figures: dict[str, Any] = {"data": here.to_json(), "same": evidence.own}
    said = f"mean {_said(here.mean.tolist())}, spread {here.spread:.4g}" + (
        ", the very data of the run" if evidence.own else ", other data than the run's"
    )
    if evidence.own:
        return _told_size(evidence, here, figures, said)
    if scaling:
        mean, spread, by = torch.tensor(scaling.offset, dtype=torch.float64), scaling.scale, "its scaling"
    else:
        there = Moments.of(evidence.model.inside(evidence.samples))
        mean, spread, by = there.mean, there.spread, "its samples"
    figures |= {"mean_told": mean.tolist(), "spread_told": spread, "told_by": by}
    if _agree(here, mean, spread):
        return Look("data", said, figures)
    for name, change in _MAPS.items():
        if _agree(Moments.of(change(own)), mean, spread):
            finding = Finding(
                "data-range",
                f"the run has learned numbers {name}: by {by} their mean is {_said(mean.tolist())} and their spread "
                f"{spread:.3g}, and here {_said(here.mean.tolist())} and {here.spread:.3g}",
                "give the data in the range that the run was trained on, or train anew on these",
                figures,
            )
            return Look("data", said, figures, finding)
    if not scaling:
        return Look("data", said, figures)  # samples that look otherwise are a finding of their own
    finding = Finding(
        "data-other",
        f"the data are not what the run has learned: mean {_said(here.mean.tolist())} and spread {here.spread:.3g}, where {by} "
        f"says {_said(mean.tolist())} and {spread:.3g}",
        "give the data that the run was trained on with --data, or train anew on these",
        figures,
    )
    return Look("data", said, figures, finding)


def _told_size(evidence: Evidence, here: Moments, figures: dict[str, Any], said: str) -> Look:
    told = evidence.model.config.prediction.get("data_rms")
    if told is None or not here.spread > 0:
        return Look("data", said, figures)
    scale = evidence.model.spec.scaling
    size = math.sqrt(here.spread**2 + float(here.mean.square().mean())) if scale is None else 1.0
    figures |= {"rms": size, "rms_told": told}
    said += f"; root mean square {size:.3f} as the network sees them, {told:.3f} by the configuration"
    if max(size / told, told / size) <= _WIDER:
        return Look("data", said, figures)
    finding = Finding(
        "data-scale",
        f"the network was built for data of root mean square {told:.3g}, and these have {size:.3g}: the configuration is that of "
        "other data, and its inputs and outputs are of a wrong size",
        "train anew without --config, or with prediction.data_rms, objective.data_rms and times.mean left out of it",
        figures,
    )
    return Look("data", said, figures, finding)


def _agree(here: Moments, mean: torch.Tensor, spread: float) -> bool:
    if not (spread > 0 and here.spread > 0):
        return False
    apart = (here.mean - mean).abs() <= 0.2 * min(here.spread, spread) + 4 * here.mean_error
    return bool(apart.all()) and max(here.spread / spread, spread / here.spread) <= _WIDER


def _states(evidence: Evidence) -> Look:
    """Bits and symbols have no scale: how often each occurs."""
    x = np.asarray(evidence.dataset.train.x)
    count = np.bincount(x.astype(np.int64).ravel(), minlength=evidence.model.spec.symbols or 2) / x.size
    figures = {"shares": count.tolist(), "same": evidence.own}
    return Look("data", f"{len(count)} states, the most frequent {count.max():.1%} of the places", figures)


def _said(numbers: list[float]) -> str:
    shown = ", ".join(f"{n:.3g}" for n in numbers[:4])
    return f"{shown}, …" if len(numbers) > 4 else shown
