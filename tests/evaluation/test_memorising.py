"""Memorising: copies are found and named, blurred samples and honest repetitions are left in peace."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from unstir.data import DataSpec, Split
from unstir.data.codec import Codec
from unstir.data.split import content_split, row_hashes
from unstir.errors import UserError
from unstir.evaluation.memorising import Memorising, measure
from unstir.sets import nearest, newness

SIDE, TRAINING, HELDOUT, SAMPLES = 6, 300, 200, 100
SPEC = DataSpec("image", (1, SIDE, SIDE), True, (), "made", "", "")
BITS = Codec("bits")


def pictures(n: int, seed: int, factors: int = 8) -> np.ndarray:
    """Levels of smooth pictures on a curved surface of few dimensions, as data are."""
    mixing = np.random.default_rng(99).normal(size=(2, factors, SIDE * SIDE))
    z = np.random.default_rng(seed).normal(size=(n, factors))
    x = z @ mixing[0] + np.sin(z) @ mixing[1]
    return np.clip(127.5 + 12 * x, 0, 255).round().astype(np.uint8).reshape(n, SIDE, SIDE, 1)


def features(x: np.ndarray, codec: Codec) -> Tensor:
    """Some numbers of each item alone."""
    seen = codec.inside(x).flatten(1).double()
    axes = np.random.default_rng(98).normal(size=(seen.shape[1], 12)) / seen.shape[1] ** 0.5
    return (seen @ torch.from_numpy(axes)).tanh()


def look(samples: np.ndarray, training: Split, heldout: Split, **kwargs: Callable[[int, int], None]) -> Memorising:
    codec = training.codec
    seen, own, held = (features(x, codec) for x in (samples, training.x, heldout.x))
    return measure(samples, seen, training, own, heldout, held, codec.inside, "some", **kwargs)


def split(seed: int = 0) -> tuple[Split, Split]:
    return Split(pictures(TRAINING, seed), None), Split(pictures(HELDOUT, seed + 500), None)


def smallest(found: Memorising) -> float:
    """The p of the verdict: Bonferroni's."""
    return 4 * min(min(s.by_ratio.tail_p, s.by_ratio.whole_p) for s in found.spaces.values())


def test_samples_as_new_as_held_out_ones_raise_no_more_alarms_than_allowed() -> None:
    """Every run its own training data; a verdict's p is below a with chance at most a."""
    runs = 60
    found = [smallest(look(pictures(SAMPLES, 1000 + i), *split(i))) for i in range(runs)]
    for level in (0.01, 0.1, 0.3):
        assert (np.array(found) <= level).sum() <= stats.binom.ppf(0.999, runs, level)


@pytest.mark.parametrize("noise", [0, 1])
def test_planted_copies_are_found_and_named(noise: int) -> None:
    training, heldout = split()
    samples, draws = pictures(SAMPLES, 7), np.random.default_rng(1)
    copied, places = np.array([11, 42, 299, 100, 5, 77, 250, 8]), np.arange(90, 98)
    shaken = training.x[copied] + noise * draws.integers(-2, 3, (8, SIDE, SIDE, 1))
    samples[places] = np.clip(shaken, 0, 255).astype(np.uint8)
    training.rows, training.files = np.arange(TRAINING)[::-1], [f"{i}.png" for i in range(TRAINING)]
    found = look(samples, training, heldout)
    assert found.verdict.startswith("copies: ")
    for space in found.spaces.values():
        assert space.alarm
        assert {s.sample for s in space.suspects[:8]} == set(places)
        named = {s.sample: s.nearest for s in space.suspects[:8]}
        assert named == {place: f"{TRAINING - 1 - row}.png" for place, row in zip(places, copied)}
        assert all(s.p == 1 / (HELDOUT + 1) for s in space.suspects[:8])
        assert (space.exact, space.heldout_exact) == (0 if noise else 8, 0)
    assert f"{TRAINING - 1 - copied[0]}.png" in found.table()


def test_blurred_samples_are_near_to_everything_and_copies_of_nothing() -> None:
    """Samples shrunk to the mean of the data: by distance alone they would be nearer than held-out ones."""
    training, heldout = split()
    mean = training.x.mean(0)
    samples = (mean + 0.4 * (pictures(SAMPLES, 7) - mean)).round().astype(np.uint8)
    found = look(samples, training, heldout)
    assert found.verdict == "no sign of copying"
    for space in found.spaces.values():
        assert space.by_distance.whole_p < 1e-6


