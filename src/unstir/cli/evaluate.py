"""unstir evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def evaluate_(
    run: Path,
    *,
    data: str | None = None,
    metrics: str = "bound",
    images: int = 256,
    samples: int = 2_048,
    features: str | None = None,
    terms: int = 100,
    steps: int | None = None,
    spacing: Literal["best", "uniform", "trailing", "log-snr"] | None = None,
    variance: Literal["analytic"] | None = None,
    given_labels: bool = False,
    seed: int = 0,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Measure a run on held-out data: the variational bound in bits/dim, its three parts, and a confidence interval.

    Examples:

        unstir evaluate runs/digits

        unstir evaluate runs/digits --images 512 --terms 0 --json

        unstir evaluate runs/digits --steps 20

        unstir evaluate runs/digits --metrics bound,ode,rate

        unstir evaluate runs/digits --metrics frechet,kernel,overlap --samples 500

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    data: str
        Data whose held-out part to use; by default the run's own.
    metrics: str
        What to measure, with commas between: bound; ode, the exact likelihood of the flow that deterministic samples follow
        (not of bits and symbols); rate, how many bits have been sent at each time and how wrong the best guess then is; and of
        samples against data: frechet and kernel, distances; overlap, their precision, recall, density and coverage (not of
        bits and symbols).
    images: int
        How many held-out items; the interval narrows with their square root.
    samples: int
        How many samples to draw for frechet, kernel and overlap.
    features: str
        What these look at: random-filters (of pictures; the default there) or components (leading principal components).
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
    seed: int
        Of the noise in the measures, and of the samples that are drawn.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time.
    json: bool
        The result as JSON on stdout: the bound's figures, and those of others under ode, rate and, for what is of samples,
        quality.
    """
    from functools import cache

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import heldout, open_model
    from unstir.errors import UserError
    from unstir.evaluation import chains, likelihood, ode, quality, rate

    if images < 2 or batch < 1 or terms < 0:
        raise UserError("--images must be at least 2, for an interval, --batch at least 1, --terms at least 0")
    known = ("bound", "ode", "rate", *quality.MEASURES)
    wanted = [name.strip() for name in metrics.split(",")]
    strange = [name for name in wanted if name not in known]
    if strange:
        raise UserError(f"there is no measure called {strange[0]!r}; there are {', '.join(known)}")
    if (steps or spacing) and "bound" not in wanted:
        raise UserError("--steps and --spacing are about the bound: add it to --metrics")
    stepped = bool({"bound", "rate"} & set(wanted))
    if variance and not stepped:
        raise UserError(
            "--variance is about the reverse steps of bound and rate: add one to --metrics, or leave it out"
        )

    model = open_model(run, weights=weights)
    fits = bool(variance) or model.denoiser.variance == "analytic"
    chains.check(model, steps, spacing)
    if fits:
        chains.check_variance(model)
    if "ode" in wanted:
        ode.check(model)
    sampled = tuple(name for name in quality.MEASURES if name in wanted)
    if sampled:
        quality.check(model, features, samples, sampled)
    held = heldout(model, data)
    training = cache(lambda: runs.training(model, data))
    how = {"images": images, "given_labels": given_labels, "seed": seed, "batch": batch}

    if fits and stepped:
        with console.bar("fitting the variance", "network calls") as update:
            chains.fit_variance(model, training(), **how, progress=update)
    results: dict[str, likelihood.Likelihood | ode.OdeResult | rate.Rate | quality.Quality] = {}
    if "bound" in wanted:
        times = None
        if steps is not None:
            with console.bar("choosing the steps", "network calls") as update:
                times = chains.times(model, training, steps, spacing or chains.BEST, **how, progress=update)
        with console.bar("measuring", "network calls") as update:
            results["bound"] = likelihood.measure(
                model,
                held,
                terms=terms or None,
                times=times,
                spacing="" if times is None else spacing or chains.BEST,
                **how,
                progress=update,
            )
    if "ode" in wanted:
        with console.bar("following the flow", "thousandths of the way") as update:
            results["ode"] = ode.measure(model, held, **how, progress=update)
    if "rate" in wanted:
        with console.bar("measuring the rate", "network calls") as update:
            results["rate"] = rate.measure(model, held, **how, progress=update)
    if sampled:
        with console.bar("sampling", "samples") as update:
            results["quality"] = quality.measure(
                model, training(), held, measures=sampled, samples=samples, features=features, seed=seed, batch=batch,
                progress=update,
            )  # fmt: skip
    if json:
        bound = results.pop("bound").to_json() if "bound" in results else {}
        console.give(bound | {name: result.to_json() for name, result in results.items()})
    else:
        print("\n\n".join(result.table() for result in results.values()))
