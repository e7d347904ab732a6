"""What was generated beside what is real: random, not chosen."""

from __future__ import annotations

from html import escape

import numpy as np

from unstir.data import Split, contact_sheet
from unstir.evaluation.report import beside, markup
from unstir.evaluation.report.markup import Section, embedded, figure, line
from unstir.runs import Model, Run

PICTURES, POINTS, SEQUENCES = 64, 1000, 32
COLUMNS, ROWS = 20, 8
GENERATED, REAL = "Generated: the first of seed 0, not chosen", "Real: held out, never trained on"


def section(run: Run, model: Model, heldout: Split) -> Section:
    """Pictures by class or in order, points as two clouds, bits and symbols as rows of colour; as many of each."""
    if model.spec.kind == "image":
        pair = _by_class(run, model, heldout) or _in_order(run, model, heldout)
    else:
        pair = _no_pictures(run, model, heldout)
    return Section("Generated beside real", markup.beside(*pair))


def _no_pictures(run: Run, model: Model, heldout: Split) -> list[str]:
    points = model.spec.kind == "points"
    real = np.asarray(heldout.x[heldout.spread(POINTS if points else SEQUENCES)])
    generated = model.sample(len(real), batch=len(real))
    commands = line("sample", run, "-n", len(real)), line("report", run)
    drawn = []
    if points:
        seen, what = beside.window(real), _coordinates(real.shape[1])
        for those, caption, style in ((generated, GENERATED, "b"), (real, REAL, "a")):
            cloud, outside = beside.cloud(those, seen, f"{caption}; {what}", style)
            left_out = f"; {outside} of {len(those)} lie outside these axes" if outside else ""
            drawn.append((cloud, escape(f"{caption}; {what}{left_out}")))
    else:
        for those, caption in ((generated, GENERATED), (real, REAL)):
            caption = f"{caption}; each row is one sequence"
            picture = embedded(beside.raster(those, model.spec.symbols), caption)
            drawn.append((picture, f"{escape(caption)}<br>{beside.key(model.spec.symbols)}"))
    return [figure(body, caption, command) for (body, caption), command in zip(drawn, commands)]


def _coordinates(dims: int) -> str:
    if dims == 1:
        return "the share of the values (upwards) up to each value (rightwards)"
    return "the second coordinate (upwards) against the first" + (f", of {dims}" if dims > 2 else "")


def _in_order(run: Run, model: Model, heldout: Split) -> list[str]:
    real = np.asarray(heldout.x[: min(PICTURES, len(heldout))])
    return _sheets(model, model.sample(PICTURES), real, line("sample", run, "-n", PICTURES), line("report", run))


def _by_class(run: Run, model: Model, heldout: Split) -> list[str]:
    """One column a class, where the data has few enough classes and held-out pictures of each; else nothing."""
    classes = len(model.spec.classes)
    if heldout.labels is None or not 4 < classes <= COLUMNS:
        return []
    of_class = [np.flatnonzero(heldout.labels == k)[:ROWS] for k in range(classes)]
    rows = min(len(found) for found in of_class)
    if rows == 0:
        return []
    real = np.asarray(heldout.x[np.stack([found[:rows] for found in of_class], axis=1).ravel()])
    again = line("sample", run, "-n", ROWS * classes, "--label", "each")
    return _sheets(model, model.sample(ROWS * classes, label="each"), real, again, line("report", run), classes)


def _sheets(
    model: Model, generated: np.ndarray, real: np.ndarray, again: str, report: str, columns: int | None = None
) -> list[str]:
    caption = GENERATED.replace(":", ", one column a class:") if columns else GENERATED
    return [
        figure(embedded(contact_sheet(model.spec.levels(x), columns), said), escape(said), command)
        for x, said, command in ((generated, caption, again), (real, REAL, report))
    ]
