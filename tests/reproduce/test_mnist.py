from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import small
from tests.reproduce import tiny
from unstir import data, reproduce
from unstir.errors import UserError
from unstir.reproduce import mnist
from unstir.reproduce.experiment import Setting
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    made = small.pictures(120, 8)
    monkeypatch.setattr(data, "load", lambda source: made)
    tiny.shorten(monkeypatch, mnist)


def test_without_data_it_is_one_clear_line(unstir: Callable[..., Any], tmp_path: Path):
    ended = unstir("reproduce", "mnist", "--quick", "--out", tmp_path)
    assert ended.code == 2
    assert ended.err.strip().splitlines()[-1].count("--data") == 1
    assert "Traceback" not in ended.err
    with pytest.raises(reproduce.DataMissing):
        mnist.variants(Setting())


def test_colour_and_real_numbers_are_refused(monkeypatch: pytest.MonkeyPatch):
    made = small.pictures()
    for change in ({"shape": (3, 4, 4)}, {"eight_bit": False}, {"kind": "points"}):
        other = replace(made, spec=replace(made.spec, **change))
        monkeypatch.setattr(data, "load", lambda source, other=other: other)
        with pytest.raises(UserError, match="grey pictures of 8 bits"):
            mnist.dataset(tiny.QUICK)


def test_what_chooses_sigma_is_not_learned_from(little: None):
    whole, learned = data.load("given"), mnist.dataset(tiny.QUICK)
    assert len(learned.train) == 100
    np.testing.assert_array_equal(learned.train.x, whole.train.x[:100])
    assert learned.train.labels is None
    assert learned.spec.classes == ()


def test_pixels_are_from_0_to_1():
    levels = np.array([[[[0], [255]], [[51], [102]]]], np.uint8)
    assert mnist.unit(levels).numpy() == pytest.approx(np.array([[0, 1, 0.2, 0.4]]))


def test_variants_are_denoisers_of_the_data(little: None):
    for variant in mnist.variants(tiny.QUICK):
        denoiser = denoiser_of(configs.from_dict(variant.config))
        assert denoiser.predict(torch.zeros(2, 1, 8, 8), 3.0).x0.shape == (2, 1, 8, 8)


def test_from_pictures_to_table(little: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = tiny.carry_out("mnist", tmp_path)
    assert table.columns == ("Parzen (bits)", "± standard error", "bits/dim", "± over pictures")
    rows = {row["name"]: row for row in table.to_json()["rows"]}
    assert rows["diffusion (Sohl-Dickstein et al. 2015)"]["parzen_bits"] == 317
    assert {"parzen_bits", "standard_error", "bits_dim", "over_pictures"} <= rows["ours"].keys()
    for name in ("training pictures, here", "k-means centres of training pictures"):
        assert {"parzen_bits", "standard_error"} <= rows[name].keys()
    assert any("misleads" in note for note in table.notes)
    assert any(note.startswith("Quick: 100 samples") for note in table.notes)
    assert all(Path(file).stat().st_size for file in table.files)
    tiny.forbid_training(monkeypatch)
    monkeypatch.setattr(mnist, "_figures", lambda *_: table.files)
    assert tiny.carry_out("mnist", tmp_path).to_json() == table.to_json()
