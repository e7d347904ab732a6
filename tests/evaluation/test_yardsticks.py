"""Yardsticks: known entropies, and files that give the very pictures back."""

from __future__ import annotations

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from unstir.data import DataSpec, Split
from unstir.data.codec import Codec, Scaling
from unstir.errors import UserError
from unstir.evaluation import yardsticks
from unstir.evaluation.yardsticks import Yardstick, Yardsticks, encoded, measure


def described(kind: str, *shape: int, symbols: int | None = None, scaling: Scaling | None = None) -> DataSpec:
    return DataSpec(kind, shape, kind == "image" and scaling is None, (), "made", "", "", scaling, symbols)


def noise(n: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, channels)).astype(np.uint8)


def rows(found: Yardsticks) -> dict[str, Yardstick]:
    return {row.name: row for row in found.rows}


@pytest.mark.parametrize("channels", [1, 3])
def test_no_coder_gets_below_8_bits_of_levels_that_are_pure_chance(channels: int) -> None:
    x = noise(60, 16, channels)
    found = rows(measure(Split(x[:40], None), Split(x[40:], None), described("image", channels, 16, 16)))
    assert list(found) == ["PNG", "PNG sheet", "WebP", "WebP sheet", "Gaussian", "uniform"]
    assert all(row.value > 8 for name, row in found.items() if name != "uniform")
    assert found["PNG sheet"].value < 8.6  # of which the headers are little
    assert found["PNG sheet"].value < found["PNG"].value


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["PNG", "WebP"])
def test_files_give_the_very_pictures_back(name: str, channels: int) -> None:
    """Noise, and a picture of few levels, for which coders have other ways."""
    for picture in (noise(1, 13, channels)[0], noise(1, 13, channels)[0] // 100):
        seen = np.asarray(Image.open(io.BytesIO(encoded(picture, name))))
        seen = seen[:, :, None] if seen.ndim == 2 else seen[:, :, :channels]
        assert (seen == picture).all()


def test_a_file_is_no_longer_than_its_format_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(12, 8, 1)
    monkeypatch.setitem(yardsticks._TALLEST, "WebP", 40)
    found = rows(measure(Split(x, None), Split(x, None), described("image", 1, 8, 8)))
    assert found["WebP sheet"].phrase.endswith("in 3 files")
    size = sum(len(encoded(x[i : i + 5].reshape(-1, 8, 1), "WebP")) for i in (0, 5, 10))
    assert found["WebP sheet"].value == 8 * size / x.size


def test_a_pillow_without_webp_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: name != "webp")
    x = noise(20, 8, 1)
    found = measure(Split(x, None), Split(x, None), described("image", 1, 8, 8))
    assert list(rows(found)) == ["PNG", "PNG sheet", "Gaussian", "uniform"]
    assert "WebP" in found.notes[0]
    assert found.notes[0] in found.table()


def test_points_of_a_known_normal_law_cost_its_entropy_in_their_own_units() -> None:
    draws = np.random.default_rng(0)
    mixing = draws.normal(size=(4, 4)) * 7
    x = (draws.normal(size=(9000, 4)) @ mixing + 50).astype(np.float32)
    entropy = (4 * math.log2(2 * math.pi * math.e) + np.linalg.slogdet(mixing.T @ mixing)[1] / math.log(2)) / 2
    spec = described("points", 4, scaling=Scaling.of(x))
    found = measure(Split(x[:6000], None, spec.codec), Split(x[6000:], None, spec.codec), spec, images=3000)
    row = rows(found)["Gaussian"]
    assert (found.unit, found.items) == ("bits/item", 3000)
    assert row.half == pytest.approx(1.96 * math.sqrt(2) / math.log(2) / math.sqrt(3000), rel=0.1)  # of chi-squared/2
    assert row.value == pytest.approx(entropy, abs=1.5 * row.half)


def test_real_pictures_are_measured_as_points_are() -> None:
    x = np.random.default_rng(0).normal(5, 3, (500, 4, 4, 1)).astype(np.float32)
    scaling = Scaling((5.0,), 3.0)
    spec = described("image", 1, 4, 4, scaling=scaling)
    found = measure(Split(x[:400], None, spec.codec), Split(x[400:], None, spec.codec), spec)
    flat = described("points", 16, scaling=Scaling((5.0,) * 16, 3.0))
    same = measure(*(Split(part.reshape(-1, 16), None, flat.codec) for part in (x[:400], x[400:])), flat)
    assert found.unit == "bits/item"
    assert rows(found)["Gaussian"].value == pytest.approx(rows(same)["Gaussian"].value, rel=1e-6)


