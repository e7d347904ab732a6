"""The page: what is said at its top, its sections in order, and how it comes to stand in the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from unstir.bound.interval import Z95, within
from unstir.data import Dataset
from unstir.evaluation import receipt
from unstir.evaluation.asked import Bar, silent
from unstir.evaluation.quality import Quality
from unstir.evaluation.report import bits, copies, distances, facts, films, repeating, samples, shell, training, watched
from unstir.evaluation.report.markup import Section
from unstir.evaluation.report.measured import Measured, measure
from unstir.runs import Model, Run
from unstir.runs.checkpoint import write_aside

SAMPLES = 500


def write(
    run: Run,
    model: Model,
    dataset: Dataset,
    *,
    data: str | None = None,
    images: int = 256,
    samples: int = SAMPLES,
    bar: Bar = silent,
) -> None:
    """Samples, measures and writes ``report.html`` into the run, and the receipt of its numbers; an old report stays until then.

    Args:
        data: where the run's data are now, as it was named, for the receipt and the commands; None: where they were.
        images: held-out items for the bound.
        samples: how many for each number of steps, for the distances; 0 leaves sample quality out.
        bar: shows the progress of each long part.
    """
    measured = measure(run, model, dataset, data=data, images=images, samples=samples, bar=bar)
    with bar("drawing", "parts") as update:
        made = []
        parts = _sections(run, model, dataset, measured)
        for i, part in enumerate(parts):
            made += part()
            update(i + 1, len(parts))
    text = _page(run, model, measured, made)
    receipt.write(measured.receipt, receipt.place(run.path, measured.receipt))
    write_aside(run.report, text.encode())


def _sections(run: Run, model: Model, dataset: Dataset, measured: Measured) -> list[Callable[[], list[Section]]]:
    return [
        lambda: [samples.section(run, model, dataset.heldout)],
        lambda: films.sections(run, model, dataset.heldout),
        lambda: [watched.section(run, model), training.section(run, model)],
        lambda: [bits.likelihood_section(run, measured), bits.by_time_section(run, measured)],
        lambda: [distances.section(run, measured), copies.section(run, measured)],
        lambda: [repeating.section(run, measured), facts.section(run, model)],
    ]


def _page(run: Run, model: Model, measured: Measured, sections: Sequence[Section]) -> str:
    items = "images" if model.spec.kind == "image" else "items"
    return shell.page(
        f"{run.path.resolve().name}: {Path(model.spec.source).name}",
        f"A diffusion model trained on {model.spec.source}, {model.images:,} training {items} seen.",
        _key_figures(run, measured),
        sections,
    )


def _key_figures(run: Run, measured: Measured) -> list[tuple[str, str, str]]:
    """What is said of it, the figure (HTML), and what to hold it against."""
    bound = measured.bound
    found = [
        (
            f"{bound.unit}, held-out data",
            within(bound.total, bound.half_width),
            "; ".join(filter(None, [f"an upper bound, over {bound.items} items", measured.answers.verdict])),
        )
    ]
    scores = measured.answers.results.get("quality")
    if isinstance(scores, Quality):
        v, at = scores.values, scores.extractor
        found += [
            (
                f"frechet@{at}",
                within(v["frechet"], v["frechet_half"]),
                f"{scores.samples:,} samples; two halves of the training data score {v['frechet_halves']:.4f}",
            ),
            (
                f"kernel@{at}",
                within(v["kernel"], Z95 * v["kernel_error"]),
                f"held-out data score {within(v['kernel_heldout'], Z95 * v['kernel_heldout_error'])}",
            ),
        ]
    copied = copies.verdict(measured)
    if copied is not None:
        found.append(("copies of training data", escape(copied), "tested against held-out data"))
    trained = watched.verdict_of(run)
    if trained is not None:
        found.append(("training", escape(trained.word), trained.reason))
    return found
