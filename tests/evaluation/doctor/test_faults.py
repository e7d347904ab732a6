"""Planted faults: each is named, and named first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.evaluation.doctor import patients
from tests.evaluation.doctor.patients import names
from unstir.evaluation.doctor import examine
from unstir.runs import dataset, load

Parts = Mapping[str, Mapping[str, Tensor]]


def first(run: Path, data: Path | None = None) -> tuple[str, str]:
    """The name and the sentence of the first finding."""
    found = patients.look(run, None if data is None else str(data))
    assert found.findings, found.table()
    patients.as_json(found)
    return found.findings[0].name, found.findings[0].text


def test_nan_weights(healthy: dict[str, Path], tmp_path: Path) -> None:
    def spoil(parts: Parts) -> None:
        for part in ("model", "ema"):
            parts[part][sorted(parts[part])[0]].view(-1)[0] = torch.nan

    run = patients.rewritten(healthy["points"], tmp_path / "run", spoil)
    assert first(run)[0] == "weights-not-finite"

    def overflow(model: Any) -> None:
        patients.last_layer(model)[1].data.fill_(torch.inf)

    alone = patients.changed(healthy["points"], tmp_path / "x.safetensors", overflow)
    assert first(alone)[0] == "weights-not-finite"


def test_an_average_that_is_mostly_the_beginning(healthy: dict[str, Path], tmp_path: Path) -> None:
    begin = patients.beginning(patients.load(healthy["points"]))

    def age(parts: Parts) -> None:
        for name, value in parts["ema"].items():
            value.copy_(0.9 * begin[name] + 0.1 * parts["model"][name])

    name, text = first(patients.rewritten(healthy["points"], tmp_path / "run", age))
    assert name == "ema-too-young"
    assert "90% of them is still what training began with" in text


@pytest.mark.parametrize("kind", ["points", "told", "bits"])
def test_an_untrained_network(kind: str, healthy: dict[str, Path], tmp_path: Path) -> None:
    def forget(model: Any) -> None:
        for name, value in model.denoiser.network.named_parameters():
            value.data.copy_(patients.beginning(model)[name])

    assert first(patients.changed(healthy[kind], tmp_path / "x.safetensors", forget))[0] == "untrained"


@pytest.mark.parametrize(
    "schedule",
    [{"name": "linear_beta", "T": 1000}, {"name": "cosine", "T": 250}],
    ids=str,
)
def test_a_schedule_other_than_training_s(schedule: dict[str, Any], healthy: dict[str, Path], tmp_path: Path) -> None:
    """The run was trained on the cosine of 1,000 steps."""
    model = patients.changed(healthy["told"], tmp_path / "x.safetensors", patients.rescheduled(schedule))
    name, text = first(model)
    assert name == "schedule-mismatch"
    assert "cosine, T = 1000" in text


def test_a_configuration_that_was_changed_after_training(healthy: dict[str, Path], tmp_path: Path) -> None:
    run = patients.rewritten(healthy["told"], tmp_path / "run", lambda parts: None)
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace('name = "cosine"', 'name = "sigmoid_beta"'))
    name, text = first(run)
    assert name == "schedule-mismatch"
    assert "changed after training" in text


def test_channels_of_the_data_are_swapped(healthy: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "bgr.npz", patients.colours(800)[..., ::-1])
    name, text = first(healthy["colours"], tmp_path / "bgr.npz")
    assert name == "channels-swapped"
    assert "data whose channels are blue, green, red of these" in text


def test_channels_of_the_output_are_swapped(healthy: dict[str, Path], tmp_path: Path) -> None:
    def swap(model: Any) -> None:
        for value in patients.last_layer(model):
            value.data.copy_(value.data[[2, 1, 0]])

    name, text = first(patients.changed(healthy["colours"], tmp_path / "x.safetensors", swap))
    assert name == "channels-swapped"
    assert "network's output" in text


def test_a_tint(healthy: dict[str, Path], tmp_path: Path) -> None:
    def add(model: Any) -> None:
        patients.last_layer(model)[1].data[1] += 0.4

    name, text = first(patients.changed(healthy["colours"], tmp_path / "x.safetensors", add))
    assert name == "tint"
    assert "too much green" in text


def test_pictures_of_numbers_0_to_1_brought_to_levels_as_if_they_were_minus_1_to_1(
    healthy: dict[str, Path], tmp_path: Path
) -> None:
    """Learned from, or given later to a run that learned from others."""
    pale = np.rint(127.5 * (patients.colours(200) / 255 + 1)).astype(np.uint8)
    pale[0, 0, 0] = 127  # black
    np.savez(tmp_path / "pale.npz", pale)
    name, text = first(healthy["colours"], tmp_path / "pale.npz")
    assert name == "data-range"
    assert "levels 127 … 252 only" in text
    run = patients.trained(tmp_path / "run", str(tmp_path / "pale.npz"), 256, patients.PICTURES)
    assert first(run)[0] == "data-range"
    np.savez(tmp_path / "black.npz", (patients.colours(200) > 127).astype(np.uint8))
    assert first(healthy["colours"], tmp_path / "black.npz")[0] == "data-range"


def test_points_of_another_range(healthy: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wide = rng.uniform(-1, 1, (600, 2)).astype(np.float32) * [1, 0.4] + [0.2, -0.1]
    np.save(tmp_path / "wide.npy", wide.astype(np.float32))
    np.save(tmp_path / "narrow.npy", ((wide + 1) / 2).astype(np.float32))
    run = patients.trained(tmp_path / "run", str(tmp_path / "wide.npy"), 64 * 20, patients.VECTORS)
    name, text = first(run, tmp_path / "narrow.npy")
    assert name == "data-range"
    assert "−1 … 1, and these data are 0 … 1" in text
    other = patients.trained(tmp_path / "other", str(tmp_path / "narrow.npy"), 64 * 20, patients.VECTORS)
    name, text = first(other, tmp_path / "wide.npy")
    assert name == "data-range"
    assert "0 … 1, and these data are −1 … 1" in text


def test_a_configuration_of_other_data(healthy: dict[str, Path], tmp_path: Path) -> None:
    dark = (patients.colours(200) // 12).astype(np.uint8)
    np.savez(tmp_path / "dark.npz", dark)
    toml = patients.PICTURES + '[prediction]\nname = "preconditioned"\ndata_rms = 0.4\n'
    assert first(patients.trained(tmp_path / "run", str(tmp_path / "dark.npz"), 64, toml))[0] == "data-scale"


def test_data_learned_by_heart(healthy: dict[str, Path]) -> None:
    model = load(healthy["colours"])
    own = dataset(model)
    x0, _ = own.train.batch(np.arange(len(own.train)))
    model.denoiser.network = patients.ByHeart(x0, model.config.prediction["data_rms"])
    found = examine(model, own)
    assert names(found)[:1] == ["memorised"], found.table()
    assert "128 of 128" in found.findings[0].text
    assert "than these 720" in found.findings[0].advice


def test_eps_where_no_signal_is_left(healthy: dict[str, Path]) -> None:
    name, text = first(healthy["told"])
    assert name == "samples-spread"
    assert "the network's error is multiplied by" in text


def test_labels_that_are_not_listened_to(healthy: dict[str, Path], tmp_path: Path) -> None:
    """The class's embedding is the same for all."""

    def deafen(model: Any) -> None:
        for name, value in model.denoiser.network.named_parameters():
            if "label" in name or "class" in name:
                value.data.copy_(value.data.mean(0, keepdim=True).expand_as(value))

    assert "labels-unused" in names(
        patients.look(patients.changed(healthy["points"], tmp_path / "x.safetensors", deafen))
    )


@pytest.mark.parametrize(
    ("how", "named"), [({"times": [600.0, 300.0, 100.0, 0.0]}, "grid-start"), ({"steps": 3}, "grid-coarse")]
)
def test_a_grid_that_does_not_suit(how: dict[str, Any], named: str, healthy: dict[str, Path], tmp_path: Path) -> None:
    run = patients.rewritten(healthy["points"], tmp_path / "run", lambda parts: None)
    patients.Run(run).choose_sampling({"sampler": "ddim", **how})
    assert first(run)[0] == named


def test_a_chain_that_does_not_end_in_noise(healthy: dict[str, Path], tmp_path: Path) -> None:
    short = {"name": "linear_beta", "T": 100}
    model = patients.changed(healthy["points"], tmp_path / "x.safetensors", patients.rescheduled(short))
    assert "schedule-end" in names(patients.look(model))
