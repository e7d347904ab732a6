"""Whether samples are copies of training data, and those nearest to it beside their neighbours."""

from __future__ import annotations

from html import escape

import numpy as np

from unstir.evaluation.memorising import ALARM, NEXT, Memorising, Space
from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import label
from unstir.evaluation.report.markup import Section, embedded, figure, table, typed
from unstir.evaluation.report.measured import Measured
from unstir.runs import Run

TITLE = "Copies of training data"
_SHOWN = 5


def section(run: Run, measured: Measured) -> Section:
    """The verdict with its tests, the pictures, and what the training data hold twice."""
    found, drawn = measured.answers.results.get("memorising"), measured.answers.drawn
    if not isinstance(found, Memorising) or drawn is None:
        return Section(TITLE, measured.why_not(run))
    command = measured.command(run, "memorising")
    body = markup.said(
        f"{len(drawn.x):,} samples: {found.verdict}. For each sample and each held-out item the distance to its nearest training "
        f"item is divided by the mean distance to the next {NEXT} different ones: a copy stands much nearer to one than to all "
        f"others. Samples as new as held-out data raise an alarm {ALARM:.0%} of the time."
    )
    body += table(
        "tests for copies",
        ("looked at in", "median ratio", "held-out data's", "standing out", "by chance", "p", "nearer in pairs", "p"),
        [_row(space) for space in found.spaces.values()],
        numbers=range(1, 8),
    )
    body += _suspects(found)
    if measured.answers.sheet is None:
        body += typed(command)
    else:
        caption = f"samples, each followed by the training pictures nearest to it in {' and '.join(found.spaces)}"
        body += figure(
            embedded(measured.answers.sheet, caption),
            f"{escape(caption.capitalize())}: in the left half the most suspicious samples, in the right half the first ones.",
            command,
        )
    twice = "".join(f"<li>{escape(each.strip())}</li>" for each in found.duplicates.lines())
    return Section(TITLE, body + (f"<ul>{twice}</ul>" if twice else ""))


def verdict(measured: Measured) -> str | None:
    """In words, where it was asked for."""
    found = measured.answers.results.get("memorising")
    return found.verdict if isinstance(found, Memorising) else None


def _row(space: Space) -> tuple[str, ...]:
    test = space.by_ratio
    return (
        escape(space.name),
        f"{np.median(space.ratio):.3f}",
        f"{np.median(space.heldout_ratio):.3f}",
        f"{test.nearer:,}",
        f"{test.expected:.1f}",
        label(float(f"{test.tail_p:.2g}")),
        f"{test.share:.1%}",
        label(float(f"{test.whole_p:.2g}")),
    )


def _suspects(found: Memorising) -> str:
    named = [
        f"<li>sample {s.sample} is nearest to {escape(s.nearest)} in {escape(space.name)}: ratio {s.ratio:.3g}, p = {s.p:.2g}</li>"
        for space in found.spaces.values()
        if space.by_ratio.tail_p < space.level
        for s in space.suspects[:_SHOWN]
    ]
    return f"<ul>{''.join(named)}</ul>" if named else ""