def test_pictures_of_normal_levels_cost_their_entropy_and_little_more() -> None:
    """Independent levels of standard deviation 20: log2(20 sqrt(2πe)) bits each, in bins that are narrow beside it."""
    x = np.random.default_rng(0).normal(128, 20, (3000, 4, 4, 1)).round().astype(np.uint8)
    row = rows(measure(Split(x[:2700], None), Split(x[2700:], None), described("image", 1, 4, 4), images=300))[
        "Gaussian"
    ]
    assert row.half is not None
    assert row.value == pytest.approx(math.log2(20 * math.sqrt(2 * math.pi * math.e)), abs=1.5 * row.half)


def test_independent_bits_and_symbols_cost_their_entropy() -> None:
    draws = np.random.default_rng(0)
    chance = np.array([0.1, 0.5, 0.9, 0.3, 0.0])
    bits = draws.random((12_000, 5)) < chance
    entropy = -sum(p * math.log2(p) for q in chance for p in (q, 1 - q) if p)
    spec = described("bits", 5)
    row = rows(measure(Split(bits[:8000], None, spec.codec), Split(bits[8000:], None, spec.codec), spec, images=4000))[
        "marginals"
    ]
    assert row.value == pytest.approx(entropy, abs=1.5 * row.half)
    symbols = draws.choice(4, (9000, 6), p=[0.5, 0.25, 0.125, 0.125]).astype(np.uint8)
    spec = described("symbols", 6, symbols=4)
    row = rows(
        measure(Split(symbols[:6000], None, spec.codec), Split(symbols[6000:], None, spec.codec), spec, images=3000)
    )["marginals"]
    assert row.value == pytest.approx(6 * 1.75, abs=1.5 * row.half)


def test_symbols_never_seen_cost_one_count_more_than_none() -> None:
    spec = described("symbols", 2, symbols=5)
    known = Split(np.array([[0, 1], [0, 1], [0, 2]], np.uint8), None, spec.codec)
    found = measure(known, Split(np.array([[0, 4], [0, 4]], np.uint8), None, spec.codec), spec)
    assert found.rows[0].value == pytest.approx(-math.log2(4 / 8) - math.log2(1 / 8))


def test_the_items_are_those_of_the_bound_and_all_that_is_done_is_told() -> None:
    x, told = noise(60, 6, 1), []
    x //= np.arange(1, 61, dtype=np.uint8)[:, None, None, None]
    heldout = Split(x, None)
    found = measure(
        heldout, heldout, described("image", 1, 6, 6), images=7, progress=lambda done, whole: told.append((done, whole))
    )
    same = measure(heldout, Split(x[heldout.spread(7)], None), described("image", 1, 6, 6))
    assert found == same
    assert told[-1] == (21, 21)
    assert told == sorted(told)


def test_json_and_table_say_every_number() -> None:
    spec, x = described("image", 1, 6, 6), noise(5, 6, 1)
    found = measure(Split(x, None), Split(x[:1], None), spec)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["unit"] == "bits/dim"
    assert [row["name"] for row in written["rows"]] == [row.name for row in found.rows]
    assert written["rows"][0]["half"] is None  # of one picture there is no interval
    for row in found.rows:
        assert f"{row.name:<10} {row.value:8.4f}" in found.table()


def test_what_has_no_gaussian_says_so_and_nothing_held_out_is_refused() -> None:
    spec = described("points", 2)
    x = np.ones((30, 2), np.float32)
    found = measure(Split(x, None, spec.codec), Split(x, None, spec.codec), spec)
    assert (found.rows, len(found.notes)) == ((), 1)
    with pytest.raises(UserError, match="none"):
        measure(Split(x, None, spec.codec), Split(x[:0], None, Codec("points")), spec)


def test_a_figure_is_said_to_be_what_it_is_beside_them() -> None:
    """From knowing nothing to beating every coder, the sentence follows the order of the figures."""
    x = np.random.default_rng(0).integers(100, 140, (60, 8, 8, 1), np.uint8)
    found = measure(Split(x[:40], None), Split(x[40:], None), described("image", 1, 8, 8))
    by_name = rows(found)
    assert by_name["uniform"].value == 8
    assert by_name["uniform"].half is None
    assert "worse than knowing nothing" in found.verdict(8.01)
    assert "no shapes yet" in found.verdict(by_name["Gaussian"].value + 1e-3)
    lowest = min(row.value for row in found.rows)
    assert found.verdict(lowest - 0.1) == "the model needs fewer than PNG, WebP, Gaussian, uniform"
    bits = np.random.default_rng(0).random((400, 6)) < 0.5
    coded = measure(
        Split(bits[:300], None, Codec("bits")), Split(bits[300:], None, Codec("bits")), described("bits", 6)
    )
    assert rows(coded)["uniform"].value == 6
