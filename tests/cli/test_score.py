"""``unstir score``: a table of every item, in the user's own words."""

from __future__ import annotations

import csv
import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.cli import console
from unstir.evaluation import score

Command = Callable[..., Any]
QUICK = ("--terms", 2, "--draws", 2, "--reference", 6)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Points as the run knows them, and some far off; one line for each."""
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},near" for x, y in rng.normal(50, 10, (20, 2))]
    rows += [f"{x:.3f},{y:.3f},far" for x, y in rng.normal(120, 10, (10, 2))]
    path = tmp_path / "mixed.csv"
    path.write_text("a,b,label\n" + "\n".join(rows[i] for i in rng.permutation(30)) + "\n")
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Coloured pictures larger than the run's, in two folders with odd names."""
    rng = np.random.default_rng(0)
    for name in ("good, mostly", 'say "no"'):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{i}, of 3.png")
    return tmp_path / "pictures"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_far_off_points_are_found(points_run: Path, table: Path, unstir: Command, tmp_path: Path) -> None:
    out = tmp_path / "new" / "scores.csv"
    ended = unstir(
        "score", points_run, table, "--strange", "far", "--out", out, "--terms", 5, "--reference", 60, "--json"
    )
    assert ended.code == 0, ended.err
    rows, lines = read(out.read_text()), table.read_text().splitlines()[1:]
    assert [row["name"] for row in rows] == [f"#{i}" for i in range(30)]
    assert [row["label"] for row in rows] == [line.split(",")[-1] for line in lines]
    facts = json.loads(ended.out)
    assert (facts["items"], facts["reference"], facts["out"]) == (30, 60, str(out))
    for name in ("bits_per_item", "typicality", "reconstruction"):
        area = facts["auroc"][name]
        assert area["value"] > 0.95
        assert area["low"] < area["value"] <= area["high"]
        # Every strange item against every other, counted.
        far = [float(row[name]) for row in rows if row["label"] == "far"]
        near = [float(row[name]) for row in rows if row["label"] == "near"]
        assert area["value"] == pytest.approx(np.mean([f > n for f in far for n in near]), abs=1e-6)
        assert f"{area['value']:.3f}  {area['low']:.3f} … {area['high']:.3f}" in ended.err


