"""A checkpoint is there completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from unstir.errors import UserError
from unstir.runs import checkpoint as checkpoints
from unstir.runs.checkpoint import Checkpoint, Keep, newest, save, write_aside


class Killed(BaseException):
    """Stands for a process that is gone."""


def made(value: float = 1.0) -> Checkpoint:
    parts = {name: {"w": torch.full((3, 4), value), "b": torch.tensor(value)} for name in ("model", "ema", "optimizer")}
    return Checkpoint(parts, {"progress": {"images": int(value)}, "ema_updates": 2})


def value_of(folder: Path) -> float | None:
    found = newest(folder)[0]
    return None if found is None else float(found.parts["model"]["b"])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    parts = {"model": {"a.b": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)}, "optimizer": {}}
    state = {"progress": {"images": 3, "seconds": 0.1}, "ema_updates": 7}
    save(tmp_path, 3, Checkpoint(parts, state))
    found, passed = newest(tmp_path)
    assert found is not None
    assert not passed
    assert torch.equal(found.parts["model"]["a.b"], parts["model"]["a.b"])
    assert found.parts["optimizer"] == {}
    assert found.state == state


def test_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    assert newest(tmp_path / "none") == (None, [])


def test_the_newest_is_by_number_and_older_ones_go(tmp_path: Path) -> None:
    for step in (9, 10, 99_999_999, 100_000_000, 1_000_000_000):
        save(tmp_path, step, made(step), Keep(2))
        assert value_of(tmp_path) == step
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_kept_is_the_newest_and_the_first_of_every_so_many_images(tmp_path: Path) -> None:
    steps = [3, 8, 12, 14, 19, 33, 38, 41]
    for step in steps:
        save(tmp_path, step, made(step), Keep(2, every=10))
    assert sorted(int(path.name[-8:]) for path in tmp_path.iterdir()) == [12, 33, 38, 41]
    assert Keep(0).drops(steps) == []
    assert Keep(1).drops(steps) == steps[:-1]
    assert Keep(3, every=1).drops(steps) == []


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 5, made(1.0))
    save(tmp_path, 5, made(2.0))
    assert value_of(tmp_path) == 2.0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "removed"])
def test_a_damaged_newest_is_passed_over_with_a_sentence(tmp_path: Path, file: str, damage: str) -> None:
    save(tmp_path, 1, made(1.0))
    path = save(tmp_path, 2, made(2.0)) / file
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        # In state.json a digit of a count, so that it stays JSON.
        content[content.index(b'"images": 2') + 10 if file == "state.json" else len(content) - 3] ^= 1
        path.write_bytes(content)
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    found, passed = newest(tmp_path)
    assert found is not None
    assert float(found.parts["model"]["b"]) == 1.0
    assert len(passed) == 1
    assert passed[0].startswith("step-00000002 is damaged")
    assert "\n" not in passed[0]


def test_when_all_are_damaged_there_is_none(tmp_path: Path) -> None:
    for step in (1, 2):
        (save(tmp_path, step, made(step)) / "state.json").write_text("{")
    found, passed = newest(tmp_path)
    assert found is None
    assert len(passed) == 2


def test_strangers_are_not_read(tmp_path: Path) -> None:
    save(tmp_path, 1, made(1.0))
    for name in ("step-last", "step-", ".step-00000009.writing", "copy of step-00000002"):
        shutil.copytree(tmp_path / "step-00000001", tmp_path / name)
    (tmp_path / "step-00000007").write_text("a file")
    assert newest(tmp_path)[1] == []
    assert value_of(tmp_path) == 1.0


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call by which ``save`` touches the disk is, in turn, its last."""
    touching = [
        (checkpoints, "save_file"), (Path, "write_text"), (Path, "mkdir"), (Path, "rename"), (shutil, "rmtree"), (os, "fsync"),
    ]  # fmt: skip
    count = 0
    limit = 0

    def deadly(inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == limit:
                raise Killed
            return inner(*args, **kwargs)

        return call

    survived = set()
    for limit in range(1, 40):
        folder = tmp_path / str(limit)
        for step in (1, 2):
            save(folder, step, made(step))
        count = 0
        with monkeypatch.context() as patch:
            for owner, name in touching:
                patch.setattr(owner, name, deadly(getattr(owner, name)))
            try:
                save(folder, 3, made(3))
                finished = True
            except Killed:
                finished = False
        value = value_of(folder)
        assert value in (2.0, 3.0)
        survived.add(value)
        save(folder, 4, made(4))
        names = sorted(path.name for path in folder.iterdir())
        assert names[-1] == "step-00000004"
        assert not any(name.startswith(".") for name in names), "what the kill left is cleared away"
        if finished:
            break
    assert finished
    assert survived == {2.0, 3.0}


def test_a_kill_while_the_only_one_is_replaced_loses_it_at_no_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames the old one is read from where it waits, and the next save puts things in order."""
    save(tmp_path, 5, made(1.0))
    values = []
    rename = Path.rename

    def watched(path: Path, target: Path) -> Path:
        values.append(value_of(tmp_path))
        if len(values) == 2:
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", watched)
        with pytest.raises(Killed):
            save(tmp_path, 5, made(2.0))
    assert values == [1.0, 1.0]
    assert value_of(tmp_path) == 1.0
    save(tmp_path, 6, made(3.0), Keep(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_a_full_disk_is_one_line_and_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, made(1.0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(UserError, match="No space left") as caught:
        save(tmp_path, 2, made(2.0))
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("newest_is", [1, 2])
def test_a_damaged_newest_costs_no_later_one(tmp_path: Path, newest_is: int) -> None:
    """Training went on from before it: what is saved then is the newest, whatever its number."""
    for step in (100, 200, 300):
        save(tmp_path, step, made(step), Keep(0))
    (tmp_path / "step-00000300" / "model.safetensors").write_bytes(b"")
    assert value_of(tmp_path) == 200
    for step in (220, 240, 260):
        save(tmp_path, step, made(step), Keep(newest_is))
        assert value_of(tmp_path) == step
        assert "step-00000300" not in [path.name for path in tmp_path.iterdir()]


def test_going_back_leaves_what_was_gone_back_to(tmp_path: Path) -> None:
    for step in (100, 200, 300, 400):
        save(tmp_path, step, made(step), Keep(0))
    save(tmp_path, 200, made(200.5), Keep(1))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000200"]
    assert value_of(tmp_path) == 200.5


@pytest.mark.parametrize("text", ["[]", "null", "3", '"state"', "{}", '{"sha256": []}'])
def test_a_state_of_another_kind_is_damage(tmp_path: Path, text: str) -> None:
    save(tmp_path, 1, made(1.0))
    (save(tmp_path, 2, made(2.0)) / "state.json").write_text(text)
    found, passed = newest(tmp_path)
    assert found is not None
    assert float(found.parts["model"]["b"]) == 1.0
    assert passed[0].startswith("step-00000002 is damaged")


def test_whoever_reads_while_another_trains_finds_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is being read is dropped amid reading, and a newer one has come."""
    save(tmp_path, 1, made(1.0), Keep(1))
    inner, calls = checkpoints._read, []

    def slow(path: Path) -> Checkpoint:
        calls.append(path.name)
        if len(calls) == 1:
            save(tmp_path, 2, made(2.0), Keep(1))
        return inner(path)

    monkeypatch.setattr(checkpoints, "_read", slow)
    found, passed = newest(tmp_path)
    assert found is not None
    assert float(found.parts["model"]["b"]) == 2.0
    assert passed == []
    assert calls == ["step-00000001", "step-00000002"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be written"):
        save(tmp_path / "file", 1, made())


def test_writing_aside_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    write_aside(path, b"old")
    for owner, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:

            def killed(*_: object) -> None:
                assert path.read_bytes() == b"old"
                raise Killed

            patch.setattr(owner, name, killed)
            with pytest.raises(Killed):
                write_aside(path, b"new and longer")
        assert path.read_bytes() == b"old"
    write_aside(path, b"new")
    assert path.read_bytes() == b"new"


def test_no_pickle_is_written_or_read(tmp_path: Path) -> None:
    path = save(tmp_path, 1, made())
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}
    assert set(json.loads((path / "state.json").read_text())["sha256"]) == {
        "state.json", "model.safetensors", "ema.safetensors", "optimizer.safetensors",
    }  # fmt: skip
