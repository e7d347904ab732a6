"""unstir sample"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def sample_(
    run: Path,
    *,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 64,
    sampler: Literal["ddim", "heun", "ancestral"] | None = None,
    steps: int | None = None,
    spacing: Literal["uniform", "leading", "trailing", "log-snr"] = "uniform",
    seed: int = 0,
    indices: str | None = None,
    label: str | None = None,
    guidance: float = 1.0,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Draw new data from a run. The same seed gives the same pictures, whatever the batch size.

    Examples:

        unstir sample runs/digits -n 64

        unstir sample runs/digits -n 60 --label each

        unstir sample runs/digits --label 7 --guidance 2 --out sevens/

        unstir sample runs/digits --indices 3,17,99 --out three.png

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    n: int
        How many.
    sampler: str
        ddim and heun are deterministic, ancestral draws noise at every step; heun makes two network calls a step. By default
        ddim, and ancestral for bits and symbols.
    steps: int
        Steps from noise to data; by default 20, and 200 for bits and symbols.
    spacing: str
        How the steps are spread over the times.
    seed: int
        Sample i of a seed is always the same.
    indices: str
        Only these samples of the seed, such as 3,17,99.
    label: str
        A class, by name or number, or each for all of them in turn; without it, samples of all kinds.
    guidance: float
        How strongly to insist on the class: 1 is the plain conditional model.
    weights: str
        Averaged (ema) or raw.
    batch: int
        How many at a time; memory, not results, depends on it.
    out: Path
        x.png for a grid, x.npz or x.npy for arrays, a folder for one PNG each; by default a grid in the run's folder. Points,
        bits and symbols are arrays, there too.
    json: bool
        A summary as JSON on stdout.
    """
    from unstir import runs
    from unstir.cli import console
    from unstir.cli.opening import open_model
    from unstir.errors import UserError
    from unstir.samplers import Grid

    if n < 1 or (steps is not None and steps < 1) or batch < 1:
        raise UserError("-n, --steps and --batch must be at least 1")
    chosen = _indices(indices) if indices is not None else list(range(n))
    model = open_model(run, weights=weights)
    if out is None:
        target = _default_target(run, seed, label, guidance, ".png" if model.spec.kind == "image" else ".npy")
        runs.check(target, codec=model.spec.codec)
    else:
        target = out
        runs.check(target, codec=model.spec.codec, source=model.config.data.source)
    sampler, steps = sampler or model.denoiser.process.sampler, steps or model.steps
    with console.bar("sampling", "samples") as update:
        data = model.sample(
            len(chosen), sampler=sampler, steps=steps, spacing=spacing, seed=seed, indices=chosen,
            label=label, guidance=guidance, batch=batch, progress=update,
        )  # fmt: skip
    console.say(f"{model.weights} weights after {model.images:,} images")
    schedule = model.denoiser.process.schedule
    console.say(Grid.named(spacing, schedule, steps).describe(schedule))
    columns = len(model.spec.classes) if label == "each" else None
    try:
        with console.writing(target):
            runs.write(data, target, chosen, codec=model.spec.codec, columns=columns)
    except OSError as error:
        raise UserError(f"the samples could not be written to {target}: {error.strerror}") from None
    console.say(f"{len(chosen)} samples in {target}")
    if json:
        console.give(
            {
                "out": str(target),
                "indices": chosen,
                "seed": seed,
                "sampler": sampler,
                "steps": steps,
                "weights": model.weights,
            }
        )


def _indices(text: str) -> list[int]:
    from unstir.errors import UserError

    try:
        chosen = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--indices is a list such as 3,17,99, not {text!r}") from None
    return chosen


def _default_target(run: Path, seed: int, label: str | None, guidance: float, suffix: str) -> Path:
    """A name in the run that tells apart what was asked for."""
    name = f"seed-{seed}" + (f"-label-{label}".replace("/", "-") if label else "")
    name += f"-guidance-{guidance:g}" if guidance != 1 else ""
    return (run if run.is_dir() else run.parent) / "samples" / f"{name}{suffix}"
