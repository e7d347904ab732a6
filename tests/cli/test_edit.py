"""``unstir edit`` and ``unstir film``: pictures fitted, masks read, sheets written; and one line for what makes no sense."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from tests.cli.test_bad_input import snapshot

Command = Callable[..., Any]
CELL = 8 * 8 + 2  # pixels of a sheet: the digits' 8×8 enlarged eightfold, and the gap


def cells(path: Path) -> np.ndarray:
    """The pictures of a sheet, (rows, columns, 8, 8)."""
    with Image.open(path) as image:
        sheet = np.asarray(image)
    rows, columns = ((side - 2) // CELL for side in sheet.shape[:2])
    return np.array(
        [
            [sheet[2 + r * CELL : (r + 1) * CELL : 8, 2 + c * CELL : (c + 1) * CELL : 8] for c in range(columns)]
            for r in range(rows)
        ]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of the wrong size and mode, and masks."""
    folder = tmp_path_factory.mktemp("edits")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(4):
        Image.fromarray(rng.integers(60, 190, (20, 24, 3), np.uint8)).save(folder / "photos" / f"{i}.png")
    Image.fromarray(rng.integers(60, 190, (8, 8), np.uint8)).save(folder / "own.png")
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 8, 16))
    clear.save(folder / "clear.png")  # the left half opaque and black: known
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "two").mkdir()
    for i in range(2):
        Image.fromarray(mask).save(folder / "two" / f"{i}.png")
    Image.new("L", (8, 8)).save(folder / "nothing.png")
    (folder / "text.png").write_text("no picture")
    np.save(folder / "mask.npy", np.array([True, False]))
    np.save(folder / "some.npy", np.random.default_rng(1).normal(50, 10, (3, 2)).astype(np.float32))
    return folder


