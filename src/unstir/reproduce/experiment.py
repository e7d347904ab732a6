"""What an experiment is, and how its runs are made: every model in it is an ordinary run, trained by the ordinary loop.

So an experiment that was stopped goes on where it was, each figure it took is kept beside the run it was taken from, and any of
its runs can be sampled, measured and looked at like another.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from unstir.data import Dataset
from unstir.data import load as load_data
from unstir.errors import UserError
from unstir.reproduce.table import Table
from unstir.runs import Model, Run, load
from unstir.runs import config as configs
from unstir.runs.checkpoint import write_aside

Measured = dict[str, Any]
"""What was measured on one run: numbers by name, as JSON holds them."""


@dataclass(frozen=True)
class Setting:
    """How an experiment is asked for.

    Args:
        quick: smaller budgets, so that all experiments together take minutes instead of hours.
        seeds: how many runs of each variant.
        data: the data where the experiment lets one choose, or None.
    """

    quick: bool = False
    seeds: int = 3
    data: str | None = None


@dataclass(frozen=True)
class Variant:
    """One kind of model in an experiment.

    Args:
        name: as the table calls it.
        config: a tree of :class:`unstir.runs.config.Config` without data and seed, the budget in images included.
        facts: what its measurement needs to know, as JSON holds it.
        data: its own data, where the variants of an experiment differ in that.
    """

    name: str
    config: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    data: str = ""

    @property
    def images(self) -> int:
        """How many examples it learns from."""
        return self.config["budget"]["images"]

    @property
    def slug(self) -> str:
        """The name as part of a folder's."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower()).strip("-").replace("--", "-")


