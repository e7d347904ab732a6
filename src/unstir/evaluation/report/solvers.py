"""Ways of sampling, measured: as plain text, and as a page with quality against network calls and against seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from unstir.bound.interval import within
from unstir.evaluation.report import shell
from unstir.evaluation.report.axes import Axis, Curve, plot
from unstir.evaluation.report.markup import Section, beside, figure, said, table
from unstir.evaluation.solvers import Trials, Tried

_CURVES = 4


def text(trials: Trials) -> str:
    """The table and the winner, in plain text."""
    rows = [("calls", "sampler", "spacing", "steps", "ms a sample", *_heads(trials))]
    rows += [
        (
            str(each.calls), each.how.sampler, each.how.spacing, str(each.how.steps), _milliseconds(each),
            *_measures(trials, each),
        )
        for each in trials.tried
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_said(trials), _verdict(trials)])


def page(trials: Trials, name: str, command: str) -> str:
    """A self-contained page.

    Args:
        name: of the run. command: the line that made it.
    """
    winner = trials.winner
    key = [("the way to sample", winner.way, f"{winner.how.steps} steps, {winner.calls} network calls")]
    if winner.frechet is not None and winner.half is not None:
        key.append((f"frechet@{trials.features}", within(winner.frechet, winner.half), "to held-out data"))
    measure, value = _shown(trials)
    charts = [
        figure(_against(trials, axis, Axis(measure, log=True), at, value), caption, command)
        for axis, at, caption in (
            (Axis("network calls", log=True), lambda one: float(one.calls), "Less is better; further left is quicker."),
            (Axis("seconds a sample", log=True), lambda one: one.seconds, "The same against time on this machine."),
        )
    ]
    rows = [
        (each.way, f"{each.calls}", str(each.how.steps), _milliseconds(each), *_measures(trials, each))
        for each in trials.tried
    ]
    heads = ("sampler, spacing", "network calls", "steps", "ms a sample", *_heads(trials))
    sections = [
        Section("Quality against network calls and seconds", said(" ".join(_said(trials))) + beside(*charts)),
        Section("Every way that was tried", table("ways of sampling", heads, rows, range(1, len(heads)))),
    ]
    return shell.page(f"{name}: ways of sampling", _verdict(trials), key, sections)


def _shown(trials: Trials) -> tuple[str, Callable[[Tried], float | None]]:
    if trials.features:
        return f"frechet@{trials.features}", lambda one: one.frechet
    return "away from the solution", lambda one: one.away


def _against(
    trials: Trials, x: Axis, y: Axis, at: Callable[[Tried], float], value: Callable[[Tried], float | None]
) -> str:
    found: dict[str, list[tuple[float, float, float]]] = {}
    for each in trials.tried:
        if (v := value(each)) is not None and math.isfinite(at(each)):
            found.setdefault(each.way, []).append((at(each), v, each.half or 0.0))
    # The winner, what everybody knows, and those that come nearest.
    nearest = sorted(found, key=lambda way: min(v for _, v, _ in found[way]))
    wanted = dict.fromkeys([trials.winner.way, *(way for way in found if way.startswith(("ddim, ", "ancestral, ")))])
    names = [*[way for way in wanted if way in found][: _CURVES - 2], *nearest]
    curves = {}
    for way in list(dict.fromkeys(names))[:_CURVES]:
        points = sorted(found[way])
        curves[way] = Curve([(a, v) for a, v, _ in points], [h for *_, h in points], marks=True)
    return plot(curves, x, y)


def _heads(trials: Trials) -> Sequence[str]:
    away = ["away (grey levels)" if trials.level else "away"] if trials.reference else []
    return [*away, *([f"frechet@{trials.features}"] if trials.features else [])]


def _measures(trials: Trials, each: Tried) -> Sequence[str]:
    cells = []
    if trials.reference:
        cells.append("own noise" if each.away is None else f"{each.away / (trials.level or 1):.3g}")
    if trials.features:
        cells.append("" if each.frechet is None or each.half is None else within(each.frechet, each.half))
    return cells


def _milliseconds(each: Tried) -> str:
    return "" if math.isnan(each.seconds) else f"{1000 * each.seconds:.3g}"


def _said(trials: Trials) -> list[str]:
    found = []
    few, many = trials.pictures
    if trials.reference and trials.doubt is not None:
        unit, level = (" grey levels", trials.level) if trials.level else ("", 1.0)
        found.append(
            f"Away: root mean square distance from {trials.reference}, from the same noise, over {few} samples; that solution is "
            f"itself {trials.doubt / (level or 1.0):.2g}{unit} from one of half as many steps."
        )
    if trials.features and trials.floor is not None:
        found.append(
            f"Fréchet: {many:,} samples each against {trials.heldout:,} held-out items, with 95 % intervals over the samples; "
            f"training items score {trials.floor:.4g}."
        )
    return found


def _verdict(trials: Trials) -> str:
    each = trials.winner
    return f"Best: {each.how.sampler}, spacing {each.how.spacing}, {each.how.steps} steps ({each.calls} network calls)."