def test_copies_among_blurred_samples_are_still_found() -> None:
    training, heldout = split()
    mean = training.x.mean(0)
    samples = (mean + 0.4 * (pictures(SAMPLES, 7) - mean)).round().astype(np.uint8)
    samples[:10] = training.x[:10]
    assert look(samples, training, heldout).verdict.startswith("copies: 10 of 100")


def test_neither_order_nor_blocks_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    training, heldout = split()
    samples = pictures(SAMPLES, 7)
    samples[:3] = training.x[:3]
    draws = np.random.default_rng(0)
    one = look(samples, training, heldout)
    order, mixed = draws.permutation(SAMPLES), draws.permutation(TRAINING)
    monkeypatch.setattr(nearest, "BLOCK", 5000)
    monkeypatch.setattr(nearest, "_QUERIES", 33)
    other = look(samples[order], Split(training.x[mixed], None), Split(heldout.x[::-1], None))
    for name, space in one.spaces.items():
        theirs = other.spaces[name]
        assert theirs.distance == pytest.approx(space.distance[order], rel=1e-9)
        assert theirs.ratio == pytest.approx(space.ratio[order], rel=1e-9)
        assert (mixed[theirs.nearest] == space.nearest[order]).all()
        assert theirs.by_ratio == pytest.approx(space.by_ratio)
        assert theirs.verdict == space.verdict


def test_the_ratio_is_its_definition_where_training_items_repeat_themselves() -> None:
    """Copies count once, so what the model copied most often still stands out."""
    training, heldout = split()
    repeated = Split(np.concatenate([training.x, training.x[:50].repeat(20, 0)]), None)
    samples = np.concatenate([pictures(SAMPLES, 7), training.x[:20]])
    samples[-20:, 0, 0, 0] ^= 1
    found = look(samples, repeated, heldout)
    x, y = (SPEC.inside(a).flatten(1).double() for a in (samples, training.x))
    far = torch.cdist(x, y).sort(1).values[:, :11].numpy()
    assert found.spaces["pixels"].distance == pytest.approx(far[:, 0], abs=1e-6)
    assert found.spaces["pixels"].ratio == pytest.approx(far[:, 0] / far[:, 1:].mean(1), abs=1e-6)
    assert {s.sample for s in found.spaces["pixels"].suspects} == set(range(100, 120))
    assert found.verdict.startswith("copies: ")


def test_what_stands_twice_in_the_training_data_is_named() -> None:
    training, heldout = split()
    training.x[30] = training.x[20]
    training.x[70] = training.x[50]
    training.x[200] = training.x[20]
    training.x[111] = training.x[110]
    training.x[111, 2, 2, 0] ^= 1
    found = look(pictures(SAMPLES, 7), training, heldout)
    assert found.duplicates.exact == (("#20", "#30", "#200"), ("#50", "#70"))
    assert found.duplicates.near is not None
    assert [pair[:2] for pair in found.duplicates.near] == [("#110", "#111")]
    for named in ("#20 = #30 = #200", "#50 = #70", "#110 ≈ #111"):
        assert named in found.table()


