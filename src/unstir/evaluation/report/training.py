"""What training recorded: the loss as it went, and where along the chain it is left."""

from __future__ import annotations

from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import Axis, Curve, Points, plot
from unstir.evaluation.report.markup import Section, figure, line
from unstir.runs import Model, Run


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
                plot(
                    {f"after {images:,} {items}": Curve(points, marks=True) for images, points in by_time(run).items()},
                    Axis("t"),
                    Axis("held-out loss", log=True),
                ),
                "The loss on held-out data by time, averaged weights: left almost clean, right almost noise.",
                again,
            ),
        ),
    )


def losses(run: Run) -> dict[str, Points]:
    """The training loss and the held-out loss by images seen."""
    training: list[tuple[float, float]] = []
    heldout: list[tuple[float, float]] = []
    for r in run.records():
        if r.get("event") == "resume":
            # What was learned after the checkpoint was lost, and is learned again.
            training = [(x, y) for x, y in training if x <= r["images"]]
        elif r.get("event") == "held-out":
            heldout.append((r["images"], sum(r["loss"]) / len(r["loss"])))
        elif "event" not in r and r["loss"] is not None:
            training.append((r["images"], r["loss"]))
    return {"training": training, "held out, averaged weights": heldout}


def by_time(run: Run) -> dict[int, Points]:
    """The held-out loss by time t as it was first and last recorded, each under the images seen by then."""
    records = [r for r in run.records() if r.get("event") == "held-out" and len(r["times"]) > 1]
    chosen = records if len(records) < 2 else [records[0], records[-1]]
    return {r["images"]: sorted(zip(r["times"], r["loss"])) for r in chosen}
