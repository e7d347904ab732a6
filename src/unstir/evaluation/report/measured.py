"""All that the report states in numbers, measured once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from unstir.data import Dataset
from unstir.evaluation import quality, rate, receipt
from unstir.evaluation.asked import Answers, Asked, Bar, answer
from unstir.evaluation.likelihood import Likelihood
from unstir.evaluation.quality import Quality, Reference
from unstir.evaluation.rate import Rate
from unstir.evaluation.report.markup import line, said, typed
from unstir.evaluation.sampling import Sampling, draw
from unstir.runs import Model, Run

LENGTHS = {True: (5, 10, 20, 50), False: (50, 100, 200)}
"""Numbers of steps that are compared, of real numbers and of values that jump."""

NOT_ASKED = "no samples were asked for"
_OF_SAMPLES = ("frechet", "kernel", "memorising")
_RATE_SHARE = 16
"""The curve of rates takes all T network calls an item, the bound about 100: of pictures it gets as many fewer items."""


@dataclass(frozen=True)
class Length:
    """Samples of one number of steps: what they score, and the seconds that each took."""

    steps: int
    seconds: float
    quality: Quality


@dataclass(frozen=True)
class Measured:
    """Everything measured.

    Args:
        asked, answers: the evaluation that the receipt is of.
        rate_items: how many items the curve of rates was asked for.
        lengths: by rising steps; empty where there were no samples.
        withheld: why there were none.
        data: where the data are, if not where they were.
    """

    asked: Asked
    answers: Answers
    rate: Rate
    rate_items: int
    lengths: tuple[Length, ...]
    withheld: str
    data: str | None
    receipt: dict[str, Any] = field(repr=False)

    @property
    def bound(self) -> Likelihood:
        found = self.answers.results["bound"]
        assert isinstance(found, Likelihood)
        return found

    def why_not(self, run: Run) -> str:
        """What stands in place of what was measured on samples, and how to have it if it was only not asked for."""
        again = typed(line("report", run)) if self.withheld == NOT_ASKED else ""
        return said(f"Not measured: {self.withheld}.") + again

    @property
    def sampled(self) -> bool:
        """Whether there were samples."""
        return bool(self.lengths)

    def command(self, run: Run, *metrics: str, **changed: Any) -> str:
        """The line that measures these again as they were measured here."""
        about_samples = set(metrics) & set(_OF_SAMPLES)
        asked = replace(self.asked, metrics=metrics or self.asked.metrics, **changed)
        options: list[str | int] = ["--metrics", ",".join(asked.metrics)]
        for name in ("images", *(("samples", "sample_steps") if about_samples or not metrics else ()), "batch"):
            value = getattr(asked, name)
            if value != getattr(Asked, name):
                options += [f"--{name.replace('_', '-')}", value]
        return line("evaluate", run, *options, *(("--data", self.data) if self.data else ()))


def measure(
    run: Run, model: Model, dataset: Dataset, *, data: str | None, images: int, samples: int, bar: Bar
) -> Measured:
    """One evaluation with a receipt, the curve of rates, and samples of several numbers of steps.

    Args:
        samples: of each number of steps; 0 for none.
    """
    began = time.perf_counter()
    asked = Asked(
        metrics=("bound", "yardsticks", *(_OF_SAMPLES if samples else ())),
        images=images,
        samples=samples or Asked.samples,
        batch=64 if model.spec.kind == "image" else 500,
    )
    asked.check(model)
    withheld = NOT_ASKED
    if samples:
        withheld = quality.too_few(dataset)
        if withheld:
            asked = replace(asked, metrics=("bound", "yardsticks"))
    answers = answer(asked, model, dataset, bar)
    made = receipt.of(asked, answers, model, dataset, run=str(run.path), data=data, seconds=time.perf_counter() - began)
    rate_items = max(2, images // _RATE_SHARE) if model.spec.kind == "image" else images
    with bar("measuring the rate", "network calls") as update:
        curve = rate.measure(model, dataset.heldout, images=rate_items, batch=asked.batch, progress=update)
    lengths = () if answers.reference is None else _lengths(asked, answers, model, answers.reference, bar)
    return Measured(asked, answers, curve, rate_items, lengths, withheld, data, made)


def _lengths(asked: Asked, answers: Answers, model: Model, reference: Reference, bar: Bar) -> tuple[Length, ...]:
    drawn, at_hand = answers.drawn, answers.results["quality"]
    assert drawn is not None
    assert isinstance(at_hand, Quality)
    found = {model.steps: Length(model.steps, drawn.seconds / len(drawn.x), at_hand)}
    process = model.denoiser.process
    for steps in () if model.denoiser.consecutive else LENGTHS[process.continuous]:
        if steps in found or steps > process.T:
            continue
        how = Sampling.of(model, steps=steps)
        with bar(f"sampling in {steps} steps", "samples") as update:
            drawn = draw(model, asked.samples, reference.extractor, how, batch=asked.batch, progress=update)
        scores = quality.measure(drawn, reference, at_hand.measures, asked.seed)
        found[steps] = Length(steps, drawn.seconds / len(drawn.x), scores)
    return tuple(found[steps] for steps in sorted(found))
