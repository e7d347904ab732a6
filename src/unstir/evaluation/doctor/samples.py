"""Looks at samples: their channels beside the data's, and whether they are copies."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from unstir.data.spec import channel_names
from unstir.errors import UserError
from unstir.evaluation import memorising
from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import ALARM, Finding, Gain, Look, surely
from unstir.evaluation.doctor.moments import Moments
from unstir.evaluation.extractors.builtin import Components

_DATA = 4_000
_SMALL = 0.2
"""Of the data's spread: a difference of means that Cohen (1988) calls small, in pictures of common contrast a dozen levels."""

_FLAT = 1.25
"""A spread that differs by more than this factor: as for the sampler's grid, a quarter of the contrast."""

_MANY = 1_000
"""A factor beyond which an error of a thousandth, as small as networks make, is as large as the data."""

_CONTROL = 500
_NUMBERS = 1 << 26  # of training items that copies are looked for among


def channels(evidence: Evidence) -> Look:
    """Whether samples have the data's mean in every channel, and the data's spread.

    Each item counts as one draw, whatever the number of its pixels. A difference is a finding where it surely is larger than a
    small one: the mean by a fifth of the spread, the spread by a quarter.
    """
    train = evidence.dataset.train
    samples = evidence.samples
    if not evidence.real:
        return _frequencies(evidence, samples)
    data = Moments.of(evidence.model.inside(np.asarray(train.x[train.spread(_DATA)])))
    drawn = Moments.of(evidence.model.inside(samples))
    figures: dict[str, Any] = {"samples": drawn.to_json(), "data": data.to_json(), "number": len(samples)}
    if evidence.raw_samples is not None:
        figures["raw"] = Moments.of(evidence.model.inside(evidence.raw_samples)).to_json()
    names = channel_names(evidence.kind, evidence.channels)
    z = surely(len(names) + 1)
    apart = (drawn.mean - data.mean) / max(data.spread, 1e-12)
    half = z * (drawn.mean_error.square() + data.mean_error.square()).sqrt() / max(data.spread, 1e-12)
    ratio = drawn.spread / max(data.spread, 1e-12)
    ratio_half = z * math.hypot(drawn.spread_error, data.spread_error * ratio) / max(data.spread, 1e-12)
    figures |= {
        "mean_apart": apart.tolist(),
        "mean_half": half.tolist(),
        "spread_ratio": ratio,
        "spread_half": ratio_half,
    }
    largest = int(apart.abs().argmax())
    said = (
        f"samples' mean {float(apart[largest]):+.2f} ± {float(half[largest]):.2f} of the data's spread in {names[largest]}, "
        f"their spread {ratio:.2f} ± {ratio_half:.2f} of it"
    )
    if not math.isfinite(ratio):
        return Look("samples", said, figures)
    certain = (apart.abs() - half > _SMALL).nonzero().flatten().tolist()
    advice = "if nothing above says why, train longer, and try --weights raw and another sampler"
    if certain:
        channel = max(certain, key=lambda i: abs(float(apart[i])))
        more = float(apart[channel]) > 0
        what = (
            f"too {'much' if more else 'little'} {names[channel]}"
            if evidence.kind == "image"
            else f"moved in {names[channel]}"
        )
        text = (
            f"samples have {what}: their mean there is {float(apart[channel]):+.2f} ± {float(half[channel]):.2f} of the data's "
            "spread away from the data's"
        )
        return Look("samples", said, figures, Finding("samples-shifted", text, advice, figures))
    if ratio + ratio_half < 1 / _FLAT or ratio - ratio_half > _FLAT:
        what = "flatter than the data, or all alike" if ratio < 1 else "of too much contrast, or noise"
        text = f"samples are {what}: their spread is {ratio:.2f} ± {ratio_half:.2f} of the data's"
        times = _multiplied(evidence)
        if ratio > 1 and times > _MANY:
            text += f"; at T the network's error is multiplied by {times:,.0f} on its way to x0"
            advice = "train with prediction v or preconditioned: eps says nothing of x0 where no signal is left"
        return Look("samples", said, figures, Finding("samples-spread", text, advice, figures))
    return Look("samples", said, figures)


def _multiplied(evidence: Evidence) -> float:
    """How far x0 moves at the grid's first time for a unit of raw output: sigma/alpha where eps is predicted."""
    try:
        return float(evidence.subject.denoiser.parameterisation.x0_error(evidence.grid.times[:1]))
    except ValueError:
        return 0.0  # a prediction that learns by the bound alone


