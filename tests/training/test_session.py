"""A sitting: what it writes, how it stops and continues, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests import small
from unstir.data import contact_sheet
from unstir.errors import UserError
from unstir.runs import Run, load
from unstir.runs import checkpoint as checkpoints
from unstir.runs.config import Config
from unstir.training.session import Session


def everything(path: Path) -> dict[str, bytes]:
    """Every file below a folder, with its content."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def finish(session: Session) -> list[str]:
    return [event.kind for event in session.events()]


def test_a_run_has_what_it_should(tmp_path: Path) -> None:
    run = Run(tmp_path / "deep" / "run")
    kinds = finish(Session(run, small.config(), small.pictures()))
    assert kinds[0] == "start"
    assert kinds[-1] == "done"
    assert {p.name for p in run.path.iterdir()} == {
        "config.toml", "data.json", "engine.json", "env.json", "metrics.jsonl", "samples", "checkpoints", "model.safetensors",
        "early.safetensors", ".training", "log.txt",
    }  # fmt: skip
    for line in run.metrics.read_text().splitlines():
        assert "images" in json.loads(line)
    assert json.loads((run.path / "env.json").read_text())["torch"] == torch.__version__
    names = sorted(p.stem for p in run.samples.iterdir())
    assert f"{200:010d}-ema" in names
    assert {name.split("-")[1] for name in names} == {"ema", "raw"}
    for picture in run.samples.iterdir():
        Image.open(picture).verify()
    newest = checkpoints.newest(run.checkpoints)[0]
    assert newest is not None
    assert newest.state["progress"]["images"] == 200
    saved = load_file(run.model)
    assert all(torch.equal(saved[name], value) for name, value in newest.parts["ema"].items())


