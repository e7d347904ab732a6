"""Guidance as it is asked for of a run: what acts, what is refused, and what receipts keep of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.conftest import Ended
from unstir.denoisers import Autoguided, Clipped, Guided
from unstir.errors import UserError
from unstir.evaluation.asked import Asked
from unstir.runs import Model, load
from unstir.runs.model import metadata
from unstir.runs.walks import How


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


@pytest.fixture(scope="module")
def weak(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with noise in its weights, as a file."""
    made = load(digits_run)
    g = torch.Generator().manual_seed(0)
    tensors = {
        name: p + 0.1 * torch.randn(p.shape, generator=g) for name, p in made.denoiser.network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("weak") / "early.safetensors"
    path.write_bytes(save(tensors, metadata(made.config, made.spec, 10, "ema")))
    return path


def test_the_options_reach_the_denoiser(model: Model, weak: Path) -> None:
    """Each option makes other pictures, and the walk has the wrapper that it stands for."""
    how: dict[str, Any] = {"steps": 3, "label": 3, "guidance": 3.0}
    plain = model.sample(2, **how)
    changes = ({"guidance_interval": (0.5, 1.5)}, {"rescale": 0.7}, {"autoguidance": weak})
    drawn = [plain, *(model.sample(2, **how, **change) for change in changes)]
    for i, one in enumerate(drawn):
        assert not any(np.array_equal(one, other) for other in drawn[i + 1 :])
    everywhere = model.sample(2, **how, guidance_interval=(0.0, 1e9))
    assert np.array_equal(everywhere, plain)
    assert np.array_equal(model.sample(2, **how, guidance_interval=(1e8, 1e9)), model.sample(2, steps=3, label=3))
    around = model.walk(steps=3, guidance=2.0, autoguidance=weak, rescale=0.5).denoiser
    assert isinstance(around, Clipped)
    assert isinstance(around.denoiser, Autoguided)
    assert around.denoiser.rescale == 0.5
    assert isinstance(model.walk(steps=3, guidance=2.0).denoiser.denoiser, Guided)


def test_autoguidance_needs_no_label_and_away_from_itself_changes_nothing(
    model: Model, digits_run: Path, weak: Path
) -> None:
    plain = model.sample(2, steps=3)
    itself = model.sample(2, steps=3, guidance=3.0, autoguidance=digits_run)
    assert np.abs(itself.astype(int) - plain).max() <= 1
    assert not np.array_equal(model.sample(2, steps=3, guidance=3.0, autoguidance=weak), plain)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "interval that falls": ({"guidance": 2.0, "guidance_interval": (2.0, 1.0)}, "two rising noise levels"),
    "endless interval": ({"guidance": 2.0, "guidance_interval": (0.0, float("inf"))}, "two rising noise levels"),
    "interval of three": ({"guidance": 2.0, "guidance_interval": (1, 2, 3)}, "two rising noise levels"),
    "rescale": ({"guidance": 2.0, "rescale": 1.5}, "a share from 0 to 1"),
    "idle interval": ({"guidance_interval": (0.1, 2.0)}, "changes nothing at guidance 1"),
    "idle rescale": ({"rescale": 0.5}, "changes nothing at guidance 1"),
    "idle autoguidance": ({"autoguidance": "x"}, "changes nothing at guidance 1"),
    "no such model": ({"guidance": 2.0, "autoguidance": "nowhere"}, "no run or model at nowhere"),
}


@pytest.mark.parametrize(("how", "match"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_act_is_refused(model: Model, how: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        model.sample(1, label=3, **how)


def test_every_run_keeps_a_weaker_model_of_its_own(digits_run: Path, model: Model) -> None:
    early = load(digits_run / "early.safetensors")
    assert 0 < early.images < model.images
    assert (early.spec, early.config) == (model.spec, model.config)
    assert not np.array_equal(
        model.sample(2, steps=3, guidance=3.0, autoguidance=digits_run / "early.safetensors"), model.sample(2, steps=3)
    )


def test_a_model_of_other_data_or_another_chain_cannot_guide(
    model: Model, points_run: Path, weak: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="other data"):
        model.sample(1, guidance=2.0, autoguidance=points_run)
    with pytest.raises(UserError, match="guidance needs classes"):
        load(points_run).sample(1, guidance=2.0)
    made = load(weak)
    config = replace(made.config, schedule=made.config.schedule | {"T": 40})
    path = tmp_path / "short.safetensors"
    path.write_bytes(save(dict(made.denoiser.network.state_dict()), metadata(config, made.spec, 10, "ema")))
    with pytest.raises(UserError, match="another chain"):
        model.sample(1, guidance=2.0, autoguidance=path)


def test_receipts_hold_the_options_and_old_ones_lack_them(model: Model) -> None:
    asked = Asked(metrics=("frechet",), label="3", guidance=2.0, guidance_interval=(0.2, 3.0), rescale=0.5)
    written = json.loads(json.dumps(asked.to_json()))
    assert Asked.from_json(written) == asked
    sampling = json.loads(json.dumps(asdict(asked.sampling(model))))
    assert [sampling[name] for name in ("guidance", "guidance_interval", "rescale")] == [2.0, [0.2, 3.0], 0.5]
    for name in ("guidance_interval", "rescale", "autoguidance"):
        del written[name]
    old = Asked.from_json(written)
    assert (old.guidance_interval, old.rescale, old.autoguidance) == (None, 0.0, None)
    said = How.of(model, guidance=2.0, guidance_interval=(0.2, 3.0), rescale=0.5, autoguidance=Path("runs/weak")).guided
    assert said == ", guidance 2 away from runs/weak for sigma/alpha in 0.2 … 3, rescaled 0.5"


@pytest.mark.parametrize(
    "words",
    [
        "--guidance 2 --guidance-interval 1",
        "--guidance 2 --guidance-interval a,b",
        "--rescale 2",
        "--autoguidance {none}",
    ],
)
def test_evaluate_refuses_them_in_one_line(
    unstir: Callable[..., Ended], digits_run: Path, tmp_path: Path, words: str
) -> None:
    line = f"--metrics frechet --samples 20 --label 3 {words}".format(none=tmp_path / "none").split()
    ended = unstir("evaluate", digits_run, *line)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