def _frequencies(evidence: Evidence, samples: np.ndarray) -> Look:
    """Whether each state is as frequent in samples as in the data, items counting as one draw each."""
    spec, train = evidence.model.spec, evidence.dataset.train
    states = spec.symbols or 2
    z = surely(states)

    def shares(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = np.stack([(np.asarray(x).astype(np.int64) == k).mean(1) for k in range(states)], 1)
        return rows.mean(0), rows.std(0, ddof=1) / math.sqrt(len(rows))

    (own, own_error), (data, data_error) = shares(samples), shares(train.x[train.spread(_DATA)])
    apart, half = own - data, z * np.hypot(own_error, data_error)
    worst = int((np.abs(apart) - half).argmax())
    figures = {"samples": own.tolist(), "data": data.tolist(), "half": half.tolist()}
    said = f"state {worst} is {own[worst]:.1%} of samples' places and {data[worst]:.1%} of the data's"
    # A small difference of shares, by the same measure as of means: a fifth of the spread of a place that is 1 or 0.
    if abs(apart[worst]) - half[worst] <= _SMALL * math.sqrt(max(data[worst] * (1 - data[worst]), 1e-12)):
        return Look("samples", said, figures)
    text = f"samples hold state {worst} in {own[worst]:.1%} of their places, the data in {data[worst]:.1%}"
    advice = "if nothing above says why, train longer, or take more steps"
    return Look("samples", said, figures, Finding("samples-shifted", text, advice, figures))


def copies(evidence: Evidence) -> Look | None:
    """Whether samples stand nearer to single training items than held-out items do: :mod:`unstir.evaluation.memorising`.

    A finding is its test of single samples alone, at the level of all looks: more of them than by chance nearer to one training item
    than nearly all held-out ones. Exact by exchangeability, however few items are held out. Beside it stands how much better items
    that were learned from are denoised than held-out ones.
    """
    dataset, model = evidence.dataset, evidence.model
    if not evidence.own:
        return None
    samples = evidence.samples
    train, held = dataset.train, dataset.heldout
    held = held.take(held.spread(_CONTROL))
    train = train.take(train.spread(max(2, _NUMBERS // math.prod(model.spec.shape))))
    seen = Components.fitted(evidence.known.items)
    inside: Callable[[np.ndarray], torch.Tensor] = lambda x: model.inside(x).cpu()  # noqa: E731

    def features(x: np.ndarray) -> torch.Tensor:
        return torch.cat([seen(inside(np.asarray(x[i : i + 2_000]))) for i in range(0, len(x), 2_000)])

    try:
        found = memorising.measure(
            samples, features(samples), train, features(train.x), held, features(held.x), inside, seen.name
        )
    except UserError:
        return None  # a single training item: everything is its copy
    gap = [Gain.of(errors, errors).after for errors in (evidence.errors, evidence.training_errors)]
    smallest = min(found.spaces.values(), key=lambda space: space.by_ratio.tail_p)
    test = smallest.by_ratio
    p = min(1.0, len(found.spaces) * test.tail_p)
    exact = sum(space.exact for space in list(found.spaces.values())[:1])
    figures: dict[str, Any] = {
        "p": p, "nearer": test.nearer, "expected": test.expected, "samples": len(samples), "exact": exact,
        "training": len(train), "loss_heldout": gap[0], "loss_training": gap[1],
    }  # fmt: skip
    said = (
        f"{test.nearer} of {len(samples)} samples stand out as near to one of {len(train):,} training items, {test.expected:.1f} by "
        f"chance (p = {p:.2g}); loss {gap[1]:.4f} on these, {gap[0]:.4f} held out"
    )
    if p >= ALARM:
        return Look("copies", said, figures)
    suspect = next((s for s in smallest.suspects), None)
    named = f", such as sample {suspect.sample} of {suspect.nearest}" if suspect else ""
    text = (
        f"samples are copies of training items{named}: {test.nearer} of {len(samples)} stand nearer to one than nearly all held-out "
        f"items do, {test.expected:.1f} by chance (p = {p:.1g})"
    )
    advice = f"train on more data than these {len(dataset.train):,}, or for a shorter time: RUN/early.safetensors has copied less"
    return Look("copies", said, figures, Finding("memorised", text, advice, figures))
