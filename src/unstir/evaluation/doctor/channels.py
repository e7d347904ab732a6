"""Looks at channels: whether the network has them in another order than the data, and whether it adds a constant to one."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from unstir.data.spec import channel_names
from unstir.evaluation.doctor.evidence import Evidence, Noised
from unstir.evaluation.doctor.findings import Finding, Gain, Look

_MOST = 4  # channels, of which there are 24 orders


def order(evidence: Evidence) -> Look | None:
    """Whether the loss falls when the channels of the data, or of the network's output, are put in another order.

    Of data that are permuted all pixels stay, so that their losses compare. An order is named where it surely takes a part of the
    loss away and leads below the beginning's loss.
    """
    count = evidence.channels
    if not evidence.real or not 2 <= count <= _MOST:
        return None
    names = channel_names(evidence.kind, count)
    orders = [list(p) for p in permutations(range(count)) if list(p) != list(range(count))]
    at = evidence.high  # near the data any network can copy colours from x_t
    denoiser, tries = evidence.subject.denoiser, 2 * len(orders)
    before, begin = evidence.errors[at], evidence.initial_errors[at]
    found: list[tuple[float, str, list[int], Gain]] = []
    losses: dict[str, float] = {}
    for permuted in orders:
        given = evidence.noised(evidence.dataset.heldout, change=lambda x0, p=permuted: x0[:, p])
        for what, after in (
            ("data", evidence.errors_of(denoiser, given, at=at)),
            ("output", evidence.errors_of(denoiser, at=at, output=lambda raw, p=permuted: raw[:, p])),
        ):
            gain = Gain.of(before, after, tries)
            losses[f"{what} as {', '.join(names[i] for i in permuted)}"] = gain.after
            if gain.certain and Gain.of(begin, after, tries).certain:
                found.append((gain.after, what, permuted, gain))
    begun = Gain.of(begin, before)
    own = begun.after
    best = min(losses.values())
    figures: dict[str, Any] = {"loss": own, "otherwise": losses}
    said = f"loss at high noise {own:.4f} as they are, {best:.4f} in the best other order"
    if not found:
        return Look("order of channels", said, figures)
    after, what, permuted, gain = min(found, key=lambda each: each[0])
    said_order = ", ".join(names[i] for i in permuted)
    if what == "data":
        text = f"the channels are swapped: the network has learned data whose channels are {said_order} of these (loss {after:.3f} "
        text += f"so, {own:.3f} as they are)"
        advice = (
            "swap the channels of one of the two: libraries that read blue, green, red need their last axis reversed"
        )
    else:
        text = f"the channels of the network's output are swapped: read as {said_order} its loss is {after:.3f}, {own:.3f} as it is"
        advice = "put the last layer's rows back in order, or load the weights that training wrote"
    rest = after / begun.before
    finding = Finding("channels-swapped", text, advice, figures | gain.to_json() | {"order": permuted, "of": what})
    return Look("order of channels", said, figures, finding, rest)


def tint(evidence: Evidence) -> Look | None:
    """Whether a part of the loss is one constant in a channel.

    Of a network that answers ``E[x0 | x_t]`` the mean error of every channel is 0, ``E x0_hat = E x0``. The mean errors on items that
    it learned from are taken off its answers on held-out items, level by level; where that surely takes a part of the loss away, and
    leads below the beginning's, the constant is there.
    """
    if not evidence.real:
        return None
    shifts = [_shift(evidence, evidence.training, i) for i in range(len(evidence.levels))]
    rows = []
    for i, shift in enumerate(shifts):
        parts = []
        for part, prediction in evidence.predict(evidence.subject.denoiser, evidence.heldout, i):
            x0 = evidence.heldout.x0[part]
            error = prediction.x0.double() - x0 - shift.to(x0.device)
            parts.append(error.square().flatten(1).mean(1).cpu() / evidence.levels[i].unit)
        rows.append(torch.cat(parts))
    after = torch.stack(rows)
    gain = Gain.of(evidence.errors, after)
    names = channel_names(evidence.kind, evidence.channels)
    # At the highest level nothing can be copied from x_t: there the network says what it takes for the data's mean.
    top = shifts[-1].flatten()
    spec = evidence.model.spec
    unit, word = (127.5, "levels") if spec.eight_bit else (spec.scaling.scale if spec.scaling else 1.0, "")
    figures: dict[str, Any] = {
        "shift": {name: float(value) * unit for name, value in zip(names, top)}, **gain.to_json(),
    }  # fmt: skip
    largest = int(top.abs().argmax())
    size = f"{float(top[largest]) * unit:+.3g} {word}".strip()
    said = (
        f"largest mean error at the highest noise {size}, in {names[largest]}; it makes {_part(gain):.1%} of the loss"
    )
    begun = Gain.of(evidence.initial_errors, after)
    if not (gain.certain and begun.certain):
        return Look("tint", said, figures)
    many = f"in {names[largest]}"
    if len(names) > 1 and _alike(top):
        many += " and at least half as much in the others"
    rest = begun.after / begun.before
    finding = Finding(
        "tint",
        f"the network adds a constant, {size} {many}, so samples are {_colour(names, top, largest, evidence.kind)}: "
        f"{_part(gain):.0%} of its loss is that constant",
        "train longer; of weights that were edited or converted check the bias of the last layer",
        figures,
    )
    return Look("tint", said, figures, finding, rest)


def _shift(evidence: Evidence, given: Noised, level: int) -> Tensor:
    """Mean errors of x0 in each channel, (1, C, 1, …)."""
    sums = []
    for part, prediction in evidence.predict(evidence.subject.denoiser, given, level):
        error = prediction.x0.double() - given.x0[part]
        sums.append((error.flatten(2).mean(2) if error.ndim > 2 else error).sum(0))
    return (torch.stack(sums).sum(0) / len(given.x0)).reshape(1, -1, *(1,) * (given.x0.ndim - 2)).cpu()


def _alike(shift: Tensor) -> bool:
    """Whether all channels move one way, the least at least half as far as the largest."""
    return bool((shift * shift[0] > 0).all()) and float(shift.abs().min()) > float(shift.abs().max()) / 2


def _colour(names: list[str], shift: Tensor, largest: int, kind: str) -> str:
    more = float(shift[largest]) > 0
    if kind != "image":
        return "moved away from the data"
    if len(names) == 1 or _alike(shift):
        return "too light" if more else "too dark"
    return f"tinted: too {'much' if more else 'little'} {names[largest]}"


def _part(gain: Gain) -> float:
    return max(1 - gain.after / gain.before, 0.0)
