"""What a dry run says is what was measured, and it leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import small
from unstir.data import Dataset
from unstir.errors import UserError
from unstir.runs.config import Config
from unstir.training.dry_run import _alone
from unstir.training.engine import Engine

BYTES = 200_000_000


def holds_much(config: Config, dataset: Dataset, engine: Engine) -> float:
    return float(torch.ones(BYTES // 4).sum())


def holds_little(config: Config, dataset: Dataset, engine: Engine) -> float:
    return float(sum(torch.ones(BYTES // 400).sum() for _ in range(100)))


def has_not_enough(config: Config, dataset: Dataset, engine: Engine) -> float:
    raise MemoryError


def test_memory_is_the_peak_of_the_work_and_not_of_who_asked() -> None:
    """Two hundred megabytes at once against as many one after the other; and this process holds some all the while."""
    held = torch.ones(2 * BYTES // 4)
    asked = (small.config(), small.pictures(), Engine(torch.device("cpu")))
    much, same = _alone(holds_much, *asked)
    little, also = _alone(holds_little, *asked)
    assert same == also == BYTES // 4
    assert much is not None
    assert little is not None
    assert much - little == pytest.approx(BYTES, rel=0.05)
    assert len(held) == 2 * BYTES // 4
    with pytest.raises(UserError, match="most likely for want of memory"):
        _alone(has_not_enough, *asked)


def test_the_command_measures_says_everything_and_writes_nothing(tmp_path: Path) -> None:
    toml = tmp_path / "small.toml"
    toml.write_text(small.TOML)
    line = [
        sys.executable,
        "-m",
        "unstir",
        "train",
        "digits",
        "--config",
        str(toml),
        "--images",
        "4000",
        "--out",
        "run",
    ]
    done = subprocess.run([*line, "--dry-run", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
    found = json.loads(done.stdout)
    assert found["images"] == 4000
    assert found["config"]["network"]["channels"] == 8
    taken = found["milliseconds"][found["engine"]]
    assert taken == min(found["milliseconds"].values())
    assert found["images_per_second"] == pytest.approx(1000 * 8 / taken)
    # Every number of the network is held four times in training: with its slope, its average and two moments even five times.
    assert found["training_bytes"] > 4 * 4 * found["parameters"]
    assert found["sampling_bytes"] > 4 * found["parameters"]
