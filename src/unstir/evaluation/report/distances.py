"""Distances between samples and data, against the number of steps and the seconds that a sample takes."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from unstir.bound.interval import Z95, within
from unstir.evaluation.quality import FEW
from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import Axis, Curve, label, plot
from unstir.evaluation.report.markup import Section, figure, table, typed
from unstir.evaluation.report.measured import Length, Measured
from unstir.runs import Run

TITLE = "Distances against steps and seconds"
_FLOORS = {"two halves of the training data": "frechet_halves", "held-out data": "frechet_heldout"}


def section(run: Run, measured: Measured) -> Section:
    lengths = measured.lengths
    if not lengths:
        return Section(TITLE, measured.why_not(run))
    first = lengths[0].quality
    at = f"@{first.extractor}"
    floors = {name: first.values[key] for name, key in _FLOORS.items()}
    few = (
        f" With fewer than {FEW:,} samples the Fréchet distance is biased upwards by their number, the kernel distance is not."
        if first.samples < FEW
        else ""
    )
    command = measured.command(run, "frechet", "kernel", sample_steps=lengths[-1].steps)
    intro = (
        f"{first.samples:,} samples for each number of steps against {first.real:,} training items, in the features "
        f"{first.extractor}: 0 is perfect, and the floor is what real data score.{few}"
    )
    charts = [
        figure(_against(lengths, axis, at, of, floors), caption, command)
        for axis, of, caption in (
            (Axis("steps", log=True), lambda each: float(each.steps), "More steps follow what the model learned more closely."),
            (
                Axis("seconds a sample", log=True),
                lambda each: each.seconds,
                "The same distances against what they cost on this machine, features included.",
            ),
        )
    ]  # fmt: skip
    return Section(TITLE, markup.said(intro) + markup.beside(*charts) + _table(lengths, at) + typed(command))


def _against(
    lengths: tuple[Length, ...], axis: Axis, at: str, of: Callable[[Length], float], floors: dict[str, float]
) -> str:
    found = sorted(((of(each), each.quality.values) for each in lengths), key=lambda pair: pair[0])
    curve = Curve([(x, v["frechet"]) for x, v in found], [v["frechet_half"] for _, v in found], marks=True)
    return plot({"samples": curve}, axis, Axis(f"frechet{at}", log=True), floors)


def _table(lengths: tuple[Length, ...], at: str) -> str:
    values = lengths[0].quality.values
    rows = [
        (
            f"{each.steps:,} steps",
            label(float(f"{each.seconds:.2g}")),
            within((v := each.quality.values)["frechet"], v["frechet_half"]),
            _kernel(v, "kernel"),
        )
        for each in lengths
    ]
    rows += [
        (
            "held-out data",
            "",
            f"{values['frechet_heldout']:.4f}",
            _kernel(values, "kernel_heldout"),
        ),
        ("two halves of the training data", "", f"{values['frechet_halves']:.4f}", ""),
    ]
    head = ("", "seconds a sample", escape(f"frechet{at}"), escape(f"kernel{at}"))
    return table("distances by the number of steps, with 95 % intervals", head, rows, numbers=(1, 2, 3))


def _kernel(values: dict[str, float], key: str) -> str:
    return within(values[key], Z95 * values[f"{key}_error"])
