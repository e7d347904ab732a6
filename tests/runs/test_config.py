"""A configuration is what its TOML says."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import small
from unstir.data import Split
from unstir.errors import UserError
from unstir.runs import config as configs
from unstir.runs.build import colour_of, denoiser_of, rms
from unstir.runs.config import Config, differences, from_dict

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


@given(
    source=TEXT,
    seed=st.integers(0, 2**63 - 1),
    rate=st.floats(1e-8, 1.0),
    flip=st.booleans(),
    multipliers=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_toml_and_back(source: str, seed: int, rate: float, flip: bool, multipliers: list[int]) -> None:
    config = small.config(
        data={"source": source, "flip": flip},
        seed=seed,
        optimiser={"learning_rate": rate},
        network={"multipliers": multipliers},
    )
    assert from_dict(tomllib.loads(config.to_toml())) == config
    assert not differences(config, from_dict(tomllib.loads(config.to_toml())))


def test_whole_numbers_do_where_numbers_are_wanted() -> None:
    assert from_dict({"optimiser": {"clip": 2}}).optimiser.clip == 2.0
    for wrong in ({"seed": 1.0}, {"seed": True}, {"optimiser": {"clip": True}}, {"data": {"source": 3}}):
        with pytest.raises(UserError, match="must be"):
            from_dict(wrong)


def test_differences_name_the_setting_and_both_values() -> None:
    old, new = small.config(), small.config(seed=4, network={"channels": 16}, data={"source": "other"})
    assert differences(old, new) == ["data.source:  -> other", "network.channels: 8 -> 16", "seed: 0 -> 4"]
    assert differences(old, small.config(objective={"name": "edm", "data_rms": 0.5})) == [
        "objective.data_rms: unset -> 0.5",
        "objective.name: simple -> edm",
    ]


def test_three_differences_are_named_the_data_first_and_the_rest_counted() -> None:
    budget, data = {"images": 300}, {"source": "other", "background": "black"}
    old, new = small.config(), small.config(seed=4, budget=budget, data=data, ema_width=0.2)
    three = ["data.source:  -> other", "budget.images: 200 -> 300", "data.background: white -> black"]
    assert differences(old, new) == [*three, "and 2 more"]
    assert differences(small.config(seed=4, ema_width=0.2), new) == three


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            configs.read(path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not valid TOML"):
        configs.read(tmp_path / "binary.toml")


def test_reading_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[optimiser]\nspeed = 3")
    with pytest.raises(UserError, match=r"settings\.toml: there is no setting called 'optimiser\.speed'.*batch"):
        configs.read(path)


def test_colours() -> None:
    assert colour_of("white") == (255, 255, 255)
    assert colour_of("#102030") == (16, 32, 48)
    for wrong in ("whitish", "#12345", "", "#1" * 200):
        with pytest.raises(UserError, match="no colour"):
            colour_of(wrong)


def test_the_denoiser_is_the_one_described() -> None:
    denoiser = denoiser_of(small.config(schedule={"T": 77}, variance="large"))
    assert denoiser.process.T == 77
    assert denoiser.variance == "large"
    assert not math.isnan(sum(float(p.detach().sum()) for p in denoiser.parameters()))
    with pytest.raises(UserError, match=r"configuration|network"):
        denoiser_of(Config())


def test_the_datas_root_mean_square_is_that_of_all_its_levels() -> None:
    levels = np.repeat(np.array([0, 51], np.uint8), 3_000)[:, None, None, None]  # -1 and -0.6 on the scaled axis
    assert rms(Split(levels, None)) == pytest.approx(math.sqrt((1 + 0.36) / 2), rel=1e-6)
