"""Several processes train the network that one would: the same images, the same rates, the same weights to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import unstir
from tests.training.together import CASES, SESSION, UPDATES, outcome, settings, trainer
from unstir.errors import UserError
from unstir.runs import checkpoint as checkpoints
from unstir.runs import shards
from unstir.training.batches import pieces
from unstir.training.loop import Trainer
from unstir.training.processes import Processes
from unstir.training.sharding import part_of

ROOT = Path(__file__).parent.parent.parent
TORCHRUN = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m"]
ALONE = Processes()
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 2e-5}
"""AdamW divides by the gradient's size: where that is near 0, rounding is a larger share. A learning rate is 1e-3."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Layers as small as these lose by a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What two processes did, see ``together``: facts, and the folder of tensors and runs."""
    folder = tmp_path_factory.mktemp("together")
    done = subprocess.run(
        [*TORCHRUN, "tests.training.together", str(folder)],
        capture_output=True, text=True, cwd=ROOT, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "facts.json").read_text()), folder


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[dict[str, Any], dict[str, Tensor]]]:
    """The same cases in one process."""
    return {name: outcome(trainer(config, ALONE)) for name, config in CASES.items()}


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", [*CASES, "cut"])
def test_two_processes_are_one(together: tuple[dict[str, Any], Path], alone: dict[str, Any], name: str) -> None:
    """Losses, gradients, weights and their average, also with unequal shares, in pieces, and with the weights cut in two."""
    facts, folder = together
    expected, tensors = alone["plain" if name == "cut" else name]
    for key in ("losses", "norms"):
        assert np.allclose(facts[name][key], expected[key], rtol=1e-4), key
    # A learning rate that followed processes or pieces (traps 24 and 42), or an average updated by each of them, would differ here.
    assert facts[name]["rates"] == expected["rates"]
    assert facts[name]["averaged"] == expected["averaged"] == UPDATES
    assert facts[name]["images"] == expected["images"] == UPDATES * CASES.get(name, CASES["plain"]).optimiser.batch
    found = load_file(folder / f"{name}.safetensors")
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        torch.testing.assert_close(found[key], value, **CLOSE)
    moved = torch.cat([(found[key] - value).flatten() for key, value in start().items()])
    assert moved.abs().max() > 100 * CLOSE["atol"], "nothing was learned that could differ"


@pytest.mark.parametrize("micro", [2, 4])
def test_pieces_are_the_whole_batch(alone: dict[str, Any], micro: int) -> None:
    """Pieces of 2 and, since 4 does not divide 6, of 3: the same update, one step of optimizer and average each."""
    made = trainer(settings(micro=micro), ALONE)
    facts, tensors = outcome(made)
    assert len(made.pieces) == {2: 3, 4: 2}[micro]
    expected, whole = alone["plain"]
    assert np.allclose(facts["losses"], expected["losses"], rtol=1e-5)
    assert facts["rates"] == expected["rates"]
    assert facts["averaged"] == UPDATES
    steps = {int(value) for name, value in made.checkpoint().parts["optimizer"].items() if name.startswith("step.")}
    assert steps == {UPDATES}
    for key, value in whole.items():
        torch.testing.assert_close(tensors[key], value, **CLOSE)


@pytest.mark.parametrize("micro", [0, 2])
def test_the_average_follows_the_optimizer_alone(micro: int) -> None:
    """Weights jump from 0 to 1: after n updates the average is 1 - prod beta_i, whatever the number of pieces."""
    made = trainer(settings(micro=micro), ALONE)
    with torch.no_grad():
        for value in made.ema.values:
            value.zero_()
    made.optimizer.step = lambda *_: [p.data.fill_(1.0) for p in made.parameters]  # type: ignore[method-assign]
    made.ema.updates = 10
    for _ in range(2):
        made.update()
    kept = np.prod([(1 - 1 / n) ** (made.ema.gamma + 1) for n in (11, 12)])
    for value in made.ema.values:
        torch.testing.assert_close(value, torch.full_like(value, 1 - kept))


def test_processes_stay_one(together: tuple[dict[str, Any], Path]) -> None:
    """Their weights are equal bit for bit, after a batch too that was not finite in one of them: all skip it."""
    facts, _ = together
    assert all(facts[name]["same"] for name in (*CASES, "broken"))
    assert facts["broken"]["skipped"] == [False, False, True, False]
    assert facts["broken"]["averaged"] == UPDATES - 1


def test_a_signal_to_one_stops_all_after_the_same_update(together: tuple[dict[str, Any], Path]) -> None:
    facts, folder = together
    first, second = facts["stopping"]["events"]
    assert first == second
    assert first[-1] == "stopped"
    assert facts["stopping"]["images"] == [16, 16]
    state, _ = checkpoints.newest(folder / "stopped" / "checkpoints")
    assert state is not None
    assert state.state["progress"]["images"] == 16


