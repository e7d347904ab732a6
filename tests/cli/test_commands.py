"""The command line does what it says: results on stdout, sentences on stderr, files where asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.runs import Run
from unstir.training.verdict import judge, looks

Command = Callable[..., Any]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(small.TOML)
    return path


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def plain(err: str) -> None:
    """Lines for a log file: no colours, no carriage returns, no tracebacks."""
    assert "\x1b" not in err
    assert "\r" not in err
    assert "Traceback" not in err
    assert all(line.strip() for line in err.splitlines())


def test_a_damaged_checkpoint_is_named_by_whoever_passes_it_over(tmp_path: Path, unstir: Command) -> None:
    run = small.train(tmp_path / "run", "digits", 64)
    older = next((run.path / "checkpoints").glob("step-*"))
    newer = shutil.copytree(older, older.with_name("step-00000099"))
    (newer / "ema.safetensors").write_bytes(b"")
    ended = unstir("sample", run.path, "-n", 2, "--steps", 2, "--out", tmp_path / "x.npz")
    assert ended.code == 0, ended.err
    assert "step-00000099 is damaged" in ended.err
    assert "was passed over" in ended.err


def test_train_sample_evaluate_report(tmp_path: Path, settings: Path, unstir: Command) -> None:
    run = tmp_path / "run"
    ended = unstir("train", "digits", "--out", run, "--images", 64, "--config", settings, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {
        "run": str(run), "images": 64, "finished": True, "model": str(run / "model.safetensors"),
        "verdict": judge(looks(Run(run).records())).word,
    }  # fmt: skip
    plain(ended.err)
    assert "1,617 to learn from, 180 held out, each 1×8×8, 10 classes; preset tiny" in ended.err

    again = unstir("train", "digits", "--out", run, "--images", 64, "--config", settings)
    assert again.code == 0
    assert again.out == ""
    assert f"{run} is finished: 64 images" in again.err

    ended = unstir("sample", run, "-n", 5, "--steps", 2, "--json")
    assert ended.code == 0
    facts = json.loads(ended.out)
    assert facts["indices"] == [0, 1, 2, 3, 4]
    assert levels(Path(facts["out"])).ndim == 2
    plain(ended.err)

    ended = unstir("evaluate", run, "--images", 4, "--terms", 5, "--json")
    facts = json.loads(ended.out)
    assert facts["total"] == pytest.approx(facts["prior"] + facts["steps"] + facts["decoder"])
    assert (facts["unit"], facts["items"], facts["weights"]) == ("bits/dim", 4, "ema")
    plain(ended.err)
    ended = unstir("evaluate", run, "--images", 4, "--terms", 5)
    assert f"{facts['total']:.4f}" in ended.out.splitlines()[0]

    ended = unstir("report", run, "--images", 4, "--json")
    assert json.loads(ended.out) == {"report": str(run / "report.html")}
    assert (run / "report.html").is_file()


def test_the_runs_own_file_makes_the_same_model(tmp_path: Path, digits_run: Path, unstir: Command) -> None:
    ended = unstir("train", "digits", "--out", tmp_path / "again", "--config", digits_run / "config.toml")
    assert ended.code == 0, ended.err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (digits_run / "model.safetensors").read_bytes()
    assert (tmp_path / "again" / "config.toml").read_bytes() == (digits_run / "config.toml").read_bytes()


def test_other_settings_on_a_run_are_refused(tmp_path: Path, digits_run: Path, unstir: Command) -> None:
    run = shutil.copytree(digits_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = unstir("train", "digits", "--out", run, "--config", run / "config.toml", "--seed", 7)
    assert ended.code == 2
    assert "seed: 0 -> 7" in ended.err.splitlines()[-1]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_samples_by_index_label_and_form(tmp_path: Path, digits_run: Path, unstir: Command) -> None:
    def sample(*words: object) -> np.ndarray:
        ended = unstir("sample", digits_run, "--steps", 3, *words, "--out", tmp_path / "x.npz")
        assert ended.code == 0, ended.err
        with np.load(tmp_path / "x.npz") as file:
            return file["arr_0"]

    all_of_them = sample("-n", 20)
    assert all_of_them.shape == (20, 8, 8, 1)
    picked = sample("--indices", "3,17,3")
    assert np.abs(picked.astype(int) - all_of_them[[3, 17, 3]]).max() <= 1
    assert np.abs(sample("-n", 20, "--batch", 3).astype(int) - all_of_them).max() <= 1
    seven = sample("-n", 4, "--label", "7")
    assert not np.array_equal(seven, all_of_them[:4])
    assert not np.array_equal(seven, sample("-n", 4, "--label", "7", "--guidance", 3))
    each = sample("-n", 12, "--label", "each")
    assert np.abs(each[[7]].astype(int) - sample("--indices", "7", "--label", "7")).max() <= 1
    folder = tmp_path / "folder"
    assert unstir("sample", digits_run, "--steps", 3, "--indices", "3,17", "--out", folder).code == 0
    assert sorted(p.name for p in folder.glob("*.png")) == ["000003.png", "000017.png"]
    assert np.abs(levels(folder / "000017.png").astype(int) - all_of_them[17, :, :, 0]).max() <= 1


def test_points_are_sampled_and_measured(tmp_path: Path, points_run: Path, unstir: Command) -> None:
    run = shutil.copytree(points_run, tmp_path / "run")
    places = []
    for words, named in (
        ((), "seed-0.npy"), (("--steps", 3), "seed-0-*.npy"), (("--steps", 4), "seed-0-*.npy"),
        (("--steps", 3, "--out", tmp_path / "x.npy"), "x.npy"),
    ):  # fmt: skip
        ended = unstir("sample", run, "-n", 7, *words, "--json")
        assert ended.code == 0, ended.err
        written = Path(json.loads(ended.out)["out"])
        assert written.match(named)
        places.append(written)
        assert f"in {written}" in ended.err
        assert np.load(written).shape == (7, 2)
    assert len(set(places)) == 4, "no sample takes the place of others that were asked for otherwise"
    ended = unstir("evaluate", points_run, "--images", 300, "--json")
    facts = json.loads(ended.out)
    assert facts["unit"] == "bits/item"
    entropy = 2 * np.log2(10 * np.sqrt(2 * np.pi * np.e))
    assert entropy - 2 * facts["half_width"] < facts["total"] < entropy + 3


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("{mine}.png", "samples of points cannot be written as .png: give x.npz or x.npy"),
        ("{mine}", "samples of points cannot be written as a folder: give x.npz or x.npy"),
        ("{mine}.csv", "samples of points cannot be written as .csv: give x.npz or x.npy"),
        ("{data}", "is among the data that this run was trained on"),
        ("{link}", "is among the data that this run was trained on"),
    ],
)
def test_samples_of_points_leave_the_users_files_alone(
    tmp_path: Path, points_run: Path, points_file: Path, unstir: Command, out: str, said: str
) -> None:
    mine = tmp_path / "mine.npy"
    mine.write_bytes(b"mine")
    (tmp_path / "link.npy").symlink_to(points_file)
    before = points_file.read_bytes()
    out = out.format(mine=mine.with_suffix(""), data=points_file, link=tmp_path / "link.npy")
    ended = unstir("sample", points_run, "-n", 2, "--steps", 1, "--out", out)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert said in ended.err
    assert mine.read_bytes() == b"mine"
    assert points_file.read_bytes() == before


def test_samples_never_fall_among_the_pictures_learned_from(tmp_path: Path, unstir: Command) -> None:
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.full((4, 4), 50 * i, np.uint8)).save(photos / f"{i:06d}.png")
    run = small.train(tmp_path / "run", str(photos), 8).path
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    for out in (photos, photos / "deep", photos / "new" / "er", photos / "grid.png", run / ".." / "photos"):
        ended = unstir("sample", run, "-n", 2, "--steps", 1, "--out", out)
        assert ended.code == 2, out
        said = f"{out} is among the data that this run was trained on, {photos}: choose another --out"
        assert ended.err == f"unstir: {said}\n"
    assert {path: path.read_bytes() for path in photos.rglob("*.png")} == before

    folder = tmp_path / "folder"
    for _ in range(2):  # into a folder that is not there, and into one that holds samples only
        assert unstir("sample", run, "-n", 2, "--steps", 1, "--out", folder).code == 0
        (folder / ".DS_Store").write_bytes(b"")  # what looking at a folder leaves in it
    (folder / "holiday.png").write_bytes(b"mine")
    ended = unstir("sample", run, "-n", 2, "--steps", 1, "--out", folder)
    assert ended.code == 2
    assert ended.err == f"unstir: {folder} holds other things than samples, such as holiday.png: choose another --out\n"


def test_inspect(tmp_path: Path, points_file: Path, unstir: Command) -> None:
    ended = unstir("inspect", "digits", "--out", tmp_path / "sheet.png", "--json")
    assert ended.code == 0
    facts = json.loads(ended.out)
    assert (facts["train"], facts["heldout"], len(facts["classes"])) == (1617, 180, 10)
    assert levels(tmp_path / "sheet.png").ndim == 2
    ended = unstir("inspect", "digits", "--out", tmp_path / "sheet.png")
    assert "1,617 to learn from, 180 held out" in ended.out
    plain(ended.err)
    ended = unstir("inspect", points_file, "--json")
    assert json.loads(ended.out)["sheet"] is None


@pytest.mark.parametrize(("said", "name"), [(".", "cats"), ("../cats/", "cats"), ("..", "pets")])
def test_a_contact_sheet_has_its_folders_name(
    tmp_path: Path, unstir: Command, monkeypatch: pytest.MonkeyPatch, said: str, name: str
) -> None:
    folder = tmp_path / "pets" / "cats"
    folder.mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "tom.png")
    monkeypatch.chdir(folder)
    ended = unstir("inspect", said)
    assert ended.code == 0, ended.err
    assert (folder / f"inspect-{name}.png").is_file()


def test_a_single_heldout_item_is_measured_without_an_interval(tmp_path: Path, settings: Path, unstir: Command) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8))
    assert unstir("train", tmp_path / "x.npy", "--out", tmp_path / "run", "--images", 8, "--config", settings).code == 0
    ended = unstir("evaluate", tmp_path / "run", "--terms", 3, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out, parse_constant=pytest.fail)["half_width"] is None
    assert unstir("report", tmp_path / "run").code == 0


def test_a_folder_of_odd_files_trains_and_says_what_it_did(tmp_path: Path, settings: Path, unstir: Command) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(14):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"good{i}.png")
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "cut.jpg")
    whole = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "words.png").write_text("this is no picture")
    Image.new("RGB", (1, 1), (200, 10, 10)).save(folder / "dot.png")
    Image.fromarray(rng.integers(0, 65536, (16, 16)).astype(np.uint16)).save(folder / "deep.png")
    ended = unstir("train", folder, "--out", tmp_path / "run", "--images", 16, "--config", settings)
    assert ended.code == 0, ended.err
    lines = ended.err.splitlines()
    for name, word in (("cut.jpg", "skipped"), ("words.png", "skipped"), ("dot.png", "1×1"), ("deep.png", "16")):
        assert any(name in line and word in line for line in lines), (name, ended.err)
    assert any("2 of 18 files skipped" in line for line in lines)
    assert (tmp_path / "run" / "log.txt").read_text().splitlines() == [
        line for line in lines if line in (tmp_path / "run" / "log.txt").read_text().splitlines()
    ]
    strict = unstir("train", folder, "--out", tmp_path / "strict", "--strict", "--config", settings)
    assert strict.code == 2
    assert len(strict.err.splitlines()) == 1
    assert "cut.jpg" in strict.err or "words.png" in strict.err
    assert not (tmp_path / "strict").exists()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder above one in which a run was trained on ``ring.csv``; commands run in neither."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    points = np.random.default_rng(0).normal(size=(60, 2))
    np.savetxt(tmp_path / "there" / "ring.csv", points, delimiter=",")
    monkeypatch.chdir(tmp_path / "there")
    toml = '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[hardware]\nprecision = "fp32"\n'
    small.train(tmp_path / "run", "ring.csv", 64, toml)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_run_asks_for_its_data_when_used_from_another_folder(elsewhere: Path, unstir: Command) -> None:
    for command in ("evaluate", "report"):
        ended = unstir(command, "../run", "--images", 4)
        assert ended.code == 2
        assert ended.err.startswith(
            "unstir: ring.csv: no such file or folder; the run was trained on it as seen from another"
        )
        assert ended.err.endswith("give --data PATH\n")
        assert len(ended.err.splitlines()) == 1
        ended = unstir(command, "../run", "--images", 4, "--data", "../there/ring.csv")
        assert ended.code == 0, ended.err


def test_a_report_is_about_the_runs_own_data(elsewhere: Path, unstir: Command) -> None:
    np.savetxt("other.csv", np.random.default_rng(1).normal(size=(60, 2)), delimiter=",")
    ended = unstir("report", "../run", "--images", 4, "--data", "other.csv")
    assert ended.code == 2
    assert "other.csv is not what this model was trained with" in ended.err
    assert not (elsewhere / "run" / "report.html").exists()


def test_demo_is_train_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unstir: Command) -> None:
    from unstir.cli import report as report_command
    from unstir.cli import train as train_command

    called: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(train_command, "train_", lambda *args, **options: called.append((args, options)))
    monkeypatch.setattr(report_command, "report_", lambda *args, **options: called.append((args, options)))
    assert unstir("demo", "--out", tmp_path / "demo", "--minutes", 0.5).code == 0
    assert called[0][0] == ("digits",)
    assert called[0][1]["out"] == called[1][0][0] == tmp_path / "demo"
    assert called[0][1]["minutes"] == 0.5
