"""What a receipt must notice, and what writing one must not destroy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from unstir.runs import load
from unstir.runs.model import metadata

Command = Callable[..., Any]
FEW = ("--metrics", "kernel", "--samples", 20, "--sample-steps", 1)


@pytest.fixture
def run(digits_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_run, tmp_path / "digits", ignore=shutil.ignore_patterns("receipts")))


def network(path: Path, scale: float) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU()).eval()
    net[0].weight.data *= scale
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=shapes), path)


def test_features_that_were_replaced_under_their_name_are_refused(run: Path, unstir: Command, tmp_path: Path) -> None:
    eyes, receipt = tmp_path / "eyes.pt2", tmp_path / "kept.json"
    network(eyes, 1.0)
    assert unstir("evaluate", run, *FEW, "--features", eyes, "--receipt", receipt).code == 0
    assert unstir("evaluate", "--check", receipt).code == 0
    network(eyes, 1.0001)
    ended = unstir("evaluate", "--check", receipt)
    assert (ended.code, ended.out) == (2, "")
    assert "the features here" in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_model_is_more_than_its_weights(run: Path, unstir: Command, tmp_path: Path) -> None:
    """The same weights under another schedule are another model."""
    receipt = tmp_path / "kept.json"
    assert unstir("evaluate", run, "--images", 2, "--terms", 2, "--metrics", "bound", "--receipt", receipt).code == 0
    config = run / "config.toml"
    config.write_text(config.read_text().replace("T = 50", "T = 49"))
    ended = unstir("evaluate", "--check", receipt)
    assert (ended.code, ended.out) == (2, "")
    assert "the model here" in ended.err


def test_with_the_same_versions_a_small_change_is_no_rounding(run: Path, unstir: Command, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    assert unstir("evaluate", run, "--images", 2, "--terms", 2, "--metrics", "bound", "--receipt", path).code == 0
    receipt = json.loads(path.read_text())
    receipt["results"]["bound"]["steps"] *= 1.005
    receipt["results"]["bound"]["half_width"] = 0.0
    path.write_text(json.dumps(receipt))
    assert unstir("evaluate", "--check", path).code == 1
    assert "bound.steps" in unstir("evaluate", "--check", path).out


def test_no_other_file_is_lost_to_a_receipt(run: Path, unstir: Command, tmp_path: Path) -> None:
    own = (run / "data.json").read_bytes()
    ended = unstir("evaluate", run, "--metrics", "bound", "--images", 2, "--terms", 1, "--receipt", run / "data.json")
    assert (ended.code, ended.out) == (2, "")
    assert "is already there, and is no receipt" in ended.err
    assert (run / "data.json").read_bytes() == own
    (tmp_path / "x.png").write_bytes(b"somebody's own")
    ended = unstir("evaluate", run, "--metrics", "memorising", *FEW[2:], "--receipt", tmp_path / "x.json")
    assert ended.code == 0, ended.err
    assert (tmp_path / "x.png").read_bytes() == b"somebody's own"
    assert (tmp_path / "x.copies.png").is_file()


def test_models_beside_each_other_keep_their_own_receipts(run: Path, unstir: Command, tmp_path: Path) -> None:
    """Two files of weights in one folder, asked the same."""
    folder = tmp_path / "files"
    folder.mkdir()
    for weights in ("ema", "raw", "ema"):
        unstir("evaluate", run, "--metrics", "bound", "--images", 2, "--terms", 1, "--weights", weights)
    shutil.copy(run / "model.safetensors", folder / "a.safetensors")
    raw = load(run, weights="raw")
    facts = metadata(raw.config, raw.spec, raw.images, "ema")
    save_file(raw.denoiser.network.state_dict(), folder / "b.safetensors", facts)
    for file in ("a", "a", "b"):
        line = ("--metrics", "bound", "--images", 2, "--terms", 1)
        assert unstir("evaluate", folder / f"{file}.safetensors", *line).code == 0
    assert len(list((folder / "receipts").iterdir())) == 2
    assert len(list((run / "receipts").iterdir())) == 2


def test_many_metrics_make_no_long_name(run: Path, unstir: Command) -> None:
    ended = unstir("evaluate", run, "--metrics", "bound,yardsticks,rate", "--images", 2, "--terms", 1)
    assert ended.code == 0, ended.err
    (receipt,) = (run / "receipts").iterdir()
    assert receipt.name.startswith("bound-and-2-more-")
