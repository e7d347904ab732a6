from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unstir.data import inspect, load
from unstir.data.split import content_split, duplicates


@given(st.lists(st.integers(0, 200), min_size=2, max_size=120))
@settings(max_examples=150, deadline=None)
def test_both_sides_are_filled_and_disjoint_and_equal_rows_stay_together(values: list[int]) -> None:
    hashes = [bytes([value]) for value in values]
    train, heldout = content_split(hashes)
    assert sorted([*train, *heldout]) == list(range(len(values)))
    assert 1 <= len(heldout) <= max(1, round(len(values) / 10))
    assert len(train) >= 1
    shared = {hashes[i] for i in train} & {hashes[i] for i in heldout}
    wanted = max(1, round(len(values) / 10))
    if any(len([h for h in hashes if h == key]) <= wanted for key in set(hashes)):
        assert not shared


@given(st.permutations(range(40)))
@settings(max_examples=30, deadline=None)
def test_neither_order_nor_seed_matters(order: list[int]) -> None:
    hashes = [bytes([value]) for value in order]
    assert {hashes[i] for i in content_split(hashes)[1]} == {bytes([value]) for value in range(4)}


@pytest.mark.parametrize(("number", "heldout"), [(2, 1), (14, 1), (100, 10), (50_000, 5000), (60_000, 5000)])
def test_a_tenth_is_held_out_at_least_1_at_most_5000(number: int, heldout: int) -> None:
    hashes = [i.to_bytes(4, "big") for i in range(number)]
    train, held = content_split(hashes)
    assert (len(train), len(held)) == (number - heldout, heldout)


def test_a_single_row_serves_on_both_sides(tmp_path: Path) -> None:
    assert [rows.tolist() for rows in content_split([b"a"])] == [[0], [0]]
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.heldout)) == (1, 1)
    assert "a single picture: it is learned from and measured on" in dataset.log


def test_duplicates_are_groups_of_equal_rows() -> None:
    assert duplicates([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]


def test_inspection_counts_what_is_there(tmp_path: Path) -> None:
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for name in (f"a/{i}.png", f"b/{i}.png") if i < 2 else (f"a/{i}.png",):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name)
    Image.new("L", (20, 10)).save(tmp_path / "b" / "grey.png")
    (tmp_path / "a" / "bad.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    found = inspect(tmp_path, size=8)
    report = json.loads(json.dumps(found.to_json()))
    assert report["found"] == 10
    assert report["train"] + report["heldout"] == 9
    assert report["sizes"] == {"8x8": 8, "20x10": 1}
    assert report["modes"] == {"RGB": 8, "L": 1}
    assert report["broken"] == [["a/bad.png", "not a picture that can be read"]]
    assert report["duplicates"] == [["a/0.png", "b/0.png"], ["a/1.png", "b/1.png"]]
    assert report["classes"] == {"a": 6, "b": 3}
    assert report["data"]["rules"] == found.dataset.spec.rules
    assert "equal to another picture once prepared: 2, e.g. a/0.png, b/0.png; all are kept" in report["log"]
    assert found.sheet().mode == "RGB"


def test_classes_with_one_picture_or_none_are_named(tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8), int(name[2])).save(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "bad.png").write_text("hello")
    log = load(tmp_path).log
    assert "1 of 3 classes have a single picture: b" in log
    assert "1 of 3 classes have no picture: c" in log
