"""One sitting of training: open or continue the run, choose the engine, train, save, show, stop cleanly."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from types import FrameType
from typing import Any

import numpy as np

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.runs import checkpoint as checkpoints
from unstir.runs.checkpoint import Checkpoint, Keep
from unstir.runs.config import Config
from unstir.runs.files import write
from unstir.runs.folder import Run
from unstir.runs.model import Model, readable
from unstir.training import engine as engines
from unstir.training.choosing import chosen
from unstir.training.engine import Engine
from unstir.training.guard import Diverged
from unstir.training.loop import Step, Trainer
from unstir.training.opening import initialised, opened
from unstir.training.processes import Processes
from unstir.training.saving import Saving
from unstir.training.sharding import shard
from unstir.training.trackers import Trackers
from unstir.training.verdict import LOOKS
from unstir.training.watch import Watch, few, sentence

SNAPSHOTS = LOOKS  # how often in a run pictures are drawn and it is looked at how training goes
RECORD_SECONDS = 5.0
SAMPLES, POINTS = 64, 1_000
MEASURING_SHARE = 0.05  # of a budget in minutes: the part that is trained before it becomes a budget in images
MEASURING_SECONDS = 20.0
TRAINING_SHARE = 0.92  # of the remaining minutes: the rest draws pictures and writes checkpoints


@dataclass(frozen=True)
class Event:
    """Something the user may want to see.

    ``kind`` is start, step, sample, warning, checkpoint, rollback, stopped or done; ``text`` is a sentence, or empty for a step.
    """

    kind: str
    text: str = ""
    step: Step | None = None
    images_per_second: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class Session:
    """Training of one run.

    Args:
        run: where it lives; made if it is not there.
        config: what the user asked for. A run that is already there must have been asked for the same.
        checkpoint_seconds: what a kill may cost at most. It has no influence on what is learned, unless the run is rolled back: then
            it decides to where.
        keep: which checkpoints stay.
        processes: who trains it together. All go through the same events; the first speaks and writes.

    Raises:
        UserError: for what does not fit the run, the data, the processes or each other.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        dataset: Dataset,
        *,
        checkpoint_seconds: float = 60.0,
        keep: Keep = Keep(),  # noqa: B008 - it is frozen
        processes: Processes = Processes(),  # noqa: B008 - as well
    ) -> None:
        self.run, self.config, self.dataset = replace(run, quiet=not processes.first), config, dataset
        self.processes = processes
        self.checkpoint_seconds = checkpoint_seconds
        self.denoiser = initialised(config)
        processes.in_turn(lambda: opened(self.run, config, dataset, self.denoiser, processes))
        state, passed = checkpoints.newest(run.checkpoints)
        self.notes = list(passed)
        forgets = self.denoiser.process.schedule.prior_report()
        self.notes += filter(None, [forgets, few(dataset)])
        engine = self._engine()
        engine.settle()
        if self._sharded:
            shard(self.denoiser.network, engine.device, processes.world)
        else:
            engine.place(self.denoiser)
        self.trainer = Trainer(config, self.denoiser, dataset, engine, processes)
        self.saving = Saving(self.run, self.trainer, keep)
        self.watch = Watch(self.trainer)
        self.trackers = Trackers(self.run, config if processes.first else replace(config, track=""))
        self._take_up(state)
        self._check_place()
        self._asked = self._stop = False

    def _take_up(self, state: Checkpoint | None) -> None:
        if state is not None:
            self.trainer.restore(state)
        if self.config.budget.images:
            self.trainer.progress.total = self.config.budget.images

    @property
    def finished(self) -> bool:
        progress = self.trainer.progress
        return bool(progress.total) and progress.images >= progress.total and readable(self.run.model)

    def events(self) -> Iterator[Event]:
        """Trains to the end of the budget or to a signal, whichever comes first.

        Raises:
            UserError: when another process trains this run, when a checkpoint cannot be written, and when numbers stay
                infinite after the run was rolled back once.
        """
        with self.run.held():
            # Another training may have come to its end since this one was made.
            self._take_up(checkpoints.newest(self.run.checkpoints)[0])
            yield from self._sitting()

    def _sitting(self) -> Iterator[Event]:
        progress = self.trainer.progress
        # Also where a kill came before the first checkpoint: then training begins again, from 0.
        if progress.images or self.run.metrics.exists():
            self.run.record(event="resume", images=progress.images, processes=self.processes.world)
        self.trackers.begin(progress.images)
        yield Event("start", facts={"images": progress.images, "total": progress.total})
        with _signals(self._ask_to_stop):
            yield from self._train()
        progress = self.trainer.progress
        if self._stop and not self.finished:
            self.trackers.close()
            yield Event("stopped", f"stopped and saved at {progress.images:,} images; the same line continues")
            return
        yield from self._snapshot()
        self.saving.write_model(self.run.model)
        self.run.record(
            event="done", images=progress.images, seconds=round(progress.seconds, 1), skipped=progress.skipped
        )
        self.trackers.close()
        yield Event("done", f"trained on {progress.images:,} images in {progress.seconds / 60:.1f} minutes")

    def _train(self) -> Iterator[Event]:
        """Updates, and what happens between them; from numbers that stay infinite it goes back once."""
        while True:
            try:
                yield from self._updates()
                return
            except Diverged as problem:
                yield Event("rollback", self.saving.roll_back(problem))

    def _updates(self) -> Iterator[Event]:
        progress = self.trainer.progress
        sitting, sitting_from = time.perf_counter(), progress.images
        saved = recorded = sitting
        recent: list[Step] = []
        shown = self._snapshots_due()
        for step in self.trainer.steps():
            now = time.perf_counter()
            recent.append(step)
            rate = (progress.images - sitting_from) / (now - sitting)
            yield Event("step", step=step, images_per_second=rate, facts={"total": progress.total})
            measured, due, self._stop = self.processes.any(*self._due(now - saved), self._asked)
            if measured:
                self._fix_budget()
                saved = now
                yield Event(
                    "checkpoint",
                    f"the budget of {self.config.budget.minutes:g} minutes is {progress.total:,} images here",
                )
            if now - recorded > RECORD_SECONDS:
                self._record(recent, rate)
                recent, recorded = [], now
            if self._average_due():
                self.saving.store_averages()
            if self._snapshots_due() > shown and progress.images < progress.total:
                shown = self._snapshots_due()
                yield from self._snapshot()
                if self.processes.agreed(not self.run.early.exists()):
                    self.saving.write_model(self.run.early)
            if due:
                self.saving.save()
                saved = now
                yield Event("checkpoint")
            if self._stop:
                break
        if recent:
            self._record(recent, progress.images / max(progress.seconds, 1e-9))
        self.saving.save()  # before the pictures: an interrupt while they are drawn costs no training

    def _check_place(self) -> None:
        """What one process writes, the others must find after a restart."""
        progress = self.trainer.progress
        if len(set(self.processes.gathered(progress.images))) > 1:
            raise UserError(
                f"the processes do not find the same checkpoints in {self.run.path}: put --out where all of them see it"
            )

    @property
    def _sharded(self) -> bool:
        return self.config.hardware.shard and self.processes.world > 1

    def _engine(self) -> Engine:
        """The engine this run was recorded with, or the fastest by the first process's measurement, which is then recorded."""
        engines.keep_memory()
        facts = self.run.engine() or self._chosen() if self.processes.first else {}
        return engines.recorded(self.processes.agreed(facts))

    def _chosen(self) -> dict[str, Any]:
        engine, milliseconds = chosen(self.config, self.denoiser, self.dataset, self.processes.world)
        facts = asdict(engine) | {"device": str(engine.device), "milliseconds": milliseconds}
        with self.run.held():
            there = self.run.engine()
            if there:
                return there  # another training was begun while this one measured, and may have learned with that one
            checkpoints.write_aside(self.run.path / Run.ENGINE, json.dumps(facts, indent=1).encode())
        if milliseconds:
            self.notes.append(f"a training step here takes: {engines.measured(milliseconds)}; using {engine.name}")
        return facts

    def _due(self, since_saved: float) -> tuple[bool, bool]:
        """Whether by the first process's clock the budget is to be fixed, and the state to be saved."""
        first, trainer = self.processes.first, self.trainer
        measured = first and not trainer.progress.total and self._measured_enough()
        return measured, first and since_saved > self.checkpoint_seconds and not trainer.trouble.count

    def _measured_enough(self) -> bool:
        return self.trainer.progress.seconds > min(MEASURING_SECONDS, 60 * MEASURING_SHARE * self.config.budget.minutes)

    def _fix_budget(self) -> None:
        """Turns minutes into images and saves at once: from here on the run is exact."""
        progress, batch = self.trainer.progress, self.config.optimiser.batch
        left = TRAINING_SHARE * 60 * self.config.budget.minutes - progress.seconds
        images = progress.images + max(left, 0.0) * progress.images / progress.seconds
        progress.total = self.processes.agreed(max(batch, round(images / batch) * batch))
        self.saving.save()
        self.run.record(event="budget", images=progress.images, total=progress.total)

    def _average_due(self) -> bool:
        """Whether the last update passed one of the places, evenly spaced over the budget, where averages are stored."""
        progress, times = self.trainer.progress, self.config.averages
        before = progress.images - self.config.optimiser.batch
        return bool(progress.total) and progress.images * times // progress.total > before * times // progress.total

    def _snapshots_due(self) -> int:
        progress = self.trainer.progress
        return progress.images * SNAPSHOTS // progress.total if progress.total else 0

    def _snapshot(self) -> Iterator[Event]:
        """Pictures from raw and averaged weights on one fixed seed, and what is seen of how training goes.

        The first process draws while the others wait, but with a network that is cut among them all have to.
        """
        if self.processes.first or self.trainer.sharded:
            yield from self._look()
        self.processes.wait()

    def _look(self) -> Iterator[Event]:
        model = Model(self.denoiser, self.dataset.spec, self.config)
        self.denoiser.eval()
        self._draw(model, "raw")
        with self.trainer.averaged():
            drawn = self._draw(model, "ema")
        record, verdict = self.watch.record(self.run, drawn)
        self.trackers.record(record)
        said = sentence(record, verdict)
        self.run.log(said)
        yield Event("sample", said, facts={"verdict": verdict.word})
        for warning in (*filter(None, [verdict.alarm]), *self.trackers.troubles()):
            self.run.log(warning)
            yield Event("warning", warning)

    def _draw(self, model: Model, weights: str) -> np.ndarray:
        n = POINTS if self.dataset.spec.kind == "points" else SAMPLES
        # Without a picture to go by, samples would say nothing of what is learned.
        shown: dict[str, Any] = {"image": self.dataset.heldout.x[:n]} if self.config.condition else {}
        drawn = model.sample(n, seed=self.config.seed, batch=n, **shown)
        suffix = ".png" if self.dataset.spec.kind == "image" else ".npy"
        target = self.run.samples / f"{self.trainer.progress.images:010d}-{weights}{suffix}"
        if self.processes.first:
            write(drawn, target, range(n), codec=model.spec.codec)
        if suffix == ".png":
            self.trackers.picture(f"samples/{weights}", target, self.trainer.progress.images)
        return drawn

    def _record(self, recent: list[Step], rate: float) -> None:
        # Skipped updates have no number that JSON could hold.
        good = [step for step in recent if not step.skipped]
        record = {
            "images": recent[-1].images,
            "loss": sum(step.loss for step in good) / len(good) if good else None,
            "learning_rate": recent[-1].learning_rate,
            "gradient_norm": good[-1].gradient_norm if good else None,
            "images_per_second": round(rate, 1),
            "skipped": self.trainer.progress.skipped,
        }
        self.run.record(**record)
        self.trackers.record(record)

    def _ask_to_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked = True


class _signals:
    """Ctrl-C and SIGTERM ask to stop after the update that is under way, instead of breaking it off."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self.handler = handler

    def __enter__(self) -> None:
        self.old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.old[number] = signal.signal(number, self.handler)
            except ValueError:
                # Only the main thread may set handlers; elsewhere the caller's stay.
                return

    def __exit__(self, *_: object) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)
