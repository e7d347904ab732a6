"""Bad input is one line on stderr and exit code 2, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small

TRAIN = "train digits --out {new} --images 8 --config {small}"

LINES = {
    "no such data": "train {none} --out {new}",
    "an empty folder": "train {empty} --out {new}",
    "text as data": "train {text} --out {new}",
    "one picture as data": "train {picture} --out {new}",
    "floats as pictures": "train {floats} --out {new}",
    "one number as data": "train {number} --out {new}",
    "points that are all the same": "train {same} --out {new}",
    "points beyond float32": "train {beyond} --out {new}",
    "lists as labels": "train {labelled} --out {new}",
    "out is a file": "train digits --images 8 --config {small} --out {text}",
    "out below a file": "train digits --images 8 --config {small} --out {text}/run",
    "out is a folder of other things": "train digits --images 8 --config {small} --out {full}",
    "both budgets": TRAIN + " --minutes 3",
    "no images": "train digits --out {new} --images 0",
    "negative images": "train digits --out {new} --images -4",
    "no minutes": "train digits --out {new} --minutes 0",
    "minutes that are no number": "train digits --out {new} --minutes nan",
    "endless minutes": "train digits --out {new} --minutes inf",
    "unknown preset": TRAIN + " --preset gigantic",
    "a preset for other data": TRAIN + " --preset points",
    "bad colour": TRAIN + " --background whitish",
    "bad size": TRAIN + " --size -3",
    "huge size": TRAIN + " --size 100000",
    "bad mode": TRAIN + " --mode CMYK",
    "bad seed": TRAIN + " --seed -1",
    "a seed that is no number": TRAIN + " --seed five",
    "bad precision": TRAIN + " --precision fp8",
    "no such config": "train digits --out {new} --config {none}.toml",
    "config is text": "train digits --out {new} --config {text}",
    "unknown option": TRAIN + " --turbo",
    "missing out": "train digits",
    "missing data": "train --out {new}",
    "too many words": TRAIN + " and more",
    "unknown command": "trian digits",
    "strange file of points, flipped": "train {points} --out {new} --flip",
    "points with a size": "train {points} --out {new} --size 32",
    "sample nothing": "sample {none}",
    "sample an empty folder": "sample {empty}",
    "sample text": "sample {text}",
    "sample without a run": "sample",
    "unknown sampler": "sample {run} --sampler hopping",
    "no steps": "sample {run} --steps 0",
    "negative steps": "sample {run} --steps -2",
    "too many whole steps": "sample {run} --steps 2000 --spacing trailing",
    "steps that are no number": "sample {run} --steps many",
    "no samples": "sample {run} -n 0",
    "no batch": "sample {run} --batch 0",
    "bad label": "sample {run} --label eleven",
    "label beyond": "sample {run} --label 10",
    "guidance without a label": "sample {run} --guidance 2",
    "guidance that is no number": "sample {run} --guidance nan --label 3",
    "label without classes": "sample {points_run} --label 3",
    "guidance without classes": "sample {points_run} --guidance 2",
    "vector without vectors": "sample {run} --vector 1",
    "a picture for a run that is shown none": "sample {run} --like {run}",
    "mask without a picture": "sample {run} --mask left",
    "unknown option of a sampler": "sample {run} --sampler ddim:theta=1",
    "unknown spacing": "sample {run} --spacing magic",
    "times that rise": "sample {run} --times 1,2,0",
    "times beside steps": "sample {run} --times 9,2,0 --steps 3",
    "no times": "sample {run} --times x",
    "a sampler of numbers for bits": "sample {points_run} --sampler tau",
    "guidance interval that falls": "sample {run} --label 3 --guidance 2 --guidance-interval 3,1",
    "bad indices": "sample {run} --indices 3,x",
    "no indices": "sample {run} --indices=",
    "negative indices": "sample {run} --indices=-3",
    "huge indices": "sample {run} --indices 999999999999999999999999",
    "negative sampling seed": "sample {run} --seed -1",
    "huge sampling seed": "sample {run} --seed 999999999999999999999999",
    "bad weights": "sample {run} --weights best",
    "raw weights of a file": "sample {run}/model.safetensors --weights raw",
    "strange form": "sample {run} --out {new}.jpg",
    "samples in a file's place": "sample {run} --out {text}/grid.png",
    "a folder in a file's place": "sample {run} --out {plain}",
    "a grid in a folder's place": "sample {run} --out {folder}.png",
    "a folder of other things": "sample {run} --out {full}",
    "a grid of points": "sample {points_run} --out {new}.png",
    "a folder of points": "sample {points_run} --out {new}",
    "evaluate nothing": "evaluate {none}",
    "evaluate on no data": "evaluate {run} --data {none}",
    "evaluate on other shapes": "evaluate {run} --data {other}",
    "evaluate on points": "evaluate {run} --data {points}",
    "evaluate one image": "evaluate {run} --images 1",
    "evaluate with bad terms": "evaluate {run} --terms -1",
    "evaluate with a bad seed": "evaluate {run} --seed -1",
    "report nothing": "report {none}",
    "report a file": "report {run}/model.safetensors",
    "report on one image": "report {run} --images 1",
    "inspect nothing": "inspect {none}",
    "inspect text": "inspect {text}",
    "inspect in a bad colour": "inspect digits --background whitish",
    "inspect at a bad size": "inspect digits --size -1",
    "inspect into nowhere": "inspect digits --out {none}/sheet.png",
    "inspect into a strange form": "inspect digits --out {new}.xyz",
    "demo in a file's place": "demo --out {text} --minutes 0.01",
}


def snapshot(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for folder in folders for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, digits_run: Path, points_run: Path, points_file: Path) -> Any:
    root = tmp_path_factory.mktemp("places")
    for name in ("empty", "full", "folder.png"):
        (root / name).mkdir()
    (root / "full" / "thesis.txt").write_text("mine")
    (root / "text.txt").write_text("hello, this is no data")
    (root / "small.toml").write_text(small.TOML)
    (root / "plain").write_text("mine")
    Image.new("L", (8, 8)).save(root / "picture.jpg")
    np.save(root / "floats.npy", np.zeros((4, 8, 8, 3)))
    np.save(root / "other.npy", np.random.default_rng(0).integers(0, 256, (20, 9, 9, 3), np.uint8))
    np.savez(root / "number.npz", arr_0=np.float32(3))
    np.save(root / "same.npy", np.ones((20, 2)))
    np.save(root / "beyond.npy", np.full((20, 2), 1e300))
    (root / "labelled").mkdir()
    for name in "ab":
        Image.new("L", (8, 8)).save(root / "labelled" / f"{name}.png")
    (root / "labelled" / "dataset.json").write_text('{"labels": [["a.png", [1, 2]], ["b.png", [1]]]}')
    names = {
        "none": root / "none", "new": root / "new", "empty": root / "empty", "full": root / "full", "text": root / "text.txt",
        "small": root / "small.toml", "picture": root / "picture.jpg", "plain": root / "plain",
        "floats": root / "floats.npy", "other": root / "other.npy",
        "number": root / "number.npz", "same": root / "same.npy", "beyond": root / "beyond.npy", "labelled": root / "labelled",
        "folder": root / "folder", "run": digits_run, "points_run": points_run, "points": points_file,
    }  # fmt: skip
    return root, names


@pytest.mark.parametrize("case", LINES)
def test_one_line_and_nothing_written(
    case: str, places: Any, unstir: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, names = places
    monkeypatch.chdir(root)
    watched = (root, names["run"], names["points_run"])
    before = snapshot(*watched)
    # Split before paths go in, which may hold spaces.
    ended = unstir(*(word.format(**names) for word in LINES[case].split()))
    assert ended.code == 2, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("unstir: ")
    assert len(ended.err) > len("unstir: ") + 10
    assert "Error" not in ended.err.split()[1], "a sentence, not the name of an exception"
    assert snapshot(*watched) == before
