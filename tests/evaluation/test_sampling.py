"""Samples drawn for measuring are those that anyone can draw, whatever is computed beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from unstir.errors import UserError
from unstir.evaluation.sampling import Sampling, draw
from unstir.runs import load


class Means:
    """A row's mean."""

    name, hash, rule = "means", "0" * 64, "as they are"

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).double().mean(1, keepdim=True)


def test_features_belong_to_their_samples_whatever_the_batch(digits_run: Path) -> None:
    model = load(digits_run)
    how = Sampling.of(model, steps=3, label="each", guidance=1.5, seed=4)
    whole = model.sample(10, steps=3, label="each", guidance=1.5, seed=4)
    for batch in (1, 3, 64):
        drawn = draw(model, 10, Means(), how, batch=batch)
        # A level may fall to the other side of rounding in a batch of another size.
        assert np.abs(drawn.x.astype(int) - whole).max() <= 1
        assert torch.allclose(drawn.features, Means()(model.inside(drawn.x)), atol=1e-12)
    assert drawn.described == "dpm++2m, 3 steps spread log-snr:last=1, label each, guidance 1.5, seed 4, ema weights"


def test_progress_counts_every_sample_once(digits_run: Path) -> None:
    seen: list[tuple[int, int]] = []
    model = load(digits_run)
    draw(model, 7, Means(), Sampling.of(model, steps=1), batch=3, progress=lambda *done: seen.append(done))
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_what_is_left_open_is_the_models_own(digits_run: Path) -> None:
    model = load(digits_run)
    assert Sampling.of(model) == Sampling("dpm++2m", model.steps, "log-snr:last=1")
    assert Sampling.of(model).described == f"dpm++2m, {model.steps} steps spread log-snr:last=1, seed 0"


def test_a_failing_extractor_is_heard(digits_run: Path) -> None:
    class Broken(Means):
        def __call__(self, x: Tensor) -> Tensor:
            raise UserError("these features fail")

    model = load(digits_run)
    with pytest.raises(UserError, match="these features fail"):
        draw(model, 40, Broken(), Sampling.of(model, steps=1), batch=4)


def test_no_steps_are_refused(digits_run: Path) -> None:
    with pytest.raises(UserError, match="one step at least, not 0"):
        Sampling.of(load(digits_run), steps=0)
