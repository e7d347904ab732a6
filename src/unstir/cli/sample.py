"""unstir sample"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def sample_(
    run: Path,
    *,
    n: Annotated[int | None, Parameter(name=["-n", "--number"])] = None,
    sampler: str | None = None,
    steps: int | None = None,
    spacing: str | None = None,
    times: str | None = None,
    clip: Literal["auto", "static", "dynamic", "none"] = "auto",
    seed: int = 0,
    indices: str | None = None,
    label: str | None = None,
    vector: str | None = None,
    like: Path | None = None,
    mask: str | None = None,
    guidance: float = 1.0,
    guidance_interval: str | None = None,
    rescale: float = 0.0,
    autoguidance: Path | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    weights: Literal["ema", "raw"] = "ema",
    batch: int = 64,
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Draw new data from a run. The same seed gives the same pictures, whatever the batch size.

    Stopped, the same line continues where samples are missing. Several processes share the samples out:
    torchrun --nproc-per-node 2 -m unstir sample RUN …

    Examples:

        unstir sample runs/digits -n 64

        unstir sample runs/digits -n 60 --label each

        unstir sample runs/digits --label 7 --guidance 2 --out sevens/

        unstir sample runs/digits --indices 3,17,99 --out three.png

        unstir sample runs/digits --sampler dpm++2m --steps 10 --spacing log-snr

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    n: int
        How many; 64 unless told otherwise.
    sampler: str
        Without noise: ddim, euler, heun, dpm++2s, dpm++3s, dpm++2m, dpm++3m, unipc2, unipc3, pndm, deis, adaptive. With noise:
        ancestral, edm, dpm++sde, dpm++2m-sde; of symbols tau too. Options come after a colon, such as ddim:eta=0.5. By default
        the run's own choice, which unstir bench solvers makes, else dpm++2m, and ancestral for bits and symbols.
    steps: int
        Steps from noise to data; by default the run's own choice, else 20, and 200 for bits and symbols.
    spacing: str
        How the steps are spread over the times: uniform, leading, trailing, quadratic, log-snr, rho (of Karras et al.; rho:rho=5), or
        best, the steps of the lowest bound on training data.
    times: str
        The times themselves instead, falling to 0, such as 1000,700,400,100,0.
    clip: str
        What keeps the predicted picture in its range: static cuts off, dynamic scales back, none; auto is static for 8-bit
        pictures and none for other data.
    seed: int
        Sample i of a seed is always the same.
    indices: str
        Only these samples of the seed, such as 3,17,99 or 100-199.
    label: str
        A class, by name or number, or each for all of them in turn; without it, samples of all kinds.
    vector: str
        Numbers, in the units of the table that the run was trained with, such as 35,1.70.
    like: Path
        A picture, or a folder of them in turn, of which the run is shown what it was trained to be shown: it fills in the rest.
    mask: str
        Of a run that fills in masks: what is unknown of the picture, as a picture (white is unknown), a folder of them, or left,
        right, top, bottom or middle; by default drawn by chance, as in training.
    guidance: float
        How strongly to insist on the class: 1 is the plain conditional model.
    guidance_interval: str
        Guide only at noise levels sigma/alpha above the first and up to the second, such as 0.3,2.
    rescale: float
        The share, 0 to 1, in which guided predictions get the model's own spread back.
    autoguidance: Path
        A weaker model, such as an earlier checkpoint, to be guided away from, in place of the model without a class.
    precision: str
        Of the network's products: bf16 is up to twice as fast where the processor has it, and rounds more; fp32 by default.
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
    from dataclasses import asdict

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.listing import whole_numbers
    from unstir.cli.opening import open_model
    from unstir.errors import UserError
    from unstir.evaluation.receipt import model_hash
    from unstir.runs import shown
    from unstir.runs.drawing import Job
    from unstir.runs.guides import interval_of, weaker
    from unstir.runs.walks import How
    from unstir.training.processes import place_among_processes

    if n is not None and indices is not None:
        raise UserError("--indices names the samples, and -n counts them: leave one of the two out")
    number = 64 if n is None else n
    if min(number, batch, 1 if steps is None else steps) < 1:
        raise UserError("-n, --steps and --batch must be at least 1")
    if times is not None and (steps is not None or spacing is not None):
        raise UserError("--times are the steps themselves: leave --steps and --spacing out")
    chosen = list(range(number)) if indices is None else whole_numbers(indices, "--indices")
    model = open_model(run, weights=weights)
    codec = model.spec.codec
    if out is not None:
        runs.check(out, codec=codec, source=model.config.data.source)
    given: dict[str, Any] = {
        "sampler": sampler, "steps": steps, "spacing": spacing, "clip": clip,
        "guidance": guidance, "guidance_interval": interval_of(guidance_interval), "rescale": rescale,
        "autoguidance": None if autoguidance is None else str(autoguidance), "precision": precision,
    }  # fmt: skip
    if times is not None:
        given["times"] = _times(times)
    elif spacing == "best":
        given |= {"spacing": None, "times": _best(model, steps)}
    walk, how = model.walk(**given), How.of(model, **given)
    drawn = {"seed": seed, "label": label, **asdict(how)}
    conditions, said = shown.given(model, vector, like, mask)
    if how.autoguidance is not None:
        said["weaker"] = model_hash(weaker(how.autoguidance))
    if out is None:
        plain = {"seed": seed, "label": label, **asdict(How.of(model, guidance=guidance)), "weights": "ema"}
        other = {key: value for key, value in {**drawn, **said, "weights": weights}.items() if plain.get(key) != value}
        other |= {} if indices is None else {"indices": chosen}
        suffix = ".png" if codec.kind == "image" else ".npy"
        target = _default_target(run, seed, label, guidance, other, suffix)
        runs.check(target, codec=codec)
    else:
        target = out
    columns = len(model.spec.classes) if label == "each" else None
    job = Job(target, chosen, batch, {"model": model_hash(model), **drawn, **said}, codec, columns)
    rank, world = place_among_processes()
    try:
        with console.bar("sampling", "samples") as update:
            new = job.run(
                lambda part: model.sample(len(part), indices=part, batch=batch, **drawn, **conditions),
                rank=rank, world=world, progress=update,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(*(["the same line continues"] if job.begun else [])) from None
    except OSError as error:
        raise UserError(f"the samples could not be written to {target}: {error.strerror}") from None
    if rank:
        return
    console.say(f"{model.weights} weights after {model.images:,} images; {how.walked}")
    if walk.sampler.calls(walk.grid.steps) is not None:  # else it chose times of its own
        console.say(walk.grid.describe(model.denoiser.process.schedule))
    kept = f", {len(chosen) - new} of them from before or by other processes" if new < len(chosen) else ""
    console.say(f"{len(chosen)} samples in {target}{kept}")
    if json:
        console.give({"out": str(target), "indices": chosen, "weights": model.weights, **drawn, **said})


def _times(text: str) -> list[float]:
    from unstir.errors import UserError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--times is a falling list such as 1000,700,400,100,0, not {text!r}") from None


def _best(model, steps: int | None) -> list[float]:
    """The falling times of the chain whose bound on training data is lowest, of so many steps."""
    from unstir.cli import console
    from unstir.cli.opening import own_data
    from unstir.evaluation import chains

    steps = steps or model.steps
    chains.check(model, steps, chains.BEST)
    data = own_data(model)
    with console.bar("choosing the steps", "network calls") as update:
        rising = chains.times(model, lambda: data.train, steps, chains.BEST, progress=update)
    return [*reversed(rising), 0.0]


def _default_target(
    run: Path, seed: int, label: str | None, guidance: float, other: dict[str, Any], suffix: str
) -> Path:
    """A place in the run that tells apart what was asked for: all that is not usual by a checksum."""
    import json
    import zlib

    name = f"seed-{seed}" + (f"-label-{label}".replace("/", "-") if label else "")
    name += f"-guidance-{guidance:g}" if guidance != 1 else ""
    name += f"-{zlib.crc32(json.dumps(other, sort_keys=True).encode()):08x}" if other else ""
    return (run if run.is_dir() else run.parent) / "samples" / f"{name}{suffix}"
