"""What is looked at while a run trains: the same questions each time, answered rightly, at a known cost."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import small
from unstir.data import Dataset, DataSpec, Split
from unstir.data.codec import Codec
from unstir.evaluation import likelihood
from unstir.runs import Model, Run, load
from unstir.runs.build import dataset_of
from unstir.runs.config import DataConfig
from unstir.training import session, verdict, watch
from unstir.training.session import Session
from unstir.training.verdict import LOOKS, judge, looks
from unstir.training.watch import BINS, TERMS, Watch, described, items, loss_by_time


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each look, since drawing them takes the most time of it."""
    monkeypatch.setattr(session, "SAMPLES", 16)
    monkeypatch.setattr(session, "POINTS", 16)


def test_the_cost_stays_within_the_share_whatever_the_budget() -> None:
    for total in (100_000, 250_000, 10**9):
        calls = LOOKS * 2 * items(total) * (TERMS + 1 + BINS)
        assert calls <= watch.SHARE * 3 * total
    assert items(1) == watch.FEWEST
    assert items(10**12) == watch.MOST


def test_the_bound_is_that_of_the_averaged_weights_as_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TERMS", 50)  # of this chain all: then the estimate is the sum itself
    dataset = small.pictures(200)
    made = small.trainer(dataset=dataset)
    for _ in range(3):
        made.update()
    made.progress.total = 200_000
    found = Watch(made).look(dataset.train.x[:4])["bound"]
    assert len(found["heldout"]) == len(found["train"]) == len(dataset.heldout) == 20
    with made.averaged():
        model = Model(made.denoiser, dataset.spec, made.config)
        measured = likelihood.measure(model, dataset.heldout, images=20, terms=None)
    assert np.mean(found["heldout"]) == pytest.approx(measured.total, rel=1e-6)
    assert found["unit"] == measured.unit == "bits/dim"


def test_looking_again_says_the_same_and_leaves_no_trace() -> None:
    made = small.trainer()
    for _ in range(3):
        made.update()
    before, state = small.tensors_of(made), torch.get_rng_state()
    first, again = (Watch(made).look(made.dataset.heldout.x) for _ in range(2))
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
    after = small.tensors_of(made)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_losses_are_those_of_items_from_the_whole_split_at_rising_noise() -> None:
    dataset = small.pictures()
    x = np.repeat(np.arange(4, dtype=np.uint8), 32)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    made = small.trainer(dataset=dataset)
    seen: list[torch.Tensor] = []
    made.objective = lambda _d, x0, t, *_: seen.append(x0) or t * torch.arange(len(x0))  # type: ignore[assignment]
    times, losses = loss_by_time(made, Split(x, np.repeat(np.arange(4) % 3, 32)), 16)
    levels, counts = ((seen[0][:, 0, 0, 0] + 1) * 127.5).round().unique(return_counts=True)
    assert levels.tolist() == [0, 1, 2, 3]
    assert counts.tolist() == [4] * 4
    assert losses.shape == (BINS, 16)
    assert all(a < b for a, b in pairwise(times))
    assert torch.equal(losses, torch.tensor(times, dtype=torch.float64)[:, None] * torch.arange(16))


def test_channels_have_their_means_and_spreads_with_honest_errors() -> None:
    spec = DataSpec("points", (2,), False, (), "p", "r", "h")
    rng, n = np.random.default_rng(0), 400
    sets = [described(spec, rng.normal([5, -3], [2, 0.5], (n, 2))) for _ in range(200)]
    for key, true in (("mean", [5, -3]), ("std", [2, 0.5])):
        values = np.array([each[key] for each in sets])
        errors = np.array([each[f"{key}_error"] for each in sets])
        assert np.abs(values.mean(0) - true).max() < 0.02
        # The error that each set states is the spread that they have.
        assert np.allclose(errors.mean(0), values.std(0, ddof=1), rtol=0.2)
    picture = DataSpec("image", (3, 2, 2), True, (), "p", "r", "h")
    x = np.zeros((5, 2, 2, 3), np.uint8)
    x[..., 0], x[:, 0, :, 2] = 7, 10
    found = described(picture, x)
    assert found["mean"] == [7, 0, 5]
    assert found["std"] == [0, 0, 5]
    assert found["std_error"] == [0, 0, 0]  # every item is the same
    symbols = DataSpec("symbols", (2,), False, (), "p", "r", "h", symbols=3)
    assert described(symbols, np.array([[0, 0], [0, 2]], np.uint8))["mean"] == [0.75, 0, 0.25]


