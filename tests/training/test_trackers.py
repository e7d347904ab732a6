"""Trackers: what they are told is what metrics.jsonl holds, a resume goes on in the same place, and none can stop a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.errors import UserError
from unstir.runs import Run
from unstir.runs import config as configs
from unstir.training import session, trackers
from unstir.training.session import Session
from unstir.training.trackers import Trackers, named, numbers
from unstir.training.verdict import looks


@pytest.fixture(autouse=True)
def every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(session, "SAMPLES", 4)


def trained(run: Run, track: str, stop_after: int = 10**9) -> list[session.Event]:
    events = []
    for event in Session(run, small.config(track=track), small.pictures()).events():
        events.append(event)
        if sum(each.kind == "step" for each in events) == stop_after:
            break  # as a kill would
    return events


def told(run: Run) -> dict[str, dict[int, float]]:
    """What all lines that still hold say, by name and images."""
    found: dict[str, dict[int, float]] = {}
    for record in run.records():
        if record.get("event") in ("resume", "rollback"):
            found = {name: {i: v for i, v in at.items() if i <= record["images"]} for name, at in found.items()}
        elif record.get("event") in (None, "watch"):
            for name, value in numbers(record).items():
                found.setdefault(name, {})[record["images"]] = value
    return {name: at for name, at in found.items() if at}


# --- TensorBoard, as it reads its own files ---------------------------------------------------------------------------


def test_tensorboard_shows_what_was_recorded_and_a_resume_goes_on_in_the_same_place(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = Run(tmp_path / "run")
    trained(run, "tensorboard", stop_after=12)  # at 48 images, with no checkpoint: it begins again
    first = Session(run, small.config(track="tensorboard"), small.pictures(), checkpoint_seconds=0)
    for event in first.events():
        if event.step is not None and event.step.images == 100:
            break  # its checkpoint is that of 96 images
    again = trained(run, "tensorboard")
    assert again[0].facts["images"] == 96

    seen = accumulator.EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    seen.Reload()
    tags = seen.Tags()
    expected = told(run)
    own = set(tags["scalars"]) - {"hp_metric"}
    assert own == set(expected)
    assert {"training/loss", "watch/bound/heldout", "watch/copies/p"} <= own
    for name in own:
        at = {event.step: event.value for event in seen.Scalars(name)}
        assert len(at) == len(seen.Scalars(name)), f"{name} has a place twice"
        assert at == pytest.approx(expected[name], rel=1e-5), name
    assert set(tags["images"]) == {"samples/raw", "samples/ema"}
    last = seen.Images("samples/ema")[-1]
    assert last.step == 200
    with Image.open(run.samples / f"{200:010d}-ema.png") as drawn:
        assert (last.width, last.height) == drawn.size
    assert any("configuration" in tag for tag in tags["tensors"])
    assert "optimiser.learning_rate" in b"".join(p.read_bytes() for p in run.path.glob("tensorboard/*")).decode(
        "latin1"
    )


# --- what cannot be told, and what breaks -----------------------------------------------------------------------------


class Breaking:
    """A tracker that breaks at its second telling."""

    def __init__(self) -> None:
        self.told = 0

    def scalars(self, values: Mapping[str, float], images: int) -> None:
        self.told += 1
        if self.told == 2:
            raise ConnectionError("the line\nis dead")

    def picture(self, name: str, picture: np.ndarray, images: int) -> None: ...

    def close(self) -> None: ...


def test_a_tracker_that_fails_is_left_out_with_one_line_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Breaking()
    monkeypatch.setitem(trackers._OPEN, "tensorboard", lambda *_: broken)
    run = Run(tmp_path / "run")
    events = trained(run, "tensorboard")
    warnings = [event.text for event in events if event.kind == "warning" and "tracker" in event.text]
    assert len(warnings) == 1
    assert "tensorboard failed (ConnectionError: the line is dead)" in warnings[0]
    assert broken.told == 2
    assert events[-1].kind == "done"
    assert warnings[0] in (run.path / "log.txt").read_text()
    assert len(looks(run.records())) == session.SNAPSHOTS


def test_one_that_does_not_open_is_an_error_before_anything_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: Any) -> Any:
        raise RuntimeError("no account\nhere")

    monkeypatch.setitem(trackers._OPEN, "tensorboard", closed)
    with pytest.raises(UserError, match=r"tensorboard could not be opened \(RuntimeError: no account here\)"):
        trained(Run(tmp_path / "run"), "tensorboard")
    assert not list((tmp_path / "run").glob("checkpoints/*"))


def test_names_are_checked_and_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named("") == []
    with pytest.raises(UserError, match="no tracker called 'tensorbord'"):
        named("tensorbord")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "wandb" else ModuleSpec(name, None))
    assert named("tensorboard, trackio,tensorboard") == ["tensorboard", "trackio"]
    with pytest.raises(UserError, match=r"pip install 'unstir\[wandb\]'"):
        named("tensorboard,wandb")


def test_a_run_may_be_continued_with_other_trackers() -> None:
    plain, shown = small.config(), small.config(track="tensorboard")
    assert configs.differences(plain, shown) == []
    assert configs.differences(plain, small.config(track="tensorboard", seed=1)) == ["seed: 0 -> 1"]


def test_only_numbers_are_told() -> None:
    record = {"images": 5, "loss": None, "rate": float("nan"), "ok": True, "event": "watch", "verdict": "improving"}
    record |= {
        "bound": {"unit": "bits/dim", "heldout": [1.0, 3.0]},
        "loss_error": {"train": [0.5, 0.25]},
        "copies": None,
    }
    assert numbers(record) == {
        "watch/bound/heldout": 2.0, "watch/loss_error/train/1": 0.5, "watch/loss_error/train/2": 0.25,
    }  # fmt: skip


# --- wandb and trackio: their calls, and themselves where they are installed -----------------------------------------


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_hosted_trackers_are_called_as_they_ask_to_be(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    class Its:
        def log(self, values: dict[str, Any], **place: int) -> None:
            print("* told")  # trackio talks on stdout
            calls.append(("log", {**values, **place}))

        def define_metric(self, name: str, step_metric: str) -> None:
            calls.append(("define_metric", {"name": name, "step_metric": step_metric}))

    module = ModuleType(package)
    module.init = lambda **given: calls.append(("init", given)) or Its()  # type: ignore[attr-defined]
    module.Image = lambda picture: ("picture", picture.size)  # type: ignore[attr-defined]
    module.finish = lambda: calls.append(("finish", {}))  # type: ignore[attr-defined]
    module.__spec__ = ModuleSpec(package, None)
    monkeypatch.setitem(sys.modules, package, module)
    run = Run(tmp_path / "run")
    trained(run, package, stop_after=12)
    trained(run, package)
    assert capsys.readouterr().out == ""
    inits = [given for name, given in calls if name == "init"]
    key = "id" if package == "wandb" else "name"
    assert len(inits) == 2
    assert inits[0][key] == inits[1][key] == json.loads((run.path / "track.json").read_text())[package]
    assert all(given["resume"] == "allow" and given["config"]["optimiser.batch"] == 4 for given in inits)
    assert calls[-1][0] == "finish"
    place = "images" if package == "wandb" else "step"
    assert (("define_metric", {"name": "*", "step_metric": "images"}) in calls) == (package == "wandb")
    logged = [values for name, values in calls if name == "log"]
    at = {values[place]: values["watch/bound/heldout"] for values in logged if "watch/bound/heldout" in values}
    assert at == told(run)["watch/bound/heldout"]
    with Image.open(run.samples / f"{200:010d}-ema.png") as drawn:
        assert any(values.get("samples/ema") == ("picture", drawn.size) and values[place] == 200 for values in logged)


@pytest.mark.parametrize("package", ["wandb", "trackio"])
def test_hosted_trackers_themselves_keep_what_they_are_told(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(package)
    folder = tmp_path / "run"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "grid.png")
    run, settings = Run(folder), small.config(track=package)
    for begin in (0, 100):
        told_of = Trackers(run, settings)
        told_of.begin(begin)
        for images in (begin + 50, begin + 100, begin + 150):
            told_of.record({"images": images, "loss": images / 2})
        told_of.picture("samples/ema", folder / "grid.png", begin + 150)
        told_of.close()
        assert told_of.troubles() == []
    assert capsys.readouterr().out == ""
    name = json.loads((folder / "track.json").read_text())[package]
    if package == "trackio":
        from trackio.sqlite_storage import SQLiteStorage  # type: ignore[import-not-found]

        lines = SQLiteStorage.get_logs(trackers.PROJECT, name)
        losses = [(line["step"], line["training/loss"]) for line in lines if "training/loss" in line]
        assert sorted(losses) == sorted((i, i / 2) for i in (50, 100, 150, 150, 200, 250))
    else:
        kept = sorted((folder / "wandb").glob(f"offline-run-*-{name}/*.wandb"))
        assert len(kept) == 2
        assert all(b"training/loss" in file.read_bytes() for file in kept)
        assert list((folder / "wandb").glob("*/files/media/images/samples/ema*.png"))