def test_honest_repetitions_of_few_bits_raise_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine bits have 512 states: most new draws equal a training item, but the split leaves no such item among those held out."""
    monkeypatch.setattr(newness, "_DRAWS", 199)
    monkeypatch.setattr(newness, "_AT_ONCE", 199)
    runs, found = 20, []
    for seed in range(runs):
        rows = np.random.default_rng(seed).random((1300, 9)) < 0.3
        kept, out = content_split(row_hashes(rows[:1200]))
        training, heldout = Split(rows[kept], None, BITS), Split(rows[out], None, BITS)
        one = look(rows[1200:], training, heldout)
        assert one.mixed
        assert one.spaces["places"].exact > 50
        found.append(smallest(one))
    assert (np.array(found) <= 0.1).sum() <= stats.binom.ppf(0.999, runs, 0.1)


def test_copies_of_long_bits_are_found_by_the_places_that_differ() -> None:
    rows = np.random.default_rng(0).random((700, 60)) < 0.3
    training, heldout = Split(rows[:400], None, BITS), Split(rows[400:600], None, BITS)
    samples = rows[600:].copy()
    assert look(samples, training, heldout).verdict == "no sign of copying"
    samples[:20] = training.x[:20]
    samples[:20, :2] ^= True
    found = look(samples, training, heldout)
    assert not found.mixed
    assert (found.spaces["places"].distance[:20] == 2).all()
    assert found.spaces["places"].verdict.startswith("copies: 20 of 100")


def test_symbols_are_as_far_apart_as_they_differ_in_places() -> None:
    draws, codec = np.random.default_rng(0), Codec("symbols", symbols=5)
    x = draws.integers(0, 5, (220, 12)).astype(np.uint8)
    found = look(x[200:], Split(x[:100], None, codec), Split(x[100:200], None, codec))
    expected = (x[200:, None] != x[None, :100]).sum(2)
    assert found.spaces["places"].distance == pytest.approx(expected.min(1))
    assert found.duplicates.near is None


def test_results_are_short_and_all_that_is_done_is_told() -> None:
    training, heldout = split()
    training.x[:120] = training.x[:1]
    samples, told = training.x[:90], []
    found = look(samples, training, heldout, progress=lambda done, whole: told.append((done, whole)))
    assert told[-1][0] == told[-1][1] == 2 * (90 + HELDOUT)
    assert told == sorted(told)

    def longest(values: object) -> int:
        children = values.values() if isinstance(values, dict) else values if isinstance(values, list) else ()
        own = len(values) if isinstance(values, list) else 0
        return max([own, *map(longest, children)])

    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert longest(written) <= 20
    assert written["duplicates"]["items"] == 120
    assert written["spaces"]["pixels"]["exact"] == 90
    assert written["verdict"] in found.table()


def test_the_sheet_shows_suspects_and_the_first_beside_their_nearest() -> None:
    """In the first row the copy of #17 beside #17, twice; then sample 0 beside its nearest in pixels and features."""
    training, heldout = split()
    samples = pictures(SAMPLES, 7)
    samples[50] = training.x[17]
    found = look(samples, training, heldout)
    sheet = np.asarray(found.sheet(samples, training, SPEC))
    scale = 64 // SIDE
    cell = SIDE * scale + 2
    assert sheet.shape == (8 * cell + 2, 6 * cell + 2)
    shown = [sheet[2:cell:scale, 2 + i * cell : (i + 1) * cell : scale] for i in range(6)]
    own, other = (found.spaces[name].nearest[0] for name in ("pixels", "some"))
    for picture, expected in zip(
        shown, [samples[50], training.x[17], training.x[17], samples[0], training.x[own], training.x[other]]
    ):
        assert (picture == expected[:, :, 0]).all()
    bits = Split(np.random.default_rng(0).random((90, 40)) < 0.5, None, BITS)
    with pytest.raises(UserError, match="no picture"):
        look(bits.x[:20], bits, bits).sheet(bits.x[:20], bits, DataSpec("bits", (40,), False, (), "", "", ""))


def test_what_cannot_be_asked_is_refused_in_one_line() -> None:
    training, heldout = split()
    same = Split(training.x[:1].repeat(30, 0), None)
    for samples, own, held in (
        (training.x[:0], training, heldout),
        (training.x, training, Split(heldout.x[:0], None)),
        (training.x, same, heldout),
    ):
        with pytest.raises(UserError, match="copies are told") as error:
            look(samples, own, held)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="rows of features"):
        measure(
            training.x, torch.ones(3, 2), training, torch.ones(300, 2), heldout, torch.ones(200, 2), SPEC.inside, "some"
        )


def test_samples_far_from_everything_are_said_to_be_and_others_not() -> None:
    """Noise is no copy of anything, which is no praise of it."""
    rng = np.random.default_rng(5)
    pale = rng.integers(120, 136, (400, 6, 6, 1), np.uint8)
    training, heldout = Split(pale[:300], None), Split(pale[300:], None)
    noise = rng.integers(0, 256, (60, 6, 6, 1), np.uint8)
    assert "too poor to be copies" in look(noise, training, heldout).table()
    assert "too poor to be copies" not in look(heldout.x[:60], training, heldout).table()
