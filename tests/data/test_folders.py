from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import inspect, load
from unstir.errors import UserError


def picture(path: Path, seed: int = 0, shape: tuple[int, ...] = (8, 8, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Cats and dogs, among what computers leave in folders."""
    folder = tmp_path / "pets"
    for i in range(6):
        picture(folder / "cat" / f"{i}.png", seed=i)
        picture(folder / "dog" / "old" / f"{i}.png", seed=10 + i)
    picture(folder / "cat" / ".hidden.png", seed=90)
    picture(folder / ".thumbnails" / "a.png", seed=91)
    picture(folder / "__MACOSX" / "cat" / "._0.png", seed=92)
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.parametrize("as_zip", [False, True])
def test_subfolders_are_classes_and_hidden_files_are_ignored(pets: Path, as_zip: bool) -> None:
    dataset = load(zipped(pets) if as_zip else pets)
    assert dataset.spec.classes == ("cat", "dog")
    assert len(dataset.train) + len(dataset.heldout) == 12
    assert dataset.log == [("pets/" if as_zip else "") + "notes.txt: no picture's suffix, ignored"]
    for split in (dataset.train, dataset.heldout):
        for x, label in zip(split.x, split.labels):
            seeds = range(6) if label == 0 else range(10, 16)
            pictures = [np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8) for seed in seeds]
            assert any((x == each).all() for each in pictures)


def test_a_zip_and_its_folder_hold_the_same_data(pets: Path) -> None:
    assert load(zipped(pets)).spec.hash == load(pets).spec.hash


def test_one_folder_deeper_the_classes_are_the_same(pets: Path) -> None:
    (pets / "notes.txt").unlink()
    assert load(pets.parent).spec.classes == ("cat", "dog")


def test_pictures_beside_folders_have_no_classes(pets: Path) -> None:
    picture(pets / "loose.png", seed=50)
    dataset = load(pets)
    assert dataset.spec.classes == ()
    assert dataset.train.labels is None
    assert "no classes: 1 pictures lie beside the folders cat, dog" in dataset.log


def test_folders_of_splits_are_not_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "test" / "b.png")
    with pytest.raises(UserError, match="splits rather than classes"):
        load(tmp_path)


def test_dataset_json_takes_precedence_over_folders(tmp_path: Path) -> None:
    names = [f"0000{i % 2}/{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        picture(tmp_path / name, seed=i)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [[name, i % 3] for i, name in enumerate(names)]}))
    found = inspect(tmp_path)
    assert found.classes == {"0": 2, "1": 2, "2": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": None}))
    assert load(tmp_path).spec.classes == ()
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [[names[0], 1]]}))
    assert (
        "no classes: dataset.json has no label for 00000/2.png, 00000/4.png, 00001/1.png and 2 more"
        in load(tmp_path).log
    )
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset\.json: expected"):
        load(tmp_path)


def test_the_order_of_writing_does_not_matter(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / "a" / f"{i}.png", seed=i)
        picture(tmp_path / "b" / f"{11 - i}.png", seed=11 - i)
    assert load(tmp_path / "a").spec.hash == load(tmp_path / "b").spec.hash


def test_grey_pictures_are_stored_as_grey_and_the_mode_can_be_chosen(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", seed=i, shape=(8, 8))
    Image.new("RGB", (8, 8), (5, 5, 5)).save(tmp_path / "rgb.png")  # R = G = B is grey
    grey = load(tmp_path)
    assert grey.spec.shape == (1, 8, 8)
    assert "stored as grey levels" in grey.spec.rules
    colour = load(tmp_path, mode="RGB")
    assert colour.spec.shape == (3, 8, 8)
    np.testing.assert_array_equal(colour.train.x, colour.train.x[..., :1].repeat(3, -1))
    picture(tmp_path / "coloured.png", seed=9)
    assert load(tmp_path).spec.shape == (3, 8, 8)
    luma = load(tmp_path, mode="L")
    assert luma.spec.shape == (1, 8, 8)
    expected = np.asarray(Image.open(tmp_path / "coloured.png").convert("L"))
    assert any((x[..., 0] == expected).all() for split in (luma.train, luma.heldout) for x in split.x)


def test_equal_sizes_are_kept_even_when_not_square(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i, shape=(6, 10, 3))
    dataset = load(tmp_path)
    assert dataset.spec.shape == (3, 6, 10)
    assert dataset.spec.rules == "Kept at 10×6, stored as RGB, never flipped."
    assert load(tmp_path, size=5).spec.shape == (3, 5, 5)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [([(100, 40), (40, 90), (33, 50)], 32), ([(5, 9), (6, 6)], 8), ([(500, 400), (300, 900)], 64)],
)
def test_mixed_sizes_follow_the_stated_rule(tmp_path: Path, sides: list[tuple[int, int]], expected: int) -> None:
    for i, (width, height) in enumerate(sides):
        picture(tmp_path / f"{i}.png", seed=i, shape=(height, width, 3))
    dataset = load(tmp_path)
    assert dataset.spec.shape == (3, expected, expected)
    assert f"The largest centred square resized to {expected}×{expected} (bicubic, antialiased" in dataset.spec.rules


def test_small_pictures_are_enlarged_and_said_so(tmp_path: Path) -> None:
    picture(tmp_path / "small.png", shape=(4, 4, 3))
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    dataset = load(tmp_path, size=16)
    assert "small.png: smaller than 16×16, enlarged" in dataset.log
    assert "dot.png: 1×1, enlarged to 16×16 of one colour" in dataset.log


def test_no_picture_is_ever_flipped(tmp_path: Path) -> None:
    """Every batch item is dark on the left."""
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    for i in range(20):
        Image.fromarray(ramp // 2 + i).save(tmp_path / f"{i}.png")
    train = load(tmp_path, size=8).train
    for _ in range(5):
        x, _ = train.batch(np.arange(len(train)))
        assert (x[..., 0] < x[..., -1]).all()


def test_the_background_shows(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    for background in ((255, 255, 255), (0, 0, 0), (1, 2, 3)):
        dataset = load(tmp_path, background=background, mode="RGB")
        assert (dataset.train.x == background).all()
        words = "white" if background == (255, 255, 255) else f"RGB {background}"
        assert f"ransparency laid over {words}" in dataset.spec.rules


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 0}, "size is 0"), ({"mode": "CMYK"}, "mode is 'CMYK'"), ({"background": (0, 0, 256)}, "background is")],
)
def test_options_are_checked(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, **options)


def test_what_is_not_data_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello")
    (tmp_path / "a.xyz").write_text("1,2\n")
    (tmp_path / "bad.zip").write_text("hello")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    picture(tmp_path / "one.png")
    for name, message in [
        ("missing", "no such file"),
        ("empty", "no pictures in it"),
        ("text", "no pictures in it"),
        ("empty.zip", "no pictures in it"),
        ("bad.zip", "cannot be read as a zip"),
        ("a.xyz", "not data that can be read"),
        ("one.png", "one picture; give the folder"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_damaged_zip_member_is_named_and_skipped(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "in" / f"{i}.png", seed=i)
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(3):
            archive.write(tmp_path / "in" / f"{i}.png", f"{i}.png")
    data = bytearray(path.read_bytes())
    data[100] ^= 0xFF
    path.write_bytes(bytes(data))
    found = inspect(path)
    assert [name for name, _ in found.survey.broken] == ["0.png"]
    assert "cannot be read" in found.survey.broken[0][1]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named_and_skipped(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", seed=1)
    (tmp_path / "b.png").chmod(0)
    assert "b.png: cannot be read (Permission denied), skipped" in load(tmp_path).log


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
def test_names_that_are_not_utf8_or_not_one_line_are_shown_so(tmp_path: Path) -> None:
    for name in (b"\xff.png", b"two\nlines.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"hello")
    picture(tmp_path / "good.png")
    found = inspect(tmp_path)
    assert [name for name, _ in found.survey.broken] == [
        "two\N{REPLACEMENT CHARACTER}lines.png",
        "\N{REPLACEMENT CHARACTER}.png",
    ]
    json.dumps(found.to_json()).encode()


def test_progress_counts_every_file(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / f"{i}.png", seed=i)
    calls: list[tuple[int, int]] = []
    load(tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 5) for i in range(1, 6)]


def test_large_pictures_of_one_size_are_learned_small_unless_asked(tmp_path: Path) -> None:
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (160, 200, 3), np.uint8)).save(tmp_path / f"{i}.png")
    assert load(tmp_path).spec.shape == (3, 64, 64)
    assert "resized to 64×64" in load(tmp_path).spec.rules
    assert load(tmp_path, size=160).spec.shape == (3, 160, 160)