@pytest.mark.parametrize("kind", ["image", "points", "bits"])
def test_copies_stand_out_and_new_items_do_not(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = {
        "image": lambda n: rng.integers(0, 256, (n, 4, 4, 1), np.uint8),
        "points": lambda n: rng.normal(size=(n, 6)).astype(np.float32),
        "bits": lambda n: rng.random((n, 64)) < 0.3,
    }[kind]
    shape = {"image": (1, 4, 4), "points": (6,), "bits": (64,)}[kind]
    spec, codec = DataSpec(kind, shape, kind == "image", (), "p", "r", "h"), Codec(kind)
    train, heldout = Split(draw(200), None, codec), Split(draw(100), None, codec)
    near = watch._Near(spec, train, heldout)
    new, copied = near.copies(draw(64)), near.copies(train.x[:64])
    assert new is not None
    assert copied is not None
    assert new["p"] > 0.01
    assert copied["p"] < 1e-6
    assert copied["nearer"] == 64
    repeating = Split(np.concatenate([train.x, train.x[:1]]), None, codec)
    assert (watch._Near(spec, repeating, heldout).copies(draw(4)) is None) == (kind != "image")


BITS = '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'


@pytest.mark.parametrize(("kind", "unit"), [("points", "bits/item"), ("bits", "bits/item"), ("symbols", "bits/item")])
def test_every_kind_of_data_is_watched_in_its_unit(kind: str, unit: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = {
        "points": rng.normal(50, 10, (200, 2)).astype(np.float32),
        "bits": rng.integers(0, 2, (200, 9), np.uint8),
        "symbols": rng.integers(0, 5, (200, 4), np.uint8),
    }[kind]
    np.save(tmp_path / "x.npy", x)
    run = small.train(tmp_path / "run", str(tmp_path / "x.npy"), 80, BITS)

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in run.metrics.read_text().splitlines()]
    found = looks(lines)
    assert len(found) == LOOKS
    assert all(each["bound"]["unit"] == unit for each in found)
    assert len(found[-1]["channels"]["names"]) == len(found[-1]["channels"]["samples"]["mean"])
    assert len((run.path / "log.txt").read_text().splitlines()) >= LOOKS


def test_where_there_is_no_bound_the_loss_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise ValueError("no density")

    monkeypatch.setattr(Model, "bound", none)
    made = small.trainer()
    found = Watch(made).look(made.dataset.heldout.x)
    assert found["bound"]["unit"] == "loss"
    assert np.mean(found["bound"]["heldout"]) == pytest.approx(np.mean(found["loss"]["heldout"]), rel=1e-5)
    with torch.no_grad():
        made.ema.values[0][:] = float("nan")
    assert Watch(made).look(made.dataset.heldout.x)["bound"] is None


def test_a_run_that_was_stopped_has_the_looks_of_one_that_was_not(tmp_path: Path) -> None:
    whole, pieces = Run(tmp_path / "whole"), Run(tmp_path / "pieces")
    for _ in Session(whole, small.config(), small.pictures()).events():
        pass
    for stop_after in (18, 1000):
        for steps, event in enumerate(Session(pieces, small.config(), small.pictures()).events()):
            if event.kind == "step" and steps == stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
    assert looks(whole.records()) == looks(pieces.records())
    assert len(looks(whole.records())) == LOOKS


def digits(number: int, heldout: int) -> Dataset:
    """So few of the digits to learn from, and others held out."""
    whole = dataset_of(DataConfig(source="digits"))
    some = replace(whole.spec, hash=f"{whole.spec.hash} {number}")
    return replace(
        whole, spec=some, train=whole.train.take(np.arange(number)), heldout=whole.train.take(1000 + np.arange(heldout))
    )


def trained(path: Path, dataset: Dataset, images: int) -> tuple[Run, list[session.Event]]:
    settings = small.config(
        network={"channels": 16, "classes": 10, "dropout": 0.0, "blocks": 2},
        prediction={"name": "preconditioned", "data_rms": 0.7},
        objective={"name": "edm", "data_rms": 0.7},
        times={"name": "log-normal", "mean": -0.9, "std": 1.4},
        optimiser={"batch": 32, "learning_rate": 5e-3, "warmup_images": 300},
        budget={"images": images},
    )
    run = Run(path)
    return run, list(Session(run, settings, dataset).events())


def test_a_run_on_sixteen_pictures_is_found_memorising_and_says_so_loudly(tmp_path: Path) -> None:
    run, events = trained(tmp_path / "run", digits(16, 40), 32 * 300)
    said = [event.text for event in events if event.kind == "warning"]
    assert judge(looks(run.records())).word == verdict.MEMORISING
    assert "WARNING, memorising" in said[-1]
    assert said[-1] in (run.path / "log.txt").read_text()
    assert [event for event in events if event.kind == "sample"][-1].text.endswith(": memorising")


def test_a_run_on_many_pictures_improves(tmp_path: Path) -> None:
    run, events = trained(tmp_path / "run", digits(900, 40), 32 * 60)
    found = looks(run.records())
    words = [judge(found[:end]).word for end in range(1, len(found) + 1)]
    assert words[0] == verdict.EARLY
    assert words[-1] == verdict.IMPROVING
    assert not any("WARNING" in event.text for event in events)
    last = [event.text for event in events if event.kind == "sample"][-1]
    assert last.startswith("1,920 images: ")
    assert float(last.split()[2]) == pytest.approx(np.mean(found[-1]["bound"]["heldout"]), abs=0.06)
    assert load(run.path).images == 1920


def test_little_data_is_warned_of_at_the_start(tmp_path: Path) -> None:
    few = Session(Run(tmp_path / "few"), small.config(), small.pictures(1999))
    many = Session(Run(tmp_path / "many"), small.config(), small.pictures(2000))
    assert any("1,999 items" in note and "copies" in note for note in few.notes)
    assert not any("copies" in note for note in many.notes)
