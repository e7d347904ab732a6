"""N + M updates are N updates, a checkpoint, and M updates, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import small
from unstir.data import Dataset
from unstir.runs import checkpoint as checkpoints
from unstir.runs.config import Config
from unstir.training import watch
from unstir.training.engine import Engine
from unstir.training.loop import Trainer


def resumed(tmp_path: Path, settings: Config, dataset: Dataset, engine: Engine, before: int) -> Trainer:
    """A trainer made anew from the checkpoint of another after so many updates."""
    first = small.trainer(settings, dataset, engine)
    for _ in range(before):
        first.update()
    checkpoints.save(tmp_path, first.progress.images, first.checkpoint())
    state, passed = checkpoints.newest(tmp_path)
    assert state is not None
    assert not passed
    torch.manual_seed(999)  # whatever the process did in between must not matter
    torch.rand(17)
    second = small.trainer(settings, dataset, engine)
    second.restore(state)
    return second


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
@pytest.mark.parametrize("flip", [False, True])
def test_stopping_and_going_on_changes_no_bit(tmp_path: Path, precision: str, layout: str, flip: bool) -> None:
    settings = small.config(data={"flip": flip})
    dataset, engine = small.pictures(), Engine(torch.device("cpu"), precision, layout)
    whole = small.trainer(settings, dataset, engine)
    for _ in range(8):
        whole.update()
    part = resumed(tmp_path, settings, dataset, engine, before=3)
    assert part.progress.images == 3 * 4
    for _ in range(5):
        part.update()
    expected, found = small.tensors_of(whole), small.tensors_of(part)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert part.ema.updates == whole.ema.updates == 8
    assert part.learning_rate() == whole.learning_rate()


def test_each_kind_of_chance_is_really_in_play(tmp_path: Path) -> None:
    """The test above would pass for a trainer that draws nothing: every draw must change the outcome."""

    def outcome(**changes: object) -> torch.Tensor:
        made = small.trainer(small.config(**changes))
        for _ in range(3):
            made.update()
        return torch.cat([p.detach().flatten() for p in made.parameters])

    base = outcome()
    assert not torch.equal(base, outcome(label_dropout=0.0))
    assert not torch.equal(base, outcome(network={"dropout": 0.0}))
    assert not torch.equal(base, outcome(data={"flip": True}))
    assert torch.equal(base, outcome())


def test_drawing_and_measuring_on_the_way_changes_no_bit() -> None:
    plain, watched = small.trainer(), small.trainer()
    for i in range(6):
        plain.update()
        watched.update()
        if i % 2:
            before = [p.detach().clone() for p in watched.parameters]
            watch.Watch(watched).look(watched.dataset.train.x[:4])
            with watched.averaged():
                torch.rand(5)
            assert all(torch.equal(a, b) for a, b in zip(before, watched.parameters))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters, watched.parameters))


def test_what_was_counted_goes_on(tmp_path: Path) -> None:
    settings, dataset, engine = small.config(), small.pictures(), Engine(torch.device("cpu"))
    first = small.trainer(settings, dataset, engine)
    first.progress.skipped, first.progress.total, first.progress.seconds = 3, 120, 1.5
    checkpoints.save(tmp_path, 0, first.checkpoint())
    state, _ = checkpoints.newest(tmp_path)
    assert state is not None
    second = small.trainer(settings, dataset, engine)
    second.restore(state)
    assert second.progress == first.progress
