"""unstir evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def evaluate_(
    run: Path | None = None,
    *,
    data: str | None = None,
    metrics: str = "bound,yardsticks",
    images: int = 256,
    within: float | None = None,
    terms: int = 100,
    steps: int | None = None,
    spacing: Literal["best", "uniform", "trailing", "log-snr"] | None = None,
    variance: Literal["analytic"] | None = None,
    given_labels: bool = False,
    samples: int = 2_048,
    sampler: str | None = None,
    sample_steps: int | None = None,
    sample_spacing: str | None = None,
    clip: Literal["auto", "static", "dynamic", "none"] = "auto",
    label: str | None = None,
    guidance: float = 1.0,
    guidance_interval: str | None = None,
    rescale: float = 0.0,
    autoguidance: Path | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    features: str | None = None,
    input_range: Literal["-1,1", "0,1", "0,255", "imagenet"] = "-1,1",
    seed: int = 0,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    receipt: Path | None = None,
    check: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a run on held-out data: likelihood, sample quality, copies of training data; with a receipt.

    Examples:

        unstir evaluate runs/digits

        unstir evaluate runs/digits --within 0.01

        unstir evaluate runs/digits --metrics bound,ode,rate --terms 0 --json

        unstir evaluate runs/digits --metrics frechet,kernel,overlap,memorising --sampler heun --sample-steps 10

        unstir evaluate --check runs/digits/receipts/bound-yardsticks-3f1c02.json

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors; with --check it may be left out.
    data: str
        Data whose held-out part to use; by default the run's own.
    metrics: str
        What to measure, with commas between: bound, on -log p; yardsticks, what PNG, lossless WebP and a Gaussian fit need for
        the same items; ode, the exact likelihood of the flow that deterministic samples follow (not of bits and symbols); rate,
        how many bits have been sent at each time and how wrong the best guess then is; and of samples against data: frechet and
        kernel, distances; overlap, their precision, recall, density and coverage (not of bits and symbols); memorising,
        whether samples are copies of training data.
    images: int
        How many held-out items; the interval narrows with their square root.
    within: float
        How wide half of the bound's interval may be: as many items are measured as that takes.
    terms: int
        About how many network calls for each item, for an unbiased estimate; 0 for all T terms of the bound.
    steps: int
        Measure the bound of a chain of only so many steps.
    spacing: str
        How these steps are spread: best, the default, finds those of the lowest bound on training data; the others are those
        of samples.
    variance: str
        analytic fits the width of the reverse steps to training data, in place of the run's own.
    given_labels: bool
        Bound -log p(x | class) with each item's class, instead of -log p(x).
    samples: int
        How many samples to draw for frechet, kernel, overlap and memorising.
    sampler: str
        How they are drawn: see unstir sample, there and below.
    sample_steps: int
        Steps from noise to data; by default the run's own choice, else 20, and 200 for bits and symbols.
    sample_spacing: str
        How these are spread over the times.
    clip: str
        What keeps the predicted picture in its range.
    label: str
        A class, by name or number, or each for all of them in turn; without it, samples of all kinds.
    guidance: float
        How strongly to insist on the class: 1 is the plain conditional model.
    guidance_interval: str
        Guide only at these noise levels sigma/alpha, such as 0.3,5.
    rescale: float
        The share, 0 to 1, in which guidance gives back the spread of colours that it widens.
    autoguidance: Path
        A weaker model, such as RUN/early.safetensors, to guide away from, in place of the model without a condition.
    precision: str
        Of the network's products while sampling.
    features: str
        What samples are compared in: random-filters (of pictures; the default there), components (leading principal components),
        or a file: Inception's weights (.pth), a network (.onnx, .pt2), a classifier of unstir features train (.safetensors).
    input_range: str
        Which numbers a network from a .onnx or .pt2 file takes.
    seed: int
        Of the noise in the measures, and of the samples that are drawn.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time.
    receipt: Path
        Where the receipt is written: by default into the run's folder, under receipts/.
    check: Path
        A receipt: measure again what it says, and say whether the numbers agree; exit code 1 when they do not.
    json: bool
        The result as JSON on stdout: the bound's figures, and those of others under their names; those of distances under
        quality.
    """
    import sys

    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.evaluation.asked import Asked
    from unstir.runs.guides import interval_of

    if check is not None:
        from unstir.cli.measuring import repeat

        agreed = repeat(check, run, data)
        if json:
            console.give(agreed.to_json())
        else:
            print(agreed.table())
        sys.exit(0 if agreed.agrees else 1)
    if run is None:
        raise UserError("name the run to measure, such as unstir evaluate runs/digits, or a receipt with --check")
    asked = Asked(
        metrics=tuple(name.strip() for name in metrics.split(",")),
        images=images, within=within, terms=terms, given_labels=given_labels,
        steps=steps, spacing=spacing, variance=variance,
        samples=samples, sampler=sampler, sample_steps=sample_steps, sample_spacing=sample_spacing, clip=clip,
        label=label, guidance=guidance, guidance_interval=interval_of(guidance_interval), rescale=rescale,
        autoguidance=None if autoguidance is None else str(autoguidance), precision=precision,
        features=features, input_range=input_range, seed=seed, batch=batch,
    )  # fmt: skip
    from unstir.cli import measuring
    from unstir.evaluation.receipt import place

    answers, made = measuring.measured(asked, run, data, weights, receipt)
    if json:
        results = answers.to_json()
        console.give(results.pop("bound", {}) | results)
    else:
        print(answers.table())
    measuring.keep(answers, made, receipt or place(run, made), asked_for=receipt is not None)