def test_a_mask_hides_what_is_white(unstir: Command, digits_run: Path, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    ended = unstir(
        "edit", "inpaint", digits_run, place / "own.png", "--mask", place / "mask.png", "--steps", 3, "-n", 2, "--out", out,
        "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert (said["unknown"], said["items"], said["n"]) == (0.5, ["own.png"], 2)
    whole, hidden, *drawn = cells(out)[0]
    with Image.open(place / "own.png") as image:
        own = np.asarray(image)
    assert np.array_equal(whole, own)
    assert (hidden[:, 4:] == 128).all()
    for one in (hidden, *drawn):
        assert np.array_equal(one[:, :4], own[:, :4])
    assert len(drawn) == 2
    assert not np.array_equal(drawn[0], drawn[1])
    # the second draw is the next seed's first
    unstir("edit", "inpaint", digits_run, place / "own.png", "--mask", "right", "--steps", 3, "--seed", 1, "--out", out)
    assert np.array_equal(cells(out)[0][2], drawn[1])
    # what is transparent is unknown, and a mask of 16×16 is fitted to 8×8
    unstir("edit", "inpaint", digits_run, place / "own.png", "--mask", place / "clear.png", "--steps", 3, "--out", out)
    assert np.array_equal(cells(out)[0][1], hidden)


def test_pictures_are_fitted_by_the_runs_own_rules(
    unstir: Command, digits_run: Path, place: Path, tmp_path: Path
) -> None:
    """What training would have made of the same folder."""
    from unstir import data

    out = tmp_path / "sheet.png"
    ended = unstir("edit", "vary", digits_run, place / "photos", "--strength", "0.2,0.6", "--steps", 2, "--out", out)
    assert ended.code == 0, ended.err
    assert "resized to 8×8" in ended.err
    prepared = data.load(place / "photos", size=8, mode="L")
    expected = {prepared.train.names[i]: prepared.train.x[i] for i in range(len(prepared.train))}
    expected |= {prepared.heldout.names[i]: prepared.heldout.x[i] for i in range(len(prepared.heldout))}
    sheet = cells(out)
    assert sheet.shape[:2] == (4, 3)
    for row, name in enumerate(sorted(expected)):
        assert np.array_equal(sheet[row, 0], expected[name][..., 0])


LINES = {
    "denoise": "denoise {run} {own} --steps 3",
    "denoise a trial": "denoise {run} --heldout 0-2 --noise 30 --simulate --steps 3",
    "interpolate": "interpolate {run} --heldout 0,1,2,3 --places 3 --steps 2",
    "interpolate at a time": "interpolate {run} {photos} --places 3 --strength 0.5 --steps 2",
    "invert": "invert {run} {own} --steps 3",
    "super-resolve": "super-resolve {run} {own} --factor 2 --steps 2 -n 2",
    "super-resolve a trial": "super-resolve {run} --heldout 5 --factor 4 --steps 2",
    "restore": "restore {run} {own} --blur 1 --steps 2",
    "mix": "mix {run} 3 8 --places 4 --steps 2 -n 2 --guidance 2",
}
SHEETS = {
    "denoise": (1, 2), "denoise a trial": (3, 3), "interpolate": (2, 5), "interpolate at a time": (2, 5), "invert": (1, 3),
    "super-resolve": (1, 3), "super-resolve a trial": (1, 3), "restore": (1, 2), "mix": (2, 4),
}  # fmt: skip
"""Rows and columns: what was given, what was made of it as a trial, what was drawn."""


@pytest.mark.parametrize("case", LINES)
def test_each_edit_writes_its_sheet(case: str, unstir: Command, digits_run: Path, place: Path, tmp_path: Path) -> None:
    names = {"run": digits_run, "own": place / "own.png", "photos": place / "photos"}
    out = tmp_path / "sheet.png"
    ended = unstir("edit", *(word.format(**names) for word in LINES[case].split()), "--out", out, "--json")
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["out"] == str(out)
    assert said["edit"] == LINES[case].split()[0]
    assert cells(out).shape[:2] == SHEETS[case]
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_folders_and_arrays_hold_what_was_drawn(
    unstir: Command, digits_run: Path, points_run: Path, place: Path, tmp_path: Path
) -> None:
    vary = ("edit", "vary", digits_run, place / "photos", "--steps", 2, "-n", 2, "--out")
    assert unstir(*vary, tmp_path / "many").code == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 8
    assert unstir(*vary, tmp_path / "many.npy").code == 0
    assert np.load(tmp_path / "many.npy").shape == (8, 8, 8, 1)
    assert unstir("edit", "invert", digits_run, place / "own.png", "--steps", 2, "--out", tmp_path / "z.npy").code == 0
    assert np.load(tmp_path / "z.npy").shape == (1, 1, 8, 8)
    ended = unstir(
        "edit", "inpaint", points_run, place / "some.npy", "--mask", place / "mask.npy", "--steps", 3, "--out",
        tmp_path / "p.npy",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert np.array_equal(np.load(tmp_path / "p.npy")[:, 1], np.load(place / "some.npy")[:, 1])


def test_a_film_is_a_strip_or_moves(unstir: Command, digits_run: Path, place: Path, tmp_path: Path) -> None:
    """x_t above, what it is taken for beneath; the last of both is the sample."""
    strip, drawn = tmp_path / "film.png", tmp_path / "drawn.png"
    assert (
        unstir("film", digits_run, "-n", 2, "--frames", 4, "--steps", 6, "--sampler", "heun", "--out", strip).code == 0
    )
    unstir("sample", digits_run, "-n", 2, "--steps", 6, "--sampler", "heun", "--out", drawn)
    sheet, samples = cells(strip), cells(drawn).reshape(-1, 8, 8)
    assert sheet.shape[:2] == (4, 4)
    for i in range(2):
        assert np.array_equal(sheet[2 * i, -1], samples[i])
        assert np.array_equal(sheet[2 * i + 1, -1], samples[i])
    for name in ("film.gif", "film.webp"):
        assert unstir("film", digits_run, "-n", 3, "--steps", 6, "--frames", 5, "--out", tmp_path / name).code == 0
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 5
            assert image.size == (3 * CELL + 2, 2 * CELL + 2)
    ended = unstir("film", digits_run, place / "own.png", "--forward", "--frames", 5, "--out", strip, "--json")
    assert json.loads(ended.out)["times"] == [0.0, 12.5, 25.0, 37.5, 50.0]
    sheet = cells(strip)
    with Image.open(place / "own.png") as image:
        assert np.array_equal(sheet[0, 0], np.asarray(image))
        assert np.array_equal(sheet[1, 0], np.asarray(image))
    assert unstir("film", digits_run, "--forward", "--frames", 3, "--out", strip).code == 0
    assert cells(strip).shape[:2] == (8, 3)


BAD = {
    "nothing": "edit vary {run}",
    "no such picture": "edit vary {run} {none}.png",
    "no picture": "edit vary {run} {text}",
    "an empty folder": "edit vary {run} {empty}",
    "both": "edit vary {run} {own} --heldout 3",
    "no such item": "edit vary {run} --heldout 99999",
    "items in words": "edit vary {run} --heldout three",
    "no run": "edit vary {none} {own}",
    "no mask": "edit inpaint {run} {own}",
    "no such mask": "edit inpaint {run} {own} --mask {none}.png",
    "a mask that is text": "edit inpaint {run} {own} --mask {text}",
    "a mask that hides nothing": "edit inpaint {run} {own} --mask {nothing}",
    "too few masks": "edit inpaint {run} {photos} --mask {two}",
    "a mask of points for pictures": "edit inpaint {run} {own} --mask {mask}",
    "an unknown way": "edit inpaint {run} {own} --mask right --method best",
    "no jump": "edit inpaint {run} {own} --mask right --jump 0",
    "strength in words": "edit vary {run} {own} --strength much",
    "no strength": "edit vary {run} {own} --strength 0",
    "no draws": "edit vary {run} {own} -n 0",
    "no steps": "edit vary {run} {own} --steps 0",
    "a bad seed": "edit vary {run} {own} --seed -1",
    "a bad label": "edit vary {run} {own} --label eleven",
    "an unknown sampler": "edit vary {run} {own} --sampler hopping",
    "a strange form": "edit vary {run} {own} --out {new}.jpg",
    "over the picture": "edit vary {run} {own} --out {own}",
    "among the pictures": "edit vary {run} {photos} --out {photos}/new.png",
    "noise that is to be guessed and added": "edit denoise {run} {own} --simulate",
    "negative noise": "edit denoise {run} {own} --noise -3",
    "three ends": "edit interpolate {run} --heldout 0,1,2",
    "a way of one": "edit interpolate {run} --heldout 0,1 --places 1",
    "chance in an inversion": "edit invert {run} {own} --sampler ancestral",
    "two inversions": "edit invert {run} {own} -n 2",
    "an inversion in a folder": "edit invert {run} {own} --out {new}",
    "a strange factor": "edit super-resolve {run} {own} --factor 3",
    "no factor": "edit super-resolve {run} {own} --factor 0",
    "nothing to restore": "edit restore {run} {own}",
    "two to restore": "edit restore {run} {own} --blur 1 --grey",
    "no blur": "edit restore {run} {own} --blur 0",
    "no colours": "edit restore {run} {own} --grey",
    "no such class": "edit mix {run} 3 12",
    "classes of points": "edit mix {points_run} 3 4",
    "a label besides": "edit mix {run} 3 4 --label 5",
    "pictures for points": "edit vary {points_run} {own}",
    "points for pictures": "edit vary {run} {some}",
    "points made larger": "edit super-resolve {points_run} {some}",
    "points restored": "edit restore {points_run} {some} --blur 1",
    "a top of points": "edit inpaint {points_run} {some} --mask top",
    "how noisy points are": "edit denoise {points_run} {some}",
    "a sheet of points": "edit vary {points_run} {some} --out {new}.png",
    "an unknown edit": "edit polish {run} {own}",
    "a film of points": "film {points_run}",
    "a film as a folder": "film {run} --out {new}",
    "a film of one frame": "film {run} --frames 1",
    "pictures that go nowhere": "film {run} {own}",
    "a film of nothing": "film {run} -n 0",
    "a film of no run": "film {none}",
    "a film over a picture": "film {run} {own} --forward --out {own}",
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_and_nothing_written(
    case: str, unstir: Command, digits_run: Path, points_run: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    names = {
        "run": digits_run, "points_run": points_run, "none": place / "none", "new": place / "new", "own": place / "own.png",
        "photos": place / "photos", "text": place / "text.png", "empty": place / "empty", "two": place / "two",
        "nothing": place / "nothing.png", "mask": place / "mask.npy", "some": place / "some.npy",
    }  # fmt: skip
    watched = (place, digits_run, points_run)
    before = snapshot(*watched)
    ended = unstir(*(word.format(**names) for word in BAD[case].split()))
    assert ended.code == 2, ended
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1, ended.err
    assert ended.err.startswith("unstir: ")
    assert len(ended.err) > len("unstir: ") + 10
    assert snapshot(*watched) == before


def test_an_interrupt_leaves_nothing(
    unstir: Command, digits_run: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unstir.runs.edits import Edits

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Edits, "vary", stopped)
    ended = unstir("edit", "vary", digits_run, place / "own.png", "--out", tmp_path / "x.png")
    assert ended.code == 130
    assert "nothing was written" in ended.err
    assert not list(tmp_path.iterdir())


def test_colours_behind_grey(unstir: Command, place: Path, tmp_path: Path) -> None:
    """Of a coloured run: what is drawn has the grey that was given, to the rounding of its levels."""
    run = small.train(
        tmp_path / "run", str(place / "photos"), 16, data={"source": str(place / "photos"), "size": 8}
    ).path
    out = tmp_path / "out.npy"
    ended = unstir("edit", "restore", run, place / "photos", "--grey", "--steps", 2, "--out", out)
    assert ended.code == 0, ended.err
    assert np.load(out).shape == (4, 8, 8, 3)