def test_a_network_that_is_cut_goes_on_bit_for_bit(together: tuple[dict[str, Any], Path]) -> None:
    facts, _ = together
    assert facts["shards"]["bit for bit"]
    assert facts["shards"]["passed"] == []
    assert facts["shards"]["kept"] == pytest.approx(0.5, abs=0.05), "each process keeps about half"


def test_one_process_reads_and_continues_what_two_wrote_in_parts(together: tuple[dict[str, Any], Path]) -> None:
    facts, folder = together
    place = folder / "cut" / "checkpoints"
    files = sorted(path.name for path in (place / "step-00000012").iterdir())
    assert len(files) == 2 * 3 + 1
    assert "ema-00001-of-00002.safetensors" in files
    state, passed = checkpoints.newest(place)
    assert state is not None
    assert not passed
    made = trainer(settings(dropout=0.2), ALONE)
    made.restore(state)
    assert made.progress.images == 12
    moments = sum(value.numel() for name, value in made.checkpoint().parts["optimizer"].items() if "exp_avg." in name)
    assert 0 < facts["shards"]["moments"] < moments == sum(parameter.numel() for parameter in made.parameters)
    made.update()
    assert made.ema.updates == 3

    part = place / "step-00000012" / "model-00002-of-00002.safetensors"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(bytes(content))
    state, passed = checkpoints.newest(place)
    assert state is None
    assert len(passed) == 1
    assert "model-00002-of-00002.safetensors does not match its checksum" in passed[0]


def test_killed_and_continued_two_processes_end_where_they_would_have(together: tuple[dict[str, Any], Path]) -> None:
    """SIGKILL to all of them at some update; the same line ends with the bits of a run that was never stopped."""
    _, folder = together
    whole, killed = folder / "whole", folder / "killed"
    words = [*TORCHRUN, "unstir", "train", SESSION["data"]["source"], "--out", str(killed), "--config"]
    words += [str(folder / "small.toml"), "--images", str(SESSION["budget"]["images"]), "--checkpoint-seconds", "0"]
    begun = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment())
    until(lambda: checkpoint_images(killed) >= 24 or begun.poll() is not None)
    for process in (*psutil.Process(begun.pid).children(recursive=True), begun):
        process.kill()
    begun.wait()
    reached = checkpoint_images(killed)
    assert 24 <= reached < 96, "it was killed on the way"
    done = subprocess.run(words, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained on") == 1, "one process speaks"
    records = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    resumed = next(record for record in records if record.get("event") == "resume")
    assert resumed["images"] >= 24
    assert resumed["processes"] == 2
    for part in ("model", "ema", "optimizer"):
        name = Path("checkpoints") / "step-00000096" / f"{part}.safetensors"
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), part
    assert unstir.load(killed).sample(1, steps=1).shape == (1, 8, 8, 1)


def checkpoint_images(run: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*")), default=0)


def until(condition: Any, seconds: float = 240.0) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it takes too long"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("batch", "world", "micro"), [(6, 1, 0), (6, 2, 0), (7, 3, 0), (7, 2, 2), (64, 8, 3), (5, 5, 1)]
)
def test_every_image_is_worked_on_once(batch: int, world: int, micro: int) -> None:
    shares = [pieces(batch, rank, world, micro) for rank in range(world)]
    images = [image for place, number in chain(*shares) for image in range(place, place + number)]
    assert images == list(range(batch))
    assert len({len(share) for share in shares}) == 1, "all exchange something equally often"
    sizes = [sum(number for _, number in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert not micro or max(number for _, number in chain(*shares)) <= micro


@pytest.mark.parametrize(
    ("batch", "world", "micro", "said"),
    [(3, 4, 0, "a batch of 3 cannot be shared among 4 processes"), (5, 2, 1, "optimiser.micro_batch = 1")],
)
def test_what_leaves_a_process_nothing_is_refused(batch: int, world: int, micro: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        pieces(batch, 0, world, micro)


@pytest.mark.parametrize(("rows", "world"), [(7, 1), (7, 2), (7, 3), (2, 3), (9, 4)])
def test_parts_make_the_whole(rows: int, world: int) -> None:
    tensor = torch.randn(rows, 3)
    parts = [{"w": part_of(tensor, rank, world), "step": torch.tensor(5.0)} for rank in range(world)]
    for part, chunk in zip(parts, tensor.chunk(world)):
        assert torch.equal(part["w"], chunk)
    files = {shards.name_of("model", rank, world): part for rank, part in enumerate(parts)}
    whole = shards.joined(dict(reversed(files.items())))["model"]
    assert torch.equal(whole["w"], tensor)
    assert float(whole["step"]) == 5
    if world > 1:
        del files[shards.name_of("model", 0, world)]
        with pytest.raises(ValueError, match="parts of model"):
            shards.joined(files)


def start() -> dict[str, Tensor]:
    made: Trainer = trainer(settings(), ALONE)
    return {f"model/{name}": value for name, value in zip(made.names, made.own, strict=True)}
