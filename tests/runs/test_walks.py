"""What stands in the places that a user leaves open, and what is laid around a denoiser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unstir.data import DataSpec
from unstir.denoisers import Clipped, Denoiser, Thresholded
from unstir.errors import UserError
from unstir.networks import RBF, RBFConfig
from unstir.processes import Gaussian
from unstir.runs import Model, Run, load
from unstir.runs.walks import How, walk_of
from unstir.schedules import LinearBeta


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


SHIPPED = "log-snr:last=1"  # for a chain of 50
CHOSEN = {"sampler": "dpm++2m", "steps": 9, "spacing": "log-snr"}


@pytest.mark.parametrize(
    ("defaults", "given", "found"),
    [
        ({}, {}, ("dpm++2m", 20, SHIPPED, None)),
        ({}, {"sampler": None, "steps": None}, ("dpm++2m", 20, SHIPPED, None)),
        ({}, {"steps": 3}, ("dpm++2m", 3, SHIPPED, None)),
        ({}, {"sampler": "ddim"}, ("ddim", 20, "uniform", None)),
        ({"clip": "none"}, {}, ("dpm++2m", 20, SHIPPED, None)),
        ({"sampler": "unipc2"}, {}, ("unipc2", 20, "uniform", None)),
        ({}, {"steps": 3, "spacing": "rho"}, ("dpm++2m", 3, "rho", None)),
        (CHOSEN, {}, ("dpm++2m", 9, "log-snr", None)),
        (CHOSEN, {"sampler": "dpm++2m"}, ("dpm++2m", 9, "log-snr", None)),
        (CHOSEN, {"steps": 30}, ("dpm++2m", 30, "log-snr", None)),
        (CHOSEN, {"sampler": "ancestral"}, ("ancestral", 20, "uniform", None)),
        (CHOSEN, {"times": [50, 4, 0]}, ("dpm++2m", 2, "log-snr", (50.0, 4.0, 0.0))),
        ({"times": [50, 9, 4, 0]}, {"sampler": "heun"}, ("heun", 20, "uniform", None)),
        ({"sampler": "ddim", "times": [50, 9, 4, 0]}, {}, ("ddim", 3, "uniform", (50.0, 9.0, 4.0, 0.0))),
        ({"sampler": "ddim", "times": [50, 9, 4, 0]}, {"steps": 7}, ("ddim", 7, "uniform", None)),
    ],
    ids=str,
)
def test_a_runs_choice_fills_what_was_left_open(
    model: Model, defaults: dict[str, Any], given: dict[str, Any], found: tuple[Any, ...]
) -> None:
    how = How.of(replace(model, defaults=defaults), **given)
    assert (how.sampler, how.steps, how.spacing, how.times) == found


def test_what_was_chosen_is_kept_and_used(digits_run: Path, tmp_path: Path) -> None:
    import shutil

    run = Run(shutil.copytree(digits_run, tmp_path / "run"))
    plain = load(run.path)
    run.choose_sampling({"sampler": "heun", "steps": 4})
    chosen = load(run.path)
    assert chosen.steps == 4
    assert np.array_equal(chosen.sample(3), plain.sample(3, sampler="heun", steps=4))
    assert np.array_equal(chosen.sample(3, sampler="dpm++2m"), plain.sample(3))
    for text in ("{", "[]", '{"foo": 1}', '{"steps": "five"}', '{"steps": true}'):
        (run.path / "sampling.json").write_text(text)
        with pytest.raises(UserError, match=r"sampling\.json is damaged"):
            load(run.path)


def test_clipping_is_what_was_asked_for(model: Model) -> None:
    kinds = {how: type(model.walk(clip=how).denoiser) for how in ("auto", "static", "dynamic", "none")}
    assert kinds == {"auto": Clipped, "static": Clipped, "dynamic": Thresholded, "none": Denoiser}
    points = replace(model.spec, eight_bit=False)
    assert walk_of(model.denoiser, points, How.of(model)).denoiser is model.denoiser
    with pytest.raises(UserError, match="no such range"):
        walk_of(model.denoiser, points, How.of(model, clip="static"))
    with pytest.raises(UserError, match="clip is one of"):
        model.walk(clip="hard")


def test_half_precision_rounds_the_network_and_nothing_else(model: Model) -> None:
    x = torch.randn(8, *model.spec.shape, generator=torch.Generator().manual_seed(0))
    whole, half = (model.walk(precision=each, clip="none").denoiser.predict(x, 20.0).x0 for each in ("fp32", "bf16"))
    assert half.dtype == torch.float32, "coefficients and states stay as they were"
    away = ((whole - half).square().mean().sqrt() / whole.square().mean().sqrt()).detach()
    assert 1e-6 < float(away) < 0.02, "rounded, to about three digits"
    with pytest.raises(UserError, match="precision is one of"):
        model.walk(precision="fp8")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampler": "magic"}, "no sampler is called 'magic'"),
        ({"sampler": "ddim:eta=2"}, "eta must lie in"),
        ({"sampler": "ddim:theta=2"}, "has no option 'theta'"),
        ({"sampler": "ddim:eta"}, "options are written as"),
        ({"sampler": "ddim:eta=much"}, "is a finite number, not 'much'"),
        ({"sampler": "ddim:eta=0.5,eta=0.7"}, "eta is said twice"),
        ({"sampler": "deis:order=2.0"}, "is a whole number, not 2.0"),
        ({"sampler": "dpm++3m:published=no"}, "is true or false, not 'no'"),
        ({"times": [40, 9]}, "end them with 0"),
        ({"spacing": "magic"}, "no spacing is called 'magic'"),
        ({"spacing": "rho:rho=-1"}, "rho is an exponent above 0"),
        ({"spacing": "uniform:rho=1"}, "does not take these options"),
        ({"times": [5, 9, 0]}, "must fall strictly"),
        ({"times": [500, 9, 0]}, "ends at T = 50"),
        ({"steps": 51}, "more than this model's chain has"),
        ({"steps": 0}, "one step at least"),
        ({"stepz": 3}, "no option 'stepz'"),
    ],
    ids=str,
)
def test_what_does_not_suit_is_refused_in_one_line(model: Model, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        model.walk(**given)
    assert "\n" not in str(refused.value)


def test_a_network_of_whole_times_is_asked_about_no_others() -> None:
    denoiser = Denoiser(RBF(RBFConfig(2, 2, steps=40, units=4)), Gaussian(LinearBeta.rescaled(40)))
    spec = DataSpec("points", (2,), False, (), "points", "", "")
    for spacing in ("uniform", "log-snr", "quadratic"):
        times = walk_of(denoiser, spec, How("ddim", 7, spacing)).grid.times
        assert torch.equal(times, times.round())
        assert len(times) == 8
    with pytest.raises(UserError, match="whole times alone"):
        walk_of(denoiser, spec, How("dpm++2s", 7))
