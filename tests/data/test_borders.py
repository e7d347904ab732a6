"""Levels to numbers and back; contact sheets; descriptions."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from unstir.data import DataSpec, Split, contact_sheet, inspect, load, to_float, to_uint8

LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def test_level_k_is_at_2k_over_255_minus_1() -> None:
    x = to_float(LEVELS)
    assert x.shape == (1, 1, 16, 16)
    assert x.dtype == torch.float32
    exact = 2 * np.arange(256) / 255 - 1
    np.testing.assert_allclose(x.flatten().numpy(), exact, rtol=0, atol=1e-7)
    assert (x.min(), x.max()) == (-1, 1)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_to_uint8_is_the_inverse_on_all_levels(as_tensor: bool) -> None:
    np.testing.assert_array_equal(to_uint8(to_float(torch.from_numpy(LEVELS) if as_tensor else LEVELS)), LEVELS)
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    x = to_float(images)
    assert x.shape == (3, 3, 4, 5)
    assert x.is_contiguous()
    np.testing.assert_array_equal(x[1, 2].numpy(), to_float(images[1:2, :, :, 2:])[0, 0].numpy())
    for dtype in (torch.float32, torch.float64):
        np.testing.assert_array_equal(to_uint8(x.to(dtype)), images)


def test_to_uint8_takes_the_nearest_level_and_clamps() -> None:
    inside = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    levels = to_uint8(inside.reshape(1, 1, 1, -1)).astype(np.float64).ravel()
    assert np.abs(levels - 255 * (inside.numpy() + 1) / 2).max() <= 0.5 + 1e-4
    outside = torch.tensor([-7.0, 7.0, -torch.inf, torch.inf, torch.nan]).reshape(1, 1, 1, 5)
    assert to_uint8(outside).ravel().tolist() == [0, 255, 0, 255, 0]


def test_other_types_and_shapes_are_refused_at_the_border() -> None:
    for wrong in (np.zeros((1, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            to_float(wrong)
    for wrong in (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4)):
        with pytest.raises(ValueError, match="expected floating point"):
            to_uint8(wrong)


def test_a_batch_is_the_rows_asked_for() -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    images.flags.writeable = False  # as a memory map is
    split = Split(images, np.arange(9))
    x, labels = split.batch(np.array([7, 0, 7]))
    np.testing.assert_array_equal(to_uint8(x), images[[7, 0, 7]])
    assert labels.dtype == torch.int64
    assert labels.tolist() == [7, 0, 7]
    assert len(split) == 9
    assert Split(images, None).batch(np.array([1]))[1] is None


def test_a_contact_sheet_shows_every_pixel_as_a_square() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet(images, columns=3, scale=2))
    assert sheet.shape == (2 * (8 + 2) + 2, 3 * (12 + 2) + 2, 3)
    for i, image in enumerate(images):
        top, left = 2 + i // 3 * 10, 2 + i % 3 * 14
        cell = sheet[top : top + 8, left : left + 12]
        for dy in (0, 1):
            for dx in (0, 1):
                np.testing.assert_array_equal(cell[dy::2, dx::2], image)
    assert (sheet[12:20, 30:] == 128).all()  # the place that no picture fills


def test_contact_sheets_enlarge_small_pictures_by_whole_numbers() -> None:
    for side, scale in ((8, 8), (28, 2), (32, 2), (64, 1), (500, 1)):
        sheet = contact_sheet(np.zeros((1, side, side, 1), np.uint8))
        assert (sheet.mode, sheet.size) == ("L", (side * scale + 4, side * scale + 4))
    assert contact_sheet(np.zeros((2, 8, 8, 3), np.uint8), columns=9, scale=1).size == (22, 12)
    with pytest.raises(ValueError, match="expected uint8"):
        contact_sheet(np.zeros((0, 8, 8, 3), np.uint8))


def test_the_sheet_of_an_inspection_is_what_the_network_sees() -> None:
    found = inspect("digits")
    sheet = np.asarray(found.sheet(4))
    first = found.dataset.train.batch(np.array([0]))[0]
    np.testing.assert_array_equal(sheet[2:66:8, 2:66:8], to_uint8(first)[0, :, :, 0])


def test_a_description_survives_json() -> None:
    spec = load("digits").spec
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert hash(spec) == hash(DataSpec.from_json(spec.to_json()))


def test_looking_at_data_does_not_import_torch() -> None:
    code = "import sys, unstir.data; unstir.data.inspect('digits').sheet(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
