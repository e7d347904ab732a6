"""What training recorded: the loss as it went, and where along the chain it is left."""

from __future__ import annotations

from unstir.bound.interval import Z95
from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import Axis, Curve, Points, plot
from unstir.evaluation.report.markup import Section, figure, line
from unstir.runs import Model, Run
from unstir.runs.records import standing
from unstir.training.verdict import looks

HELDOUT = "held out, averaged weights"


def section(run: Run, model: Model) -> Section:
    items = "images" if model.spec.kind == "image" else "items"
    again = line("report", run)
    return Section(
        "Loss",
        markup.beside(
            figure(
                plot(
                    {name: Curve(points) for name, points in losses(run).items()},
                    Axis(f"training {items}"),
                    Axis("loss", log=True),
                ),
                "The loss that was minimised, while training.",
                again,
            ),
            figure(
                plot(by_time(run, items), Axis("t"), Axis("loss", log=True)),
                "The loss of averaged weights by time: left almost clean, right almost noise. Bars are 95 % intervals over items.",
                again,
            ),
        ),
    )


def losses(run: Run) -> dict[str, Points]:
    """The training loss and the held-out loss by images seen."""
    training = [(r["images"], r["loss"]) for r in standing(run.records()) if "event" not in r and r["loss"] is not None]
    heldout = [(look["images"], sum(look["loss"]["heldout"]) / len(look["times"])) for look in looks(run.records())]
    return {"training": training, HELDOUT: heldout}


def by_time(run: Run, items: str) -> dict[str, Curve]:
    """The loss by time t: of held-out items at the first and the last look, of training items at the last."""
    found = looks(run.records())
    # The first and the last look are one where there was one.
    chosen = [
        (look, "heldout", "held out") for look in {look["images"]: look for look in found[:1] + found[-1:]}.values()
    ]
    chosen += [(look, "train", "learned from") for look in found[-1:]]
    curves = {}
    for look, side, name in chosen:
        rows = sorted(zip(look["times"], look["loss"][side], look["loss_error"][side]))
        half = [Z95 * error for _, _, error in rows]
        curves[f"{name}, after {look['images']:,} {items}"] = Curve([(t, y) for t, y, _ in rows], half, marks=True)
    return curves