def test_the_pictures_on_the_way_are_those_of_the_runs_seed(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    finish(Session(run, small.config(seed=3), small.pictures()))
    for weights in ("raw", "ema"):
        stated = contact_sheet(load(run.path, weights=weights).sample(64, steps=20, seed=3))
        with Image.open(run.samples / f"{200:010d}-{weights}.png") as drawn:
            assert np.array_equal(np.asarray(drawn), np.asarray(stated))


def test_a_run_whose_model_was_not_yet_written_is_not_finished(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    finish(Session(run, small.config(), small.pictures()))
    before = run.model.read_bytes()
    run.model.unlink()
    again = Session(run, small.config(), small.pictures())
    assert not again.finished
    assert "step" not in finish(again)
    assert run.model.read_bytes() == before


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    finish(Session(run, small.config(), small.pictures()))
    before = everything(run.path)
    again = Session(run, small.config(), small.pictures())
    assert again.finished
    assert everything(run.path) == before


def test_stopping_anywhere_and_going_on_ends_in_the_same_file(tmp_path: Path) -> None:
    whole, pieces = Run(tmp_path / "whole"), Run(tmp_path / "pieces")
    finish(Session(whole, small.config(), small.pictures()))
    for stop_after in (1, 7, 2, 1, 19):
        session = Session(pieces, small.config(), small.pictures(), checkpoint_seconds=1e9)
        steps = 0
        last = ""
        for event in session.events():
            steps += event.kind == "step"
            if event.kind == "step" and steps == stop_after:
                os.kill(os.getpid(), (signal.SIGTERM, signal.SIGINT)[stop_after % 2])
            last = event.kind
        assert last == "stopped"
        assert steps == stop_after
        assert not session.finished
    finish(Session(pieces, small.config(), small.pictures()))
    assert whole.model.read_bytes() == pieces.model.read_bytes()
    assert [r["images"] for r in pieces.records() if r.get("event") == "resume"] == [4, 32, 40, 44, 120]


def test_beginning_again_before_the_first_checkpoint_is_a_resume_from_0(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    session = Session(run, small.config(), small.pictures())
    for event in session.events():
        if event.kind == "sample":
            break  # as a kill would: nothing is saved, but something was recorded
    finish(Session(run, small.config(), small.pictures()))
    assert [r["images"] for r in run.records() if r.get("event") == "resume"] == [0]


def test_a_line_that_a_kill_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.record(images=10, loss=3.0)
    with run.metrics.open("a") as file:
        file.write('{"images": 20, "lo')
    run.record(event="resume", images=10)
    assert list(run.records()) == [{"images": 10, "loss": 3.0}, {"event": "resume", "images": 10}]


def test_an_interrupt_while_the_last_pictures_are_drawn_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    session = Session(run, small.config(), small.pictures(), checkpoint_seconds=1e9)

    def interrupted() -> Any:
        if session.trainer.progress.images == 200:
            raise KeyboardInterrupt
        yield from ()

    monkeypatch.setattr(session, "_snapshot", interrupted)
    with pytest.raises(KeyboardInterrupt):
        finish(session)
    again = Session(run, small.config(), small.pictures())
    assert again.trainer.progress.images == 200
    assert finish(again)[-1] == "done"


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    finish(Session(Run(tmp_path / "run"), small.config(), small.pictures()))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_crash_between_checkpoints_costs_nothing_but_time(tmp_path: Path) -> None:
    whole, crashed = Run(tmp_path / "whole"), Run(tmp_path / "crashed")
    finish(Session(whole, small.config(), small.pictures()))
    for until in (10, 25):
        session = Session(crashed, small.config(), small.pictures(), checkpoint_seconds=0.02)
        for i, _ in enumerate(event for event in session.events() if event.kind == "step"):
            time.sleep(0.005)
            if i == until:
                break
    resumed = Session(crashed, small.config(), small.pictures())
    assert resumed.trainer.progress.images > 0
    finish(resumed)
    assert whole.model.read_bytes() == crashed.model.read_bytes()


def test_a_damaged_newest_checkpoint_is_named_and_passed_over(tmp_path: Path) -> None:
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    finish(Session(whole, small.config(), small.pictures()))
    session = Session(run, small.config(), small.pictures(), checkpoint_seconds=0)
    for event in session.events():
        if session.trainer.progress.images == 80 and event.kind == "checkpoint":
            break
    newest = run.checkpoints / "step-00000080"
    with (newest / "ema.safetensors").open("r+b") as file:
        file.truncate(100)
    again = Session(run, small.config(), small.pictures())
    assert again.trainer.progress.images == 76
    (damaged,) = (note for note in again.notes if "damaged" in note)
    assert "step-00000080" in damaged
    finish(again)
    assert whole.model.read_bytes() == run.model.read_bytes()


def test_an_opening_that_was_cut_off_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> Any:
        raise Killed

    run = Run(tmp_path / "run")
    for at in ("write_environment", "write_aside"):
        with monkeypatch.context() as patch:
            patch.setattr(Run if at == "write_environment" else checkpoints, at, killed)
            with pytest.raises(Killed):
                Session(run, small.config(), small.pictures())
        assert run.path.is_dir()
        assert not run.config.exists()
    finish(Session(run, small.config(), small.pictures()))
    assert run.model.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"optimiser": {"batch": 5}}, "optimiser.batch: 4 -> 5"),
        ({"budget": {"images": 300}}, "budget.images: 200 -> 300"),
        ({"network": {"channels": 16}}, "network.channels: 8 -> 16"),
        ({"schedule": {"T": 60}}, "schedule.T: 50 -> 60"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_changed(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    run = Run(tmp_path / "run")
    session = Session(run, small.config(), small.pictures())
    next(session.events())
    before = everything(run.path)
    with pytest.raises(UserError, match="other settings") as caught:
        Session(run, small.config(**changes), small.pictures())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(run.path) == before


def test_other_data_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    Session(run, small.config(), small.pictures())
    before = everything(run.path)
    with pytest.raises(UserError, match="data is not what"):
        Session(run, small.config(), small.pictures(seed=1))
    assert everything(run.path) == before


@pytest.mark.parametrize("what", ["a file", "a folder with something in it"])
def test_what_is_not_a_run_is_not_touched(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run"
    if what == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a run"):
        Session(Run(path), small.config(), small.pictures())
    assert set(everything(tmp_path).values()) == {b"mine"}


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"name": "wishful"}},
        {"objective": {"name": "hybrid"}},  # needs a learned variance
        {"variance": "learned"},  # needs twice the channels
        {"variance": "gigantic"},
        {"times": {"name": "cosmic"}},
        {"network": {"name": "perceptron"}},
        {"network": {"colour": 3}},
        {"network": {"in_channels": 3}},
        {"network": {"classes": 1}},  # fewer than the data has
        {"network": {"groups": 3}},
        {"schedule": {"name": "sundial"}},
        {"schedule": {"T": -3}},
        {"prediction": {"name": "tomorrow"}},
        {"prediction": {"name": "eps"}, "schedule": {"name": "inverse_time", "T": 20}},
        {"ema_width": 0.9},
    ],
    ids=str,
)
def test_a_configuration_that_cannot_work_leaves_no_folder(tmp_path: Path, changes: dict[str, Any]) -> None:
    dataset = small.pictures()
    dataset.train.labels[:] = 2  # type: ignore[index]
    with pytest.raises(UserError) as caught:
        Session(Run(tmp_path / "run"), small.config(**changes), dataset)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_minutes_become_images_once(tmp_path: Path) -> None:
    settings: Config = small.config(budget={"images": 0, "minutes": 0.02})
    run = Run(tmp_path / "run")
    session = Session(run, settings, small.pictures())
    sentences = []
    for event in session.events():
        sentences.append(event.text)
        if session.trainer.progress.total:
            break
    total = session.trainer.progress.total
    assert any(f"{total:,} images" in text for text in sentences)
    assert total % 4 == 0
    assert [r["total"] for r in run.records() if r.get("event") == "budget"] == [total]
    saved = checkpoints.newest(run.checkpoints)[0]
    assert saved is not None
    assert saved.state["progress"]["total"] == total
    again = Session(run, settings, small.pictures())
    assert again.trainer.progress.total == total
    finish(again)
    assert again.trainer.progress.images == total
    assert [r["total"] for r in run.records() if r.get("event") == "budget"] == [total]


