"""Every kind of data: what rows mean, and the way inside and back."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstir.data import Dataset, DataSpec, Split, inspect, load, to_float
from unstir.data.codec import Codec, Scaling
from unstir.errors import UserError

RNG = np.random.default_rng(0)


def saved(folder: Path, x: np.ndarray, labels: np.ndarray | None = None) -> Path:
    path = folder / ("a.npy" if labels is None else "a.npz")
    np.save(path, x) if labels is None else np.savez(path, x, labels)
    return path


def everything(dataset: Dataset) -> np.ndarray:
    return np.concatenate([dataset.train.x, dataset.heldout.x])


def same_rows(a: np.ndarray, b: np.ndarray) -> bool:
    return sorted(row.tobytes() for row in a) == sorted(row.tobytes() for row in b)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.int8])
def test_rows_of_0_and_1_are_bits(tmp_path: Path, dtype: type) -> None:
    x = RNG.integers(0, 2, (40, 7)).astype(dtype)
    dataset = load(saved(tmp_path, x))
    spec = dataset.spec
    assert (spec.kind, spec.shape, spec.eight_bit, spec.scaling, spec.symbols) == ("bits", (7,), False, None, None)
    assert dataset.train.x.dtype == np.bool_
    assert same_rows(everything(dataset), x.astype(np.bool_))
    assert any("bits" in line for line in dataset.log) == (dtype is not np.bool_)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint16])
def test_rows_of_more_whole_numbers_are_symbols(tmp_path: Path, dtype: type) -> None:
    x = RNG.integers(0, 6, (40, 7)).astype(dtype)
    x[0, 0] = 5
    dataset = load(saved(tmp_path, x))
    assert (dataset.spec.kind, dataset.spec.shape, dataset.spec.symbols) == ("symbols", (7,), 6)
    assert dataset.train.x.dtype == np.uint8
    assert same_rows(everything(dataset), x.astype(np.uint8))
    assert DataSpec.from_json(json.loads(json.dumps(dataset.spec.to_json()))) == dataset.spec


def test_symbols_may_be_bytes_but_flattened_pictures_are_pointed_out(tmp_path: Path) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(32, 8)
    dataset = load(saved(tmp_path, x))
    assert dataset.spec.symbols == 256
    assert "so many symbols look like levels: save flattened pictures as (N, H, W)" in dataset.log


@pytest.mark.parametrize("top", [1, 3])
def test_labels_of_bits_and_symbols_are_as_for_points(tmp_path: Path, top: int) -> None:
    x = np.array([[i // 16 % 4 % (top + 1), i // 4 % 4 % (top + 1), i % 4 % (top + 1)] for i in range(64)])
    dataset = load(saved(tmp_path, x, np.array(["odd" if row.sum() % 2 else "even" for row in x])))
    assert dataset.spec.classes == ("even", "odd")
    for split in (dataset.train, dataset.heldout):
        np.testing.assert_array_equal(split.labels, split.x.sum(1) % 2)
        assert split.batch(np.array([0]))[1].dtype == torch.int64
    assert sum(inspect(tmp_path / "a.npz").classes.values()) == 64


def test_an_npz_without_arr_0_finds_its_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", sequences=RNG.integers(0, 4, (20, 5)), label=np.arange(20) % 2)
    dataset = load(tmp_path / "a.npz")
    assert (dataset.spec.kind, dataset.spec.classes) == ("symbols", ("0", "1"))
    assert "data taken from the array 'sequences': there is no arr_0" in dataset.log


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60), st.randoms())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_tenth_of_the_bits_is_held_out_whatever_their_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[bool, bool]], random: Random
) -> None:
    """However few different rows there are: each is a draw."""
    folder = tmp_path_factory.mktemp("bits")
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (load(saved(folder, np.array(x))) for x in (rows, shuffled))
    assert len(first.heldout) == max(1, round(len(rows) / 10))
    assert same_rows(first.heldout.x, second.heldout.x)
    assert same_rows(everything(first), np.array(rows))


def test_repeated_rows_are_counted_not_listed(tmp_path: Path) -> None:
    found = inspect(saved(tmp_path, np.arange(100)[:, None] % 5 == np.arange(10) % 5))
    assert found.survey.duplicates == []
    assert "5 different rows among 100: equal ones may be held out and learned from" in found.dataset.log


def test_inspection_counts_bits_and_symbols(tmp_path: Path) -> None:
    x = RNG.random((50, 8)) < 0.2
    found = inspect(saved(tmp_path, x))
    assert found.activity == pytest.approx(x.mean())
    assert found.dataset.spec.rules == f"Bits as they are, {100 * x.mean():.1f}% of them 1."
    report = json.loads(json.dumps(found.to_json()))
    assert (report["activity"], report["found"], report["data"]["kind"]) == (found.activity, 50, "bits")
    assert "alphabet" not in report
    with pytest.raises(UserError, match="holds bits, of which no contact sheet"):
        found.sheet()
    found = inspect(saved(tmp_path, np.array([[0, 1, 4], [4, 4, 1]] * 5)))
    assert found.alphabet == {"0": 5, "1": 10, "2": 0, "3": 0, "4": 15}
    report = json.loads(json.dumps(found.to_json()))
    assert report["alphabet"] == found.alphabet
    assert "activity" not in report


CODECS = {
    "levels": (Codec(), lambda rng: rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8), torch.float32, (4, 3, 5, 6)),
    "real": (
        Codec("image", Scaling((1.0, -2.0, 4.0), 3.0)),
        lambda rng: rng.normal(5, 9, (4, 5, 6, 3)).astype(np.float32),
        torch.float32,
        (4, 3, 5, 6),
    ),
    "points": (
        Codec("points", Scaling((50.0, -1.0), 10.0)),
        lambda rng: rng.normal(50, 10, (4, 2)).astype(np.float32),
        torch.float32,
        (4, 2),
    ),
    "unscaled": (Codec("points"), lambda rng: rng.normal(size=(4, 2)).astype(np.float32), torch.float32, (4, 2)),
    "bits": (Codec("bits"), lambda rng: rng.random((4, 7)) < 0.5, torch.float32, (4, 7)),
    "symbols": (Codec("symbols", symbols=9), lambda rng: rng.integers(0, 9, (4, 7), np.uint8), torch.int64, (4, 7)),
}


@pytest.mark.parametrize("name", CODECS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_outside_undoes_inside(name: str, seed: int) -> None:
    codec, make, dtype, shape = CODECS[name]
    x = make(np.random.default_rng(seed))
    x.flags.writeable = False  # as a memory map is
    z = codec.inside(x)
    assert (z.dtype, tuple(z.shape), z.is_contiguous()) == (dtype, shape, True)
    back = codec.outside(z)
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    np.testing.assert_allclose(back, x, rtol=1e-6, atol=1e-5)
    if x.dtype != np.float32:
        np.testing.assert_array_equal(back, x)
    batch, labels = Split(x, None, codec).batch(np.array([2, 0]))
    np.testing.assert_array_equal(batch, z[[2, 0]])
    assert labels is None


def test_a_split_is_of_levels_unless_said_otherwise() -> None:
    x = RNG.integers(0, 256, (3, 2, 2, 1), dtype=np.uint8)
    np.testing.assert_array_equal(Split(x, None).batch(np.array([1]))[0], to_float(x[1:2]))


def test_real_pictures_are_scaled_channel_by_channel() -> None:
    codec = Codec("image", Scaling((1.0, -2.0), 4.0))
    x = np.zeros((1, 2, 3, 2), np.float32)
    x[0, 1, 2] = [5.0, 6.0]
    z = codec.inside(x)
    np.testing.assert_allclose(z[0, :, 1, 2], [1.0, 2.0])
    np.testing.assert_allclose(z[0, :, 0, 0], [-0.25, 0.5])
    levels = codec.levels(x)
    assert (levels.dtype, levels.shape) == (np.uint8, x.shape)
    assert levels[0, 1, 2].tolist() == [191, 255]


def test_bits_and_symbols_come_out_of_any_sampler() -> None:
    assert Codec("bits").outside(torch.tensor([[0.0, 1.0, 0.4, 0.6]])).tolist() == [[False, True, False, True]]
    grad = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    assert Codec("bits").outside(grad).tolist() == [[True, True]]
    bytes_ = Codec("symbols", symbols=256)
    assert bytes_.outside(torch.tensor([[0, 255]])).dtype == np.uint8
    masked = bytes_.outside(torch.tensor([[0, 256]]))  # a film shows the mask, too
    assert (masked.dtype, masked.tolist()) == (np.uint16, [[0, 256]])
    assert Codec("symbols", symbols=3).outside(torch.zeros(0, 4, dtype=torch.long)).shape == (0, 4)


@pytest.mark.parametrize(
    ("codec", "x", "message"),
    [
        (Codec("bits"), np.array([[0, 2]]), "bits are 0 or 1, not 2"),
        (Codec("bits"), np.array([[0, np.nan]]), "bits are 0 or 1, not nan"),
        (Codec("symbols", symbols=4), np.array([[0, 4]]), "whole numbers 0…3 here, not values from 0 to 4"),
        (Codec("symbols", symbols=4), np.array([[0, -1]]), "not values from -1 to 0"),
        (Codec("symbols", symbols=4), np.array([[0.5]]), "not float64"),
    ],
)
def test_what_is_no_bit_or_symbol_stays_outside(codec: Codec, x: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        codec.inside(x)


def test_only_pictures_can_be_shown() -> None:
    x = RNG.integers(0, 256, (3, 2, 2, 1), dtype=np.uint8)
    assert Codec().levels(x) is x
    with pytest.raises(UserError, match="these are bits, of which no picture can be made"):
        Codec("bits").levels(np.zeros((2, 3), bool))


def test_descriptions_from_before_there_were_other_kinds_still_load() -> None:
    old = {
        "kind": "points",
        "shape": [2],
        "eight_bit": False,
        "classes": [],
        "source": "a.npy",
        "rules": "As they are.",
        "hash": "0",
        "scaling": {"offset": [1.0, 2.0], "scale": 3.0},
    }
    spec = DataSpec.from_json(old)
    assert (spec.symbols, spec.scaling) == (None, Scaling((1.0, 2.0), 3.0))
    picture = DataSpec.from_json({**old, "kind": "image", "shape": [1, 2, 2], "eight_bit": True, "scaling": None})
    assert picture.codec == Codec()
    del old["scaling"]
    assert DataSpec.from_json(old).scaling is None


def test_a_description_takes_data_in_and_out(tmp_path: Path) -> None:
    for x in (RNG.random((20, 3)) < 0.5, RNG.normal(7, 3, (20, 3)), RNG.integers(0, 4, (20, 3))):
        dataset = load(saved(tmp_path, x))
        rows = dataset.train.x[:5]
        inside = dataset.spec.inside(rows)
        np.testing.assert_array_equal(inside, dataset.train.batch(np.arange(5))[0])
        np.testing.assert_allclose(dataset.spec.outside(inside), rows, atol=1e-5)
