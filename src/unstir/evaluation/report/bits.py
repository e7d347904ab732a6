"""Likelihood in bits: its parts, by time, beside other coders; and the rate–distortion curve."""

from __future__ import annotations

import math
from html import escape

from unstir.bound.variational import strata
from unstir.evaluation import likelihood
from unstir.evaluation.likelihood import Likelihood
from unstir.evaluation.rate import Rate
from unstir.evaluation.report import markup
from unstir.evaluation.report.axes import Axis, Curve, Points, plot
from unstir.evaluation.report.markup import Section, figure, subscripts, table, typed
from unstir.evaluation.report.measured import Measured
from unstir.evaluation.yardsticks import Yardsticks
from unstir.runs import Run


def likelihood_section(run: Run, measured: Measured) -> Section:
    bound, command = measured.bound, measured.command(run, "bound", "yardsticks")
    parts = {name: subscripts(what) for name, what in likelihood.PARTS.items()}
    last = "the last step, to whole levels" if bound.unit == "bits/dim" else "the last step"
    rows = (
        ("total", bound.total, f"± {bound.half_width:.4f}, 95 % interval over {bound.items} held-out items; an upper bound"),
        ("prior", bound.prior, f"{parts['prior']}: what the chain does not forget"),
        ("steps", bound.steps, f"{parts['steps']} ({escape(bound.described)}): what the network does not know"),
        ("decoder", bound.decoder, f"{parts['decoder']}: {last}"),
    )  # fmt: skip
    body = table(
        "likelihood and its parts",
        ("", bound.unit, ""),
        [(name, f"{value:.4f}", text) for name, value, text in rows],
        numbers=(1,),
        words=True,
    )
    if bound.prior_report:
        body += markup.said(bound.prior_report)
    others = measured.answers.results.get("yardsticks")
    if isinstance(others, Yardsticks):
        body += _beside_others(bound, others)
    return Section("Likelihood", body + typed(command))


def _beside_others(bound: Likelihood, others: Yardsticks) -> str:
    rows = [("this model", bound.total, bound.half_width, "the bound above")]
    rows += [(row.name, row.value, row.half, row.phrase) for row in others.rows]
    finite = [value for _, value, _, _ in rows if math.isfinite(value)]
    longest = (
        max(finite, default=0.0) if min(finite, default=0.0) > 0 else 0.0
    )  # a density's bits may be below 0: no bars

    def bar(value: float, style: str) -> str:
        share = f"{100 * value / longest:.1f}%" if longest and math.isfinite(value) else "0"
        return f'<span class="length {style}" style="width:{share}"></span>'

    cells = [
        (
            escape(name),
            f"{value:.4f}" + ("" if half is None or not math.isfinite(half) else f" ± {half:.4f}"),
            bar(value, "b" if i else "a") + escape(phrase),
        )
        for i, (name, value, half, phrase) in enumerate(rows)
    ]
    notes = "".join(markup.said(note) for note in others.notes)
    head = ("", escape(others.unit), f"the same {others.items:,} held-out items; shorter is better")
    return table("the model beside other coders", head, cells, numbers=(1,), words=True) + notes


def by_time_section(run: Run, measured: Measured) -> Section:
    bound, rate = measured.bound, measured.rate
    stairs = Curve(per_step(bound), stairs=True)
    return Section(
        "Where the bits are",
        markup.beside(
            figure(
                plot({"KL of each step": stairs}, Axis("t", log=True), Axis(f"{bound.unit} for one step", log=True)),
                "The bound by time: what each reverse step from t to t − 1 costs, averaged over held-out items"
                + ("" if bound.calls == bound.chain else " and over runs of steps that share an estimate")
                + ". Their sum is the steps' part of the table above.",
                measured.command(run, "bound"),
            ),
            figure(
                plot({"rate and distortion": Curve(curve(rate))}, Axis(f"rate, {rate.unit}"), Axis(_title(rate))),
                f"What a receiver knows who has been sent so many bits: {rate.items} held-out items, all "
                f"{len(rate.times):,} steps, from noise (left) to x<sub>1</sub> (right) [Ho et al. 2020, figure 5].",
                measured.command(run, "rate", images=measured.rate_items),
            ),
        ),
    )


def _title(rate: Rate) -> str:
    return f"distortion: {rate.distortion_unit}"


def per_step(bound: Likelihood) -> Points:
    """(t, the cost of the step from t) by rising t: within a stratum of an estimate all steps share its mean, up to T."""
    chain = bound.times or range(1, bound.chain + 1)
    cut = strata(bound.chain - 1, bound.calls - 1)
    points = [(float(chain[first]), share / size) for (first, size), share in zip(cut, bound.per_step)]
    return [*points, (float(chain[-1]), points[-1][1])] if points else points


def curve(rate: Rate) -> Points:
    """(rate, distortion) by rising rate."""
    return sorted(zip(rate.rate, rate.distortion))
