"""What happens when numbers stop being finite: skipping, going back once, stopping with the cause."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import small
from unstir.errors import UserError
from unstir.runs import Run
from unstir.runs import checkpoint as checkpoints
from unstir.runs.checkpoint import Keep
from unstir.training.batches import Batch
from unstir.training.engine import Engine
from unstir.training.guard import LOWER, PATIENCE, Diverged, all_finite, diagnosis
from unstir.training.loop import Trainer
from unstir.training.session import Session


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of checkpoints are written here, and nothing is killed."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Broken:
    """An objective whose loss is not finite on some calls in training."""

    whole_times = False

    def __init__(self, at: Collection[int], inner: Any) -> None:
        self.at, self.inner, self.calls = at, inner, 0

    def __call__(self, denoiser: Any, *args: Any) -> Tensor:
        loss = self.inner(denoiser, *args)
        if not denoiser.training:
            return loss
        self.calls += 1
        return loss * math.nan if self.calls - 1 in self.at else loss


def breaking(trainer: Trainer, at: Collection[int]) -> Trainer:
    trainer.objective = Broken(at, trainer.objective)  # type: ignore[assignment]
    return trainer


def infinite_slope(trainer: Trainer) -> Trainer:
    """The loss stays what it is; its gradient is not finite."""
    inner, weight = trainer.objective, next(iter(trainer.parameters))

    def objective(*args: Any) -> Tensor:
        return inner(*args) + (weight.flatten()[0] * 0).abs().sqrt()  # slope inf · 0 = nan at 0

    objective.whole_times = inner.whole_times  # type: ignore[attr-defined]
    trainer.objective = objective  # type: ignore[assignment]
    return trainer


def test_an_update_that_is_not_finite_is_skipped_and_counted() -> None:
    made = breaking(small.trainer(), {2})
    for _ in range(2):
        made.update()
    before = small.tensors_of(made)
    step = made.update()
    assert step.skipped
    assert made.progress.skipped == 1
    assert made.progress.images == 12, "its pictures count as seen"
    after = small.tensors_of(made)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not made.update().skipped
    assert all_finite(made.parameters)


def test_a_gradient_that_is_not_finite_is_skipped_too() -> None:
    made = infinite_slope(small.trainer())
    step = made.update()
    assert math.isfinite(step.loss)
    assert step.skipped
    assert all_finite(made.parameters)


def long() -> Trainer:
    return small.trainer(small.config(budget={"images": 100_000}))


def test_it_stops_where_more_updates_are_skipped_than_made() -> None:
    done: list[Any] = []
    with pytest.raises(Diverged, match="the loss is finite and its gradient is not"):
        done.extend(infinite_slope(long()).steps())
    assert len(done) == PATIENCE - 1
    every_other = breaking(long(), range(0, 1000, 2))
    assert len(list(islice(every_other.steps(), 4 * PATIENCE))) == 4 * PATIENCE
    two_of_three = breaking(long(), [i for i in range(1000) if i % 3])
    with pytest.raises(Diverged):
        done.extend(two_of_three.steps())
    assert two_of_three.progress.images <= 3 * PATIENCE * 4 + 8


def test_finiteness_is_of_every_number() -> None:
    big = torch.full((70_000,), 3e38)  # its sum overflows float32
    assert all_finite([big, torch.ones(2, dtype=torch.int64)])
    assert all_finite([])
    for value in (math.nan, math.inf, -math.inf):
        for place in (0, 69_999):
            bad = big.clone()
            bad[place] = value
            assert not all_finite([torch.ones(3), bad])
    assert not all_finite([torch.tensor([math.inf, -math.inf])])


# --- the cause --------------------------------------------------------------------------------------------------------


def test_the_cause_is_named() -> None:
    made = small.trainer()
    assert diagnosis(breaking(made, range(99)), 0).startswith("the loss itself is not finite, though")
    assert diagnosis(infinite_slope(small.trainer()), 0).startswith("the loss is finite and its gradient is not")
    made = small.trainer()
    with torch.no_grad():
        made.parameters[3].flatten()[1] = math.inf
    assert diagnosis(made, 0).startswith(f"the weights {made.names[3]} are not finite")


def test_half_precision_is_named_where_it_is_the_cause() -> None:
    made = small.trainer(engine=Engine(torch.device("cpu"), "bf16"))
    inner = made.objective

    def overflows(*args: Any) -> Tensor:
        return inner(*args) * (math.inf if torch.is_autocast_enabled("cpu") else 1.0)

    made.objective = overflows  # type: ignore[assignment]
    assert diagnosis(made, 0) == "the loss is finite in float32 and not in bf16: use --precision fp32"


def test_data_are_named_where_they_are_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small.trainer()
    inner = made.batches.of

    def spoilt(images: np.ndarray) -> Batch:
        batch = inner(images)
        batch.x0[2, 0, 1, 1] = math.nan
        return batch

    monkeypatch.setattr(made.batches, "of", spoilt)
    assert diagnosis(made, 0) == "1 of 4 items of the batch hold numbers that are not finite: see unstir inspect"


# --- going back -------------------------------------------------------------------------------------------------------


IMAGES = 320


def session(path: Path, at: Collection[int] = (), images: int = IMAGES, **options: Any) -> Session:
    made = Session(Run(path), small.config(budget={"images": images}), small.pictures(), **options)
    breaking(made.trainer, at)
    return made


def kinds(made: Session) -> list[str]:
    return [event.kind for event in made.events()]


def test_a_run_goes_back_once_and_on_at_a_lower_rate(tmp_path: Path) -> None:
    made = session(tmp_path / "run", range(20, 21 + PATIENCE), checkpoint_seconds=0)
    rates = {}
    for event in made.events():
        if event.kind == "rollback":
            assert "the loss itself is not finite" in event.text
            assert "\n" not in event.text
        if event.step is not None:
            rates.setdefault(event.step.images, []).append(event.step.learning_rate)
    (back,) = (r for r in made.run.records() if r.get("event") == "rollback")
    assert back["images"] == 20 * 4, "the state before the trouble, not one saved amid it"
    assert back["reached"] == (20 + PATIENCE) * 4
    twice = {images: both for images, both in rates.items() if len(both) == 2}
    assert twice
    assert all(images > back["images"] for images in twice)
    assert all(second == pytest.approx(LOWER * first) for first, second in twice.values())
    assert made.trainer.progress.images == IMAGES
    assert made.finished
    assert "going back to" in (tmp_path / "run" / "log.txt").read_text()


def test_it_goes_back_further_where_there_is_a_state_from_before_the_brink(tmp_path: Path) -> None:
    begin = 2 * PATIENCE
    made = session(tmp_path / "run", range(begin, begin + 1 + PATIENCE), 640, checkpoint_seconds=0, keep=Keep(0))
    kinds(made)
    (back,) = (r for r in made.run.records() if r.get("event") == "rollback")
    assert back["images"] == (begin - PATIENCE) * 4
    steps = [int(path.name[5:]) for path in made.run.checkpoints.iterdir()]
    assert sorted(steps) == [4 * i for i in range(1, 161)], "what came after it was dropped, and came again"


def test_who_continues_after_it_continues_at_the_lower_rate(tmp_path: Path) -> None:
    made = session(tmp_path / "run", range(20, 21 + PATIENCE), checkpoint_seconds=0)
    for event in made.events():
        if event.kind == "rollback":
            break
    again = session(tmp_path / "run")
    assert again.trainer.progress.rollbacks == 1
    assert kinds(again)[-1] == "done"
    whole = session(tmp_path / "whole", range(20, 21 + PATIENCE), checkpoint_seconds=0)
    kinds(whole)
    expected, found = small.tensors_of(whole.trainer), small.tensors_of(again.trainer)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_second_time_ends_the_run_and_the_last_checkpoint_is_good(tmp_path: Path) -> None:
    made = session(tmp_path / "run", range(20, 10_000), checkpoint_seconds=0)
    with pytest.raises(
        UserError, match=r"broke down again .*lower optimiser\.learning_rate; the last checkpoint is good"
    ):
        kinds(made)
    state, passed = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert not passed
    assert all(all_finite(part.values()) for part in state.parts.values())
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_before_the_first_checkpoint_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    made = session(tmp_path / "run", range(10_000), checkpoint_seconds=1e9)
    with pytest.raises(UserError, match="before the first checkpoint: the loss itself"):
        kinds(made)


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    made = session(tmp_path / "run", checkpoint_seconds=0)
    rolled = 0
    for event in made.events():
        if event.step is not None and event.step.images == 120 and not rolled:
            with torch.no_grad():
                made.trainer.parameters[0].flatten()[0] = math.nan
        rolled += event.kind == "rollback"
        for path in (tmp_path / "run" / "checkpoints").glob("step-*"):
            state = checkpoints._read(path)
            assert all(all_finite(part.values()) for part in state.parts.values())
    assert rolled == 1
    assert all_finite(made.trainer.parameters)
    assert made.finished


def test_skips_are_counted_over_a_rollback_and_stopping_amid_trouble_forgets_none_of_it(tmp_path: Path) -> None:
    at = range(20, 21 + PATIENCE)
    whole = session(tmp_path / "whole", at, checkpoint_seconds=0)
    kinds(whole)
    assert whole.trainer.progress.skipped == PATIENCE
    stopped = session(tmp_path / "run", at, checkpoint_seconds=0)
    for event in stopped.events():
        if event.step is not None and event.step.images == 40 * 4:
            stopped._asked = True
    again = session(tmp_path / "run", range(31))  # the trouble goes on where it was
    assert again.trainer.trouble.since == 20 * 4
    kinds(again)
    (back,) = (r for r in again.run.records() if r.get("event") == "rollback")
    assert back["reached"] == (20 + PATIENCE) * 4


def test_a_training_that_waited_goes_on_from_what_another_left(tmp_path: Path) -> None:
    first, second = session(tmp_path / "run"), session(tmp_path / "run")
    assert kinds(first)[-1] == "done"
    saved = (tmp_path / "run" / "model.safetensors").read_bytes()
    assert "step" not in kinds(second)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == saved


def test_two_trainings_of_one_run_at_once_are_refused(tmp_path: Path) -> None:
    first, second = session(tmp_path / "run"), session(tmp_path / "run")
    events = first.events()
    next(events)
    with pytest.raises(UserError, match="is being trained by another process"):
        next(second.events())
    events.close()
    assert kinds(session(tmp_path / "run"))[-1] == "done"
