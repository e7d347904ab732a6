"""unstir film"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unstir.cli.edit.asked import HeldOut


def film_(
    run: Path,
    *pictures: Path,
    forward: bool = False,
    heldout: HeldOut = None,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 4,
    frames: int = 11,
    steps: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    label: str | None = None,
    weights: Literal["ema", "raw"] = "ema",
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show noise turning into pictures, or with --forward pictures into noise; beneath each what the network takes it for.

    Examples:

        unstir film runs/photos

        unstir film runs/photos --out film.gif -n 6 --steps 50

        unstir film runs/photos photo.png --forward

    Parameters
    ----------
    run: Path
        A run's folder, or one model.safetensors.
    pictures: Path
        With --forward: pictures, or folders of them, instead of held-out ones.
    forward: bool
        The forward process, from data to noise.
    n: int
        How many samples; with --forward and nothing else said, so many held-out pictures.
    frames: int
        How many times of the walk are shown, from its first to its last.
    steps: int
        Steps of the walk, as for unstir sample.
    sampler: str
        As for unstir sample. By default ddim, and ancestral for bits and symbols, in even steps: what unstir sample takes is faster
        through the noise, of which a film would then mostly consist.
    seed: int
        Of the noise: sample i is that of unstir sample.
    label: str
        A class, by name or number, or each for all of them in turn.
    weights: str
        Averaged (ema) or raw.
    out: Path
        x.png for a strip, time from left to right; x.gif or x.webp for one that moves. By default a strip in the run's folder.
    json: bool
        A summary as JSON on stdout.
    """
    import io

    import numpy as np

    from unstir import runs
    from unstir.cli import console
    from unstir.cli.edit.asked import Drawing
    from unstir.cli.edit.desk import Desk
    from unstir.errors import UserError
    from unstir.runs import films
    from unstir.runs.checkpoint import write_aside

    if n < 1 or frames < 2 or (steps is not None and steps < 1):
        raise UserError("-n and --steps must be at least 1, --frames at least 2")
    if (pictures or heldout is not None) and not forward:
        raise UserError(
            "pictures turn into noise with --forward; without it noise turns into pictures, and none are given"
        )
    name = "forward" if forward else "reverse"
    target = out or (run if run.is_dir() else run.parent) / "films" / f"{name}-seed-{seed}.png"
    suffix = target.suffix.lower()
    if suffix not in (".png", ".gif", ".webp"):
        raise UserError(f"a film is written as x.png, x.gif or x.webp, not as {suffix or 'a folder'}")
    # As an edit's sheet is: refused among the data, and over what is shown.
    desk = Desk.opened("film", run, Drawing(seed=seed, weights=weights, out=target.with_suffix(".png")), pictures)
    runs.check_place(target)
    model = desk.model
    if model.spec.kind != "image":
        raise UserError(
            f"a film shows pictures, and this run is of {model.spec.kind}: unstir report shows how they walk"
        )
    if forward:
        own = None if pictures else heldout or f"0-{n - 1}"
        x, _ = desk.items(pictures, own)
        times = np.linspace(0, model.denoiser.process.T, frames).tolist()
        shown = list(films.forward(model, x, times, seed=seed))
    else:
        walked: list[films.Frame] = []
        sampler = sampler or model.denoiser.process.sampler
        total = model.walk(steps=steps, sampler=sampler)
        calls = total.sampler.calls(total.grid.steps) or 0
        with console.bar("walking", "network calls") as update:
            for frame in model.film(n, seed=seed, label=label, steps=steps, sampler=sampler):
                walked.append(frame)
                update(len(walked), calls)
        # A solver that asks twice a step says the same time twice.
        whole = [a for a, b in zip(walked, [*walked[1:], None]) if b is None or a[0] != b[0]]
        places = np.linspace(0, len(whole) - 1, min(frames, len(whole))).round().astype(int)
        shown = [whole[i] for i in places]
    written = io.BytesIO()
    if suffix == ".png":
        films.strip(model, shown).save(written, "png")
    else:
        first, *rest = films.moving(model, shown)
        lasting = [120] * len(rest) + [1500]  # milliseconds; the end stays to be looked at
        first.save(written, suffix[1:], save_all=True, append_images=rest, duration=lasting, loop=0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_aside(target, written.getvalue())
    except OSError as error:
        raise UserError(f"the film could not be written to {target}: {error.strerror}") from None
    console.say(f"{len(shown)} times of {len(shown[0][1])} pictures in {target}")
    if json:
        console.give({"out": str(target), "process": name, "times": [t for t, *_ in shown], "seed": seed})