def test_skipped_updates_leave_metrics_that_are_json(tmp_path: Path) -> None:
    session = Session(Run(tmp_path / "run"), small.config(), small.pictures())
    inner = session.trainer.objective
    calls = iter(range(1000))

    def sometimes(*args: Any) -> torch.Tensor:
        return inner(*args) * (float("nan") if args[0].training and next(calls) % 2 else 1.0)

    sometimes.whole_times = inner.whole_times  # type: ignore[attr-defined]
    session.trainer.objective = sometimes  # type: ignore[assignment]
    for i, _ in enumerate(session._train()):
        if i == 20:
            session._stop = True

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    lines = session.run.metrics.read_text().splitlines()
    facts = [json.loads(line, parse_constant=refuse) for line in lines]
    assert facts[-1]["skipped"] > 0
    assert np.isfinite(facts[-1]["loss"])


@pytest.mark.parametrize("place", ["checkpoints", "run"])
def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, place: str) -> None:
    if place == "run":
        (tmp_path / "file").write_text("mine")
        with pytest.raises(UserError, match=r"cannot be kept|is not a run"):
            Session(Run(tmp_path / "file" / "run"), small.config(), small.pictures())
        return
    run = Run(tmp_path / "run")
    session = Session(run, small.config(), small.pictures(), checkpoint_seconds=0)
    run.checkpoints.write_text("in the way")
    with pytest.raises(UserError, match="could not be written"):
        finish(session)
