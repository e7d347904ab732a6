"""unstir train"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def train_(
    data: str,
    *,
    out: Path,
    preset: str | None = None,
    size: int | None = None,
    mode: Literal["auto", "L", "RGB"] | None = None,
    background: str | None = None,
    flip: bool = False,
    augment: float | None = None,
    vectors: Path | None = None,
    condition: str | None = None,
    minutes: float | None = None,
    images: int | None = None,
    config: Path | None = None,
    averages: int | None = None,
    seed: int | None = None,
    strict: bool = False,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    layout: Literal["auto", "contiguous", "channels-last"] | None = None,
    compile: Literal["auto", "on", "off"] | None = None,
    shard: bool = False,
    checkpoint_seconds: float = 60.0,
    track: list[str] | None = None,
    keep: int = 2,
    keep_every: int = 0,
    dry_run: bool = False,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Train on your data; the same line again continues, and on a finished run it exits at once.

    Examples:

        unstir train digits --out runs/digits --minutes 2

        unstir train photos/ --out runs/photos --size 32 --minutes 30

        unstir train train-images-idx3-ubyte.gz --out runs/mnist --minutes 10

        unstir train photos/ --out runs/larger --size 32 --condition super-resolution:4

        unstir train photos/ --out runs/photos --minutes 600 --dry-run

    Parameters
    ----------
    data: str
        digits, a folder of images (class subfolders optional), a .zip of images, .npz, .npy, an idx .gz (MNIST), a .csv table,
        .tar shards ('train-{000..010}.tar'), a data set of Hugging Face's library (hf:NAME:SPLIT), or a toy:
        swiss-roll, moons, heartbeat, dead-leaves.
    out: Path
        The run's folder: made, or continued.
    preset: str
        tiny, small, few (pictures: 100 to 2,000), cifar10, points, bits or symbols; by default chosen by the data.
    size: int
        Side of the pictures in pixels; by default their own when all are equal and at most 128, else at most 64.
    mode: str
        L (grey) or RGB; by default whichever the pictures need.
    background: str
        What transparent pictures are laid on: a colour by name, such as white, or #rrggbb.
    flip: bool
        Also learn mirrored pictures. Only where left and right mean nothing.
    augment: float
        For few pictures: how likely each of mirroring, turning, enlarging, stretching and moving is done to one while learning, such
        as 0.12. The network is told of it, so samples show nothing of it; the preset few has it on.
    vectors: Path
        A .csv with a line for each picture: its file's name and numbers, which samples can then be asked to have.
    condition: str
        What the network is shown of each picture, to learn the rest: super-resolution:4 (or another factor), colouring, or mask.
    minutes: float
        Budget in minutes (default 10); turned into a number of images once the speed is known.
    images: int
        Budget in training images, instead of minutes.
    config: Path
        A TOML file of settings, such as a run's config.toml; flags win over it.
    averages: int
        How often averages of the weights are stored on the way; of 8, say, unstir average makes any other afterwards.
    seed: int
        Everything random follows from it.
    strict: bool
        A broken file is an error instead of being named and skipped.
    precision: str
        By default the faster one on this machine, by measurement.
    layout: str
        By default the faster one on this machine, by measurement.
    compile: str
        torch.compile: minutes at the start for faster steps after; off by default.
    shard: bool
        Of several processes, each keeps a part of the weights only: for networks that one device cannot hold.
    checkpoint_seconds: float
        How often everything is saved: what a kill may cost at most.
    keep: int
        How many of the newest checkpoints stay; 0: all.
    keep_every: int
        Also the first checkpoint after every so many images stays, for good.
    track: list[str]
        Also show numbers and pictures in tensorboard, wandb or trackio; several: repeated, or with commas.
    dry_run: bool
        Only say what would be done: the whole configuration, parameters, memory, images a second and hours, from a few steps.
        Nothing is written.
    json: bool
        A summary as JSON on stdout.
    """
    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.runs.checkpoint import Keep
    from unstir.runs.folder import Run
    from unstir.training.processes import join, leave
    from unstir.training.resolve import resolve
    from unstir.training.session import Session

    if not checkpoint_seconds >= 0:
        raise UserError(f"--checkpoint-seconds is 0 or more, not {checkpoint_seconds:g}")
    if min(keep, keep_every) < 0:
        raise UserError("--keep and --keep-every are 0 or more")
    flags = {
        "preset": preset,
        "seed": seed,
        "averages": averages,
        "condition": condition,
        "track": ",".join(track) if track else None,
        "data": {
            "source": data.rstrip("/") or data,
            "size": size,
            "mode": mode,
            "background": background,
            "flip": flip or None,
            "augment": augment,
            "vectors": None if vectors is None else str(vectors),
            "strict": strict or None,
        },
        "budget": {"minutes": minutes, "images": images},
        "hardware": {"precision": precision, "layout": layout, "compile": compile, "shard": shard or None},
    }
    run, processes = Run(out), join()
    with console.bar("reading", "files") as update:
        settings, dataset = processes.in_turn(lambda: resolve(flags, config, run, progress=update))
    for sentence in dataset.log:
        console.say(sentence)
    spec = dataset.spec
    console.say(
        f"{len(dataset.train):,} to learn from, {len(dataset.heldout):,} held out, each {'×'.join(map(str, spec.shape))}"
        + (f", {len(spec.classes)} classes" if spec.classes else "")
        + f"; preset {settings.preset}"
    )
    console.say(spec.rules)
    if dry_run:
        if processes.world > 1:
            raise UserError("--dry-run measures one process: ask it without torchrun")
        return _rehearsed(json, run, settings, dataset)
    if processes.world > 1:
        console.say(f"{processes.world} processes share each batch of {settings.optimiser.batch} images")
    if run.engine() is None and not (settings.hardware.shard and processes.world > 1):
        console.say("measuring which precision, layout and threads are fastest here: a few steps of each")
    session = Session(
        run,
        settings,
        dataset,
        checkpoint_seconds=checkpoint_seconds,
        keep=Keep(keep, keep_every),
        processes=processes,
    )
    for note in session.notes:
        console.say(note)
    progress = session.trainer.progress
    if session.finished:
        console.say(f"{out} is finished: {progress.images:,} images")
        _summary(json, run, progress.images, finished=True)
        return
    stopped = False
    with console.bar("training", "images") as update:
        for event in session.events():
            if event.kind == "start" and event.facts["images"]:
                console.say(f"continuing from {event.facts['images']:,} images")
            if event.step is not None:
                note = f"{event.images_per_second:.0f} images/s, loss {event.step.loss:.4f}"
                update(event.step.images, event.facts["total"], note)
            elif event.text:
                console.say(event.text)
            stopped = stopped or event.kind == "stopped"
    _summary(json, run, session.trainer.progress.images, finished=not stopped)
    leave()
    if stopped:
        raise SystemExit(130)


def _rehearsed(as_json: bool, run, settings, dataset) -> None:
    from dataclasses import asdict

    from unstir.cli import console
    from unstir.training.dry_run import dry_run
    from unstir.training.opening import compare

    compare(run, settings, dataset)
    console.say("measuring: a few steps with each precision, layout and number of threads, then memory")
    found = dry_run(settings, dataset)
    if as_json:
        console.give(asdict(found) | {"config": asdict(settings)})
        return
    print(settings.to_toml())
    for line in found.lines:
        print(line)


def _summary(as_json: bool, run, images: int, finished: bool) -> None:
    from unstir.cli import console
    from unstir.training.verdict import judge, looks

    if as_json:
        console.give(
            {
                "run": str(run.path),
                "images": images,
                "finished": finished,
                "verdict": judge(looks(run.records())).word,
                "model": str(run.model) if finished else None,
            }
        )
    elif finished:
        console.say(f"next: {shlex.join(['unstir', 'sample', str(run.path), '-n', '64'])}")
