"""The engine: what the user fixed stays fixed, the rest is measured once."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests import small
from unstir.runs import Run
from unstir.training import engine as engines
from unstir.training import session as sessions
from unstir.training.engine import Engine, alternatives, fastest
from unstir.training.session import Session

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
@pytest.mark.parametrize("layout", ["auto", "contiguous", "channels-last"])
@pytest.mark.parametrize("compile_", ["auto", "on", "off"])
def test_alternatives_respect_what_was_fixed(precision: str, layout: str, compile_: str) -> None:
    found = alternatives(CPU, precision, layout, compile_, images=True)
    threads = {torch.get_num_threads(), 1} if torch.get_num_threads() > 1 else {0}
    ways = (2 if precision == "auto" else 1) * (2 if layout == "auto" else 1) * len(threads)
    assert len(set(found)) == len(found) == ways
    assert {e.threads for e in found} == threads
    assert {e.precision for e in found} == ({"fp32", "bf16"} if precision == "auto" else {precision})
    assert {e.layout for e in found} == ({"contiguous", "channels-last"} if layout == "auto" else {layout})
    assert {e.compiled for e in found} == {compile_ == "on"}


def test_points_have_one_layout() -> None:
    assert {e.layout for e in alternatives(CPU, "auto", "auto", "auto", images=False)} == {"contiguous"}


def test_the_fastest_is_the_one_with_the_shortest_median(monkeypatch: pytest.MonkeyPatch) -> None:
    found = alternatives(CPU, "auto", "auto", "off", images=True)
    now = itertools.count()
    clock = [0.0]
    cost = dict(zip(found, (3.0, 1.0, 2.0, 4.0)))

    def step(engine: Engine) -> Any:
        def run() -> None:
            # One outlier each must not decide.
            clock[0] += 100.0 if next(now) in (4, 5, 6, 7) else cost[engine]

        return run

    monkeypatch.setattr(engines.time, "perf_counter", lambda: clock[0])
    chosen, milliseconds = fastest(found, step, rounds=5)
    assert chosen == found[1]
    assert list(milliseconds.values()) == [3000, 1000, 2000, 4000]


def test_a_single_choice_is_not_measured() -> None:
    def step(_: Engine) -> Any:
        raise AssertionError("nothing to measure")

    only = alternatives(CPU, "fp32", "contiguous", "off", images=True)
    assert fastest(only, step) == (only[0], {})


def test_bf16_leaves_weights_loss_and_averages_in_float32() -> None:
    made = small.trainer(engine=Engine(CPU, "bf16"))
    seen: list[torch.dtype] = []
    conv = next(m for m in made.denoiser.network.modules() if isinstance(m, torch.nn.Conv2d))
    conv.register_forward_hook(lambda _module, _args, out: seen.append(out.dtype))
    loss = made.loss(0, 4)
    loss.backward()
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert {p.dtype for p in made.parameters} == {torch.float32}
    assert {p.grad.dtype for p in made.parameters if p.grad is not None} == {torch.float32}
    assert {v.dtype for v in made.ema.values} == {torch.float32}


def test_the_layout_reaches_weights_and_pictures() -> None:
    engine = Engine(CPU, layout="channels-last")
    made = small.trainer(engine=engine)
    convs = [p for p in made.parameters if p.ndim == 4]
    assert convs
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convs)
    assert engine.send(torch.zeros(2, 3, 4, 4)).is_contiguous(memory_format=torch.channels_last)
    assert engine.send(torch.zeros(2, 3)).is_contiguous()


def test_compiled_is_what_training_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def compiled(inner: Any, **_: object) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(type(inner.__self__).__name__)
            return inner(*args, **options)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    small.trainer(engine=Engine(CPU, compiled=True)).update()
    assert calls == ["UNet"]
    small.trainer(engine=Engine(CPU)).update()
    assert calls == ["UNet"]


@pytest.mark.parametrize(("found", "used"), [("cpu", "cpu"), ("cuda", "cuda"), ("mps", "cpu")])
def test_a_device_without_float64_is_not_used(monkeypatch: pytest.MonkeyPatch, found: str, used: str) -> None:
    monkeypatch.setattr(engines, "PartialState", lambda: SimpleNamespace(device=torch.device(found)))
    assert engines.default_device() == torch.device(used)


def test_the_choice_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, settings = Run(tmp_path / "run"), small.config(hardware={"precision": "auto", "layout": "auto"})
    chosen = Engine(CPU, "bf16", "channels-last")
    monkeypatch.setattr(sessions.engines, "fastest", lambda engines, step: (chosen, {"bf16 channels-last": 1.0}))
    first = Session(run, settings, small.pictures())
    assert first.trainer.engine == chosen
    facts = json.loads((run.path / "engine.json").read_text())
    assert (facts["precision"], facts["layout"], facts["compiled"]) == ("bf16", "channels-last", False)
    assert any("bf16 channels-last" in note for note in first.notes)

    def never(*_: object) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(sessions.engines, "fastest", never)
    assert Session(run, settings, small.pictures()).trainer.engine == chosen


def test_measuring_has_no_influence_on_what_is_learned(tmp_path: Path) -> None:
    settings = small.config(hardware={"precision": "auto", "layout": "auto"})
    session = Session(Run(tmp_path / "run"), settings, small.pictures())
    fresh = small.trainer(settings)
    assert session.trainer.progress.images == 0
    assert session.trainer.ema.updates == 0
    assert all(torch.equal(a, b) for a, b in zip(session.trainer.parameters, fresh.parameters))