@pytest.mark.parametrize("scores", ["bits,typicality,reconstruction", "bits"])
def test_the_strangest_are_named_and_which_column_tells(
    points_run: Path, table: Path, unstir: Command, tmp_path: Path, scores: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_plain", functools.partial(console._plain, interval=0))
    line = ("score", points_run, table, "--out", tmp_path / "x.csv", "--scores", scores, *QUICK)
    ended = unstir(*line, "--strange", "near")
    assert ended.code == 0, ended.err
    column = "reconstruction" if "reconstruction" in scores else "bits_per_item"
    rows = sorted(read((tmp_path / "x.csv").read_text()), key=lambda row: -float(row[column]))
    lines = ended.err.splitlines()
    first = lines.index(f"the strangest by {column}:") + 1
    assert [line.split()[0] for line in lines[first : first + 10]] == [row["name"] for row in rows[:10]]
    assert "bits_per_item mislead where things are simple" in lines[first + 10]
    # The near ones are anything but strange: the area says so, and that it does.
    (told,) = [line for line in lines if line.strip().startswith(f"{column} ") and "…" in line]
    assert "points the other way" in told
    assert ("6 of them training items" in ended.err) == (scores != "bits")
    assert "the strangest" not in unstir(*line, "--json").err


def test_pictures_are_made_the_runs_and_called_by_their_files(
    digits_run: Path, pictures: Path, unstir: Command, tmp_path: Path
) -> None:
    run = shutil.copytree(digits_run, tmp_path / "run")
    ended = unstir("score", run, pictures, *QUICK, "--strange", "good, mostly")
    assert ended.code == 0, ended.err
    rows = read((run / "scores.csv").read_text())
    names = [f"{folder}/{i}, of 3.png" for folder in ("good, mostly", 'say "no"') for i in range(3)]
    assert [row["name"] for row in rows] == names
    assert [row["label"] for row in rows] == [name.split("/")[0] for name in names]
    assert "resized to 8×8" in ended.err
    assert "finds good, mostly" in ended.err
    errors = [name for name in rows[0] if name.startswith("error_t")]
    columns = ["bits_per_dim", "bits_per_dim_error", "bits_less_png", "typicality", *errors, "reconstruction"]
    assert list(rows[0]) == ["name", "label", *columns]
    assert all(np.isfinite(float(row[name])) for row in rows for name in columns)


def test_the_same_picture_scores_the_same_elsewhere(
    digits_run: Path, pictures: Path, unstir: Command, tmp_path: Path
) -> None:
    """One picture by itself, under another name, with another batch."""
    line = ("--out", "-", *QUICK)
    whole = read(unstir("score", digits_run, pictures, *line).out)
    (tmp_path / "alone").mkdir()
    shutil.copy(pictures / 'say "no"' / "1, of 3.png", tmp_path / "alone" / "x.png")
    (alone,) = read(unstir("score", digits_run, tmp_path / "alone", *line, "--batch", 2).out)
    assert (alone["name"], "label" in alone) == ("x.png", False)
    (there,) = [row for row in whole if row["name"] == 'say "no"/1, of 3.png']
    for name in alone:
        if name != "name":
            assert float(alone[name]) == pytest.approx(float(there[name]), rel=1e-3, abs=1e-5)


def test_bits_and_symbols_too(unstir: Command, tmp_path: Path) -> None:
    toml = (
        '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'
    )
    np.save(tmp_path / "symbols.npy", np.random.default_rng(0).integers(0, 5, (30, 6)))
    for source in ("heartbeat", str(tmp_path / "symbols.npy")):
        run = small.train(tmp_path / f"run {Path(source).stem}", source, 8, toml).path
        ended = unstir("score", run, source, *QUICK, "--limit", 5, "--out", "-")
        assert ended.code == 0, ended.err
        rows = read(ended.out)
        assert len(rows) == 5
        assert {"bits_per_item", "typicality", "reconstruction"} < set(rows[0])
        assert "bits_less_png" not in rows[0]


def test_data_that_have_moved_are_asked_for(
    points_run: Path, points_file: Path, unstir: Command, tmp_path: Path
) -> None:
    run = shutil.copytree(points_run, tmp_path / "run")
    config = run / "config.toml"
    config.write_text(config.read_text().replace(str(points_file), str(tmp_path / "gone.npy")))
    line = ("score", run, points_file, "--limit", 3, *QUICK)
    ended = unstir(*line)
    assert ended.code == 2
    assert "gone.npy: no such file or folder" in ended.err.splitlines()[-1]
    assert "give --training PATH" in ended.err
    assert unstir(*line, "--scores", "bits").code == 0
    assert unstir(*line, "--training", points_file).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{run} {table} --strange odd", "there is no class 'odd' in this data; there are far, near"),
        ("{run} {table} --strange far,near", "30 of the items are strange and 0 are not"),
        ("{run} {points} --strange far", "this data has none"),
        ("{run} digits", "the run is of points, and digits holds pictures"),
        ("{run} {wide}", "this data has shape (3,), the model's has (2,)"),
        ("{run} {tmp}/none.csv", "no such file or folder"),
        ("{run} {table} --out {tmp}", "is not called so"),
        ("{run} {table} --out {tmp}/folder.csv", "is a folder"),
        ("{run} {table} --out {table}", "is among the data that is to be scored"),
        ("{run} {table} --out {tmp}/mine.csv", "holds no scores"),
        ("{run} {table} --out {table}/x.csv", "is among the data"),
        ("{run} {table} --out {tmp}/mine.csv/x.csv", "is not a folder"),
        ("{run} {table} --out - --json", "both write to stdout"),
        ("{run} {table} --scores luck", "there is no score called 'luck'; there are bits, typicality, reconstruction"),
        ("{run} {table} --strange far --limit 1", "1 of the items are strange and 0 are not"),
        ("{run} {table} --seed -5", "a seed is a whole number from 0 to 2^63 - 1, not -5"),
        ("{run} {table} --out /proc/x.csv", "/proc does not allow it"),
        ("{run} {table} --draws 1", "--draws"),
        ("{run} {table} --limit 0", "--limit"),
        ("{run} {table} --steps 51", "--steps must be from 1 to this chain's 50"),
        ("{tmp} {table}", "is not a run"),
    ],
)
def test_bad_input_is_one_line_and_leaves_everything(
    points_run: Path,
    points_file: Path,
    table: Path,
    unstir: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    said: str,
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "mine.csv").write_text("diary\n")
    np.save(tmp_path / "wide.npy", np.zeros((4, 3), np.float32) + np.arange(4)[:, None])
    places = {"run": points_run, "table": table, "points": points_file, "tmp": tmp_path, "wide": tmp_path / "wide.npy"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(score, "measure", lambda *_, **__: pytest.fail("it was measured first"))
    line = [word.format(**places) for word in words.split()]
    ended = unstir("score", *line, *QUICK, *(() if "--out" in words else ("--out", tmp_path / "new.csv")))
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err.splitlines()[-1]
    assert ended.err.splitlines()[-1].startswith("unstir: ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_interrupt_leaves_the_scores_of_before(
    points_run: Path, table: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    line = ("score", points_run, table, "--out", out, "--scores", "bits", *QUICK)
    assert unstir(*line).code == 0
    before = out.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(score, "_keys", interrupt)
    ended = unstir(*line)
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "unstir: stopped; nothing was written"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed.csv", "out.csv"]
    assert out.read_bytes() == before
