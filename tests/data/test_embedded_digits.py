from __future__ import annotations

from pathlib import Path

import numpy as np

import unstir.data
from unstir.data import load


def test_there_are_1797_digits_with_a_fixed_split() -> None:
    dataset = load("digits")
    assert dataset.spec.shape == (1, 8, 8)
    assert dataset.spec.classes == tuple("0123456789")
    assert (len(dataset.train), len(dataset.heldout)) == (1617, 180)
    assert np.bincount(dataset.heldout.labels).tolist() == [18] * 10
    # The published counts of the test set.
    both = np.concatenate([dataset.train.labels, dataset.heldout.labels])
    assert np.bincount(both).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_levels_are_the_stated_mapping_of_0_to_16() -> None:
    stated = {int(255 * k / 16 + 0.5) for k in range(17)}
    assert set(np.unique(load("digits").train.x)) == stated
    assert {0, 128, 255} <= stated


def test_no_digit_is_on_both_sides() -> None:
    dataset = load("digits")
    train, heldout = ({x.tobytes() for x in split.x} for split in (dataset.train, dataset.heldout))
    assert not train & heldout


def test_digits_leave_nothing_on_disk(cache_of_its_own: Path) -> None:
    load("digits")
    assert list(cache_of_its_own.iterdir()) == []


def test_a_size_can_be_asked_for() -> None:
    assert load("digits", size=16).spec.shape == (1, 16, 16)
    assert load("digits", size=16).spec.hash != load("digits").spec.hash == load("digits").spec.hash


def test_the_attribution_lies_beside_the_data() -> None:
    text = Path(unstir.data.__file__).with_name("digits.txt").read_text("utf-8")
    for words in ("CC BY 4.0", "Alpaydin", "Kaynak", "UCI", "10.24432/C50P49"):
        assert words in text
