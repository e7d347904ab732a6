"""From what was typed to a whole configuration: preset, then file, then flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.runs import Run
from unstir.runs.config import Config
from unstir.training import presets
from unstir.training.resolve import DEFAULT_MINUTES, resolve


def settle(tmp_path: Path, toml: str | None = None, source: str = "digits", **flags: Any) -> tuple[Config, Dataset]:
    file = None
    if toml is not None:
        file = tmp_path / "settings.toml"
        file.write_text(toml)
    return resolve({"data": {"source": source}, **flags}, file, Run(tmp_path / "run"))


def test_preset_then_file_then_flags(tmp_path: Path) -> None:
    plain, dataset = settle(tmp_path)
    preset = presets.get("tiny", dataset.spec, 0.5)
    assert plain.preset == "tiny"
    assert plain.network == preset.network
    toml = "seed = 5\nlabel_dropout = 0.25\n[optimiser]\nbatch = 7\n[hardware]\nprecision = 'fp32'"
    filed, _ = settle(tmp_path, toml)
    assert (filed.seed, filed.label_dropout, filed.optimiser.batch, filed.hardware.precision) == (5, 0.25, 7, "fp32")
    assert filed.optimiser.learning_rate == preset.optimiser.learning_rate, (
        "what a file does not say stays the preset's"
    )
    flagged, _ = settle(tmp_path, toml, seed=6, hardware={"precision": "bf16"})
    assert (flagged.seed, flagged.label_dropout, flagged.hardware.precision) == (6, 0.25, "bf16")


def test_part_of_a_table_keeps_the_rest(tmp_path: Path) -> None:
    plain, _ = settle(tmp_path)
    wider, _ = settle(tmp_path, "[network]\nchannels = 64\n[schedule]\nT = 100")
    assert wider.network == plain.network | {"channels": 64}
    assert wider.schedule == plain.schedule | {"T": 100}
    other, _ = settle(tmp_path, "[objective]\nname = 'min_snr'\n[schedule]\nname = 'linear_beta'")
    assert other.objective == {"name": "min_snr"}, "another kind does not inherit"
    assert other.schedule == {"name": "linear_beta"}


def test_a_runs_own_file_reproduces_it(tmp_path: Path) -> None:
    first, _ = settle(tmp_path, "[network]\nchannels = 16", seed=3, budget={"images": 77}, data={"source": "digits"})
    again, _ = settle(tmp_path, first.to_toml())
    assert again == first


def test_the_budget(tmp_path: Path) -> None:
    def budget(toml: str | None = None, **flags: Any) -> tuple[float, int]:
        config, _ = settle(tmp_path, toml, **({"budget": flags} if flags else {}))
        return config.budget.minutes, config.budget.images

    assert budget() == (DEFAULT_MINUTES, 0)
    assert budget(minutes=2.0) == (2.0, 0)
    assert budget(images=100) == (0.0, 100)
    assert budget("[budget]\nminutes = 3") == (3.0, 0)
    assert budget("[budget]\nminutes = 3", images=100) == (0.0, 100)
    assert budget("[budget]\nimages = 50", minutes=1.0) == (1.0, 0)


@pytest.mark.parametrize(
    ("toml", "flags", "said"),
    [
        (None, {"budget": {"minutes": 1.0, "images": 2}}, "not both"),
        ("[budget]\nminutes = 1\nimages = 2", {}, "not both"),
        (None, {"budget": {"minutes": 0.0}}, "more than 0"),
        (None, {"budget": {"images": 0}}, "more than 0"),
        (None, {"budget": {"minutes": -1.0}}, "--minutes"),
        (None, {"budget": {"minutes": float("nan")}}, "--minutes"),
        (None, {"budget": {"minutes": float("inf")}}, "--minutes"),
        (None, {"budget": {"images": -5}}, "--images"),
        (None, {"seed": -1}, "--seed"),
        (None, {"seed": 1 << 63}, "--seed"),
        (None, {"preset": "gigantic"}, "'gigantic'"),
        (None, {"preset": "points"}, "points does not fit"),
        ("[hardware]\nprecision = 'fp16'", {}, "--precision must be auto, fp32 or bf16, not fp16"),
        ("[hardware]\nlayout = 'spiral'", {}, "--layout"),
        ("[hardware]\ncompile = 'perhaps'", {}, "--compile"),
        ("[optimiser]\nbatch = 0", {}, "optimiser.batch"),
        ("[optimiser]\nlearning_rate = 0.0", {}, "optimiser.learning_rate"),
        ("[optimiser]\nlearning_rate = nan", {}, "optimiser.learning_rate"),
        ("[optimiser]\nbeta2 = 1.0", {}, "optimiser.beta2"),
        ("[optimiser]\nclip = 0.0", {}, "optimiser.clip"),
        ("ema_width = 0.5", {}, "ema_width"),
        ("label_dropout = 1.5", {}, "label_dropout"),
        ("colour = 3", {}, "'colour'"),
        ("[data]\ncolour = 3", {}, "'data.colour'"),
        ("seed = 'five'", {}, "seed must be a whole number, not 'five'"),
        ("[data]\nflip = 1", {}, "data.flip must be true or false"),
        ("data = 'digits'", {}, "data is a table"),
        ("network = 3", {}, "network must be a table"),
        ("[data\n", {}, "not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_named_in_one_line(
    tmp_path: Path, toml: str | None, flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        settle(tmp_path, toml, **flags)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_points_cannot_be_flipped(tmp_path: Path, points_file: Path) -> None:
    with pytest.raises(UserError, match="--flip"):
        settle(tmp_path, data={"source": str(points_file), "flip": True})


@pytest.mark.parametrize("name", presets.NAMES)
def test_every_preset_makes_a_denoiser(tmp_path: Path, points_file: Path, name: str) -> None:
    from unstir.runs.build import denoiser_of

    symbols = tmp_path / "symbols.npy"
    np.save(symbols, np.random.default_rng(0).integers(0, 5, (40, 7)))
    source = {"points": str(points_file), "bits": "heartbeat", "symbols": str(symbols)}.get(name, "digits")
    config, dataset = settle(tmp_path, data={"source": source}, preset=name)
    denoiser = denoiser_of(config)
    x0, _ = dataset.train.batch(np.arange(2))
    assert denoiser.predict(x0, 5).likeliest.shape == x0.shape
