"""How training went: the bound of held-out and of training items as they changed, and the samples beside the data."""

from __future__ import annotations

from html import escape
from typing import Any

import torch

from unstir.bound.interval import Z95, mean_interval, within
from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import Axis, Curve, plot
from unstir.evaluation.report.markup import Section, figure, line, table, typed
from unstir.runs import Model, Run
from unstir.training.verdict import EARLY, Verdict, judge, looks, nearer

TITLE = "How training went"
_SIDES = {"heldout": "held out", "train": "learned from"}
_LEVELS = 4  # of noise, by which the loss is drawn over the run


def section(run: Run, model: Model) -> Section:
    """The verdict with its numbers, the bound, the loss by noise level, and the channels."""
    found = looks(run.records())
    if not found:
        return Section(TITLE, markup.said("This run was not looked at while it trained."))
    items = "images" if model.spec.kind == "image" else "items"
    again, across = line("report", run), Axis(f"training {items}")
    verdict = judge(found)
    number = len(found[-1]["bound"]["heldout"]) if found[-1]["bound"] else 0
    since = verdict.reason if verdict.word == EARLY else f"the held-out bound changed by {verdict.reason} {items}"
    said = verdict.alarm or f"The verdict at the end: {verdict.word}; {since}."
    body = markup.said(said) + markup.beside(
        figure(
            plot(bound(found), across, Axis(f"bound, {_unit(found)}")),
            f"An upper bound on minus the log-likelihood of {number} held-out items and of as many that were learned from, always "
            "the same under the same noise. Where the curves part and the upper one rises, training data are learned by heart. "
            "Bars are 95 % intervals over items; the verdict compares item by item, which is surer.",
            again,
        ),
        figure(
            plot(by_level(found), across, Axis("held-out loss", log=True)),
            "The held-out loss of averaged weights at levels of noise, from almost clean (small t) to almost noise.",
            again,
        ),
    )
    return Section(TITLE, body + _channels(found[-1]) + _copies(found[-1]) + typed(again))


def verdict_of(run: Run) -> Verdict | None:
    """At the last look; None where the run was not looked at."""
    found = looks(run.records())
    return judge(found) if found else None


def bound(found: list[dict[str, Any]]) -> dict[str, Curve]:
    """The mean bound of both sides by images seen, with its intervals."""
    curves = {}
    for side, name in _SIDES.items():
        seen = [
            (look["images"], *mean_interval(torch.tensor(look["bound"][side], dtype=torch.float64), Z95))
            for look in found
            if look["bound"]
        ]
        curves[name] = Curve([(x, y) for x, y, _ in seen], [half for _, _, half in seen], marks=True)
    return curves


def by_level(found: list[dict[str, Any]]) -> dict[str, Curve]:
    """The held-out loss by images seen at four of the noise levels, from the cleanest to the noisiest."""
    times = found[-1]["times"]
    order = sorted(range(len(times)), key=times.__getitem__)
    chosen = dict.fromkeys(order[round(i * (len(order) - 1) / (_LEVELS - 1))] for i in range(_LEVELS))
    return {
        f"t = {times[k]:.3g}": Curve([(look["images"], look["loss"]["heldout"][k]) for look in found], marks=True)
        for k in chosen
    }


def _unit(found: list[dict[str, Any]]) -> str:
    return next((look["bound"]["unit"] for look in reversed(found) if look["bound"]), "nowhere finite")


def _channels(look: dict[str, Any]) -> str:
    channels = look["channels"]
    rows = []
    for i, name in enumerate(channels["names"]):
        cells = [
            within(channels[who][what][i], Z95 * channels[who][f"{what}_error"][i])
            for what in ("mean", "std")
            for who in ("samples", "data")
        ]
        rows.append((escape(name), *cells))
    head = ("channel", "mean of samples", "of the data", "standard deviation of samples", "of the data")
    said = markup.said("The samples drawn at the last look beside the data, with 95 % intervals over items.")
    return said + table("channels of samples and of the data", head, rows, numbers=range(1, 5))


def _copies(look: dict[str, Any]) -> str:
    copies = look["copies"]
    if not copies:
        return markup.said(
            "Whether they are copies was not asked: the data are too few, or repeat themselves, as honest samples then do."
        )
    return markup.said(f"{nearer(copies)}.")
