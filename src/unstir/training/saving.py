"""Saving a run's state, never one that is broken, and going back to a good one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save

from unstir.errors import UserError
from unstir.runs import averages
from unstir.runs import checkpoint as checkpoints
from unstir.runs.checkpoint import Keep
from unstir.runs.folder import Run
from unstir.runs.model import metadata
from unstir.training.guard import LOWER, PATIENCE, Diverged, all_finite
from unstir.training.loop import Trainer


@dataclass(frozen=True)
class Saving:
    """The checkpoints of a run that is being trained."""

    run: Run
    trainer: Trainer
    keep: Keep

    def save(self) -> None:
        """Writes the state: the first of several processes does, but of a network that is cut among them each its parts.

        Raises:
            Diverged: where it holds numbers that are not finite, and nothing is written.
            UserError: when it cannot be written.
        """
        trainer, processes = self.trainer, self.trainer.processes
        (broken,) = processes.any(not all_finite([*trainer.own, *trainer.ema.values]))
        if broken:
            raise Diverged("the weights are no longer finite: lower optimiser.learning_rate")
        folder, checkpoint, written = self.run.checkpoints, trainer.checkpoint(), {}
        if trainer.sharded:
            mine = checkpoints.save_parts(folder, checkpoint.parts, processes.rank, processes.world)
            written = {name: sha for files in processes.gathered(mine) for name, sha in files.items()}
            checkpoint = replace(checkpoint, parts={})
        if processes.first:
            checkpoints.save(folder, trainer.progress.images, checkpoint, self.keep, written)
        processes.wait()

    def write_model(self, path: Path) -> None:
        """The averaged weights as they are now, in a file that describes itself."""
        trainer = self.trainer
        tensors = trainer.average(trainer.ema)
        if trainer.processes.first:
            facts = metadata(trainer.config, trainer.dataset.spec, trainer.progress.images, "ema")
            checkpoints.write_aside(path, save(tensors, facts))
        trainer.processes.wait()

    def store_averages(self) -> None:
        """The averages of which others can be made afterwards, as they are now."""
        trainer = self.trainer
        for width, ema in zip(averages.WIDTHS, trainer.stored.values(), strict=True):
            tensors = trainer.average(ema)
            if trainer.processes.first:
                averages.store(self.run, tensors, width, ema.updates, trainer.progress.images)
        trainer.processes.wait()

    def roll_back(self, problem: Diverged) -> str:
        """Takes up again, with a lower learning rate, the newest checkpoint that is older than the trouble; once in a run.

        The weights just before the first number that is not finite are on the brink already. So a checkpoint from some
        updates earlier is taken where there is one.

        Raises:
            UserError: the second time, and where there is no checkpoint.
        """
        trainer = self.trainer
        reached = trainer.progress.images
        if trainer.progress.rollbacks:
            raise UserError(
                f"training broke down again at {reached:,} images, with a learning rate already lowered: {problem}; "
                "the last checkpoint is good"
            )
        begun = trainer.trouble.since if trainer.trouble.count else reached
        safe = begun - PATIENCE * trainer.config.optimiser.batch
        state = checkpoints.newest(self.run.checkpoints, safe)[0] or checkpoints.newest(self.run.checkpoints)[0]
        if state is None:
            raise UserError(f"training broke down at {reached:,} images, before the first checkpoint: {problem}")
        skipped, seconds = trainer.progress.skipped, trainer.progress.seconds
        trainer.restore(state)
        progress = trainer.progress
        progress.rollbacks, progress.skipped, progress.seconds = progress.rollbacks + 1, skipped, seconds
        back = progress.images
        self.save()  # so that whoever continues from here continues at the lower rate; what came later goes
        self.run.record(event="rollback", images=back, reached=reached, reason=str(problem))
        said = (
            f"training broke down at {reached:,} images ({problem}); going back to {back:,} images, "
            f"from there at {LOWER:g} times the learning rate"
        )
        self.run.log(said)
        return said