class Experiment(Protocol):
    """A module of this room: these five names, and ``RULES``, counted up where it measures otherwise than before."""

    TITLE: str

    def variants(self, setting: Setting) -> list[Variant]:
        """The models to train, in the table's order; none where nothing is trained."""
        ...

    def dataset(self, setting: Setting) -> Dataset:
        """The data of all variants."""
        ...

    def measure(self, model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
        """The figures of one trained model."""
        ...

    def report(self, measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
        """The table, from what was measured on each variant's runs, seed by seed; figures are written into the folder."""
        ...


@dataclass(frozen=True)
class Job:
    """One run of an experiment."""

    experiment: str
    variant: int
    seed: int
    folder: Path
    setting: Setting


def carry_out(
    name: str,
    setting: Setting,
    folder: Path,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Table:
    """The whole experiment: trains what is not trained yet, measures what is not measured yet, and makes the table.

    Args:
        folder: the experiment's own; runs stand in it, and figures.
        jobs: how many runs at a time; by default as many as there are processors.
        say: called with a sentence when a run is measured. progress: called often, with how many examples all runs have learned
            from so far, of how many, and how many runs are measured.

    Raises:
        UserError: when the data is not there, and when it was interrupted: the same line continues.
    """
    from unstir import reproduce

    experiment = reproduce.get(name)
    variants = experiment.variants(setting)
    work = [Job(name, v, seed, folder, setting) for seed in range(setting.seeds) for v in range(len(variants))]
    measured: dict[str, list[Measured]] = {variant.name: [{} for _ in range(setting.seeds)] for variant in variants}
    if work:
        experiment.dataset(setting)  # made, or refused, before processes are started for it
    examples = sum(variants[job.variant].images for job in work)
    done = 0

    def show(learned: Sequence[float]) -> None:
        progress(int(sum(learned)), examples, f"{done} of {len(work)} runs measured")

    for job, figures in _results(work, min(jobs or os.cpu_count() or 1, max(len(work), 1)), show):
        variant = variants[job.variant]
        measured[variant.name][job.seed] = figures
        done += 1
        shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if isinstance(value, float))
        say(f"{name}: {variant.name}, seed {job.seed}: {shown}")
    folder.mkdir(parents=True, exist_ok=True)
    return experiment.report(measured, folder, setting)


def run_path(folder: Path, variant: Variant, seed: int) -> Path:
    """Where the run of a variant and a seed stands."""
    return folder / f"{variant.slug}-{seed}"


def trained(folder: Path, variant: Variant, seed: int = 0) -> Model:
    """The model of a run that is finished, for figures."""
    return load(run_path(folder, variant, seed))


def _results(work: Sequence[Job], jobs: int, show: Callable[[Sequence[float]], None]) -> Iterator[tuple[Job, Measured]]:
    """The jobs and their figures, as they are done; ``show`` is told now and then how many examples each has learned from."""
    if jobs <= 1:
        learned = [0.0] * len(work)
        with _one_thread():
            for place, job in enumerate(work):

                def tell(images: int, place: int = place) -> None:
                    learned[place] = images
                    show(learned)

                yield job, carry_out_job(job, tell)
        return
    # Fresh processes, since torch must not be forked.
    context = multiprocessing.get_context("spawn")
    shared, stop = context.Array("d", len(work), lock=False), context.Value("b", 0, lock=False)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_alone, initargs=(shared, stop)) as pool:
        waiting = {pool.submit(_carry_out_aside, place, job): job for place, job in enumerate(work)}
        try:
            while waiting:
                ready, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                show(list(shared))
                for future in ready:
                    yield waiting.pop(future), future.result()
        except BaseException:
            stop.value = 1  # an interrupt of this process alone does not reach the others
            pool.shutdown(cancel_futures=True)
            raise


_shared: Any = None
_stop: Any = None
"""In a process of its own: how many examples each job has learned from, seen by the one that shows it; whether that one ended."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from a second, and figures are the same however many runs go on at a time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _alone(shared: Any, stop: Any) -> None:
    import torch

    global _shared, _stop
    torch.set_num_threads(1)
    _shared, _stop = shared, stop


def _carry_out_aside(place: int, job: Job) -> Measured:
    def tell(images: int) -> None:
        _shared[place] = images
        if _stop.value:
            signal.raise_signal(signal.SIGINT)  # which training takes for a wish to save and end

    return carry_out_job(job, tell)


def carry_out_job(job: Job, tell: Callable[[int], None] = lambda images: None) -> Measured:
    """Trains one run to its end and measures it; what was done before is not done again.

    Args:
        tell: called with the number of examples that the run has learned from, after each update.

    Raises:
        UserError: when it was interrupted.
    """
    from unstir import reproduce
    from unstir.training.session import Session

    experiment = reproduce.get(job.experiment)
    variant = experiment.variants(job.setting)[job.variant]
    path = run_path(job.folder, variant, job.seed)
    kept = path / "measured.json"
    # What was measured by other rules than today's is measured again.
    asked = {"facts": variant.facts, "quick": job.setting.quick, "rules": getattr(experiment, "RULES", 1)}
    if kept.exists():
        there = json.loads(kept.read_text(encoding="utf-8"))
        if {"rules": 1} | there["asked"] == asked:
            tell(variant.images)
            return there["measured"]
    dataset = load_data(variant.data) if variant.data else experiment.dataset(job.setting)
    tree = {
        "hardware": {"precision": "fp32", "layout": "contiguous", "compile": "off"},
        **variant.config,
        "seed": job.seed,
        "data": {"source": dataset.spec.source},
    }
    config = configs.from_dict(tree, where=f"the experiment {job.experiment}")
    session = Session(Run(path), config, dataset)
    if not session.finished:
        for event in session.events():
            if event.kind == "stopped":
                raise UserError(f"{job.experiment} was interrupted: the same line continues it")
            if event.step:
                tell(min(event.step.images, variant.images))
    tell(variant.images)
    measured = experiment.measure(load(path), dataset, variant, job.setting)
    write_aside(kept, json.dumps({"asked": asked, "measured": measured}, indent=1).encode())
    return measured
