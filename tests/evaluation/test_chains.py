"""Short chains and fitted variances of whole models, and the sentence about a chain that does not end in noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests import small
from tests.evaluation.test_likelihood import GaussianEps, pixel_model, pixels
from unstir import schedules
from unstir.bound import best_times
from unstir.data import DataSpec, Split
from unstir.denoisers import AnalyticVariance, Denoiser
from unstir.errors import UserError
from unstir.evaluation import chains
from unstir.evaluation.likelihood import measure
from unstir.noise import NoiseSource
from unstir.processes import Binomial, Gaussian
from unstir.runs import Model


def bits_model(prediction: str = "logits", T: int = 12, schedule: str = "inverse_time") -> Model:
    """Bits whose network always says that both values are as likely."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: object = None) -> torch.Tensor:
            return torch.zeros_like(x)

    process = Binomial(schedules.from_description({"name": schedule, "T": T}), prior=0.5)
    return Model(
        Denoiser(Half(), process, prediction), DataSpec("bits", (4,), False, (), "here", "", ""), small.config()
    )


def bits(number: int = 20) -> Split:
    spec = bits_model().spec
    return Split(np.random.default_rng(0).random((number, 4)) < 0.3, None, spec.codec)


@pytest.mark.parametrize("batch", [7, 64])
def test_the_best_chain_is_that_of_the_bounds_own_terms(batch: int) -> None:
    model, split = pixel_model(12), pixels()
    found = chains.times(model, lambda: split, 5, "best", images=30, seed=3, batch=batch)
    x0 = model.inside(split.x)
    assert found == best_times(model.bounded, x0, 5, noise=NoiseSource(3, range(30)))
    assert found[-1] == 12


def test_it_is_better_than_the_other_spacings_where_it_was_chosen() -> None:
    model, split = pixel_model(24), pixels(400)
    totals = {}
    for spacing in ("best", "uniform", "trailing", "log-snr"):
        times = chains.times(model, lambda: split, 4, spacing, images=400, batch=400)
        assert len(times) == 4
        assert times == sorted(times)
        assert times[-1] == 24
        result = measure(model, split, images=400, terms=None, times=times, spacing=spacing, batch=400)
        assert result.chain == result.calls == 4
        assert result.times == tuple(times)
        assert "all 4 terms" in result.table()
        totals[spacing] = result.total
    assert totals["best"] == min(totals.values())
    assert (
        "the best 4 steps, found on training data: t = "
        in measure(model, split, images=4, terms=None, times=[1, 2, 20, 24], spacing="best").table()
    )


def test_only_the_best_chain_reads_training_data() -> None:
    def never() -> Split:
        raise AssertionError

    assert chains.times(pixel_model(), never, 2, "trailing") == [20, 40]


def test_the_whole_chain_is_the_bound_as_ever() -> None:
    model, split = pixel_model(12), pixels()
    times = chains.times(model, lambda: split, 12, "best")
    assert measure(model, split, terms=None, times=times).total == measure(model, split, terms=None).total


@pytest.mark.parametrize("batch", [7, 64])
def test_the_fitted_variance_makes_few_steps_better(batch: int) -> None:
    model, split = pixel_model(), pixels()
    times = [1, 5, 15, 40]
    before = measure(model, split, terms=None, times=times)
    chains.fit_variance(model, split, images=30, batch=batch)
    after = measure(model, split, terms=None, times=times)
    assert after.total < before.total - 0.01
    assert (before.variance, after.variance) == ("", "analytic, fitted on training data")
    assert "fitted on training data" in after.table()
    assert isinstance(model.denoiser.variance, AnalyticVariance)


def test_what_cannot_be_done_is_said_before_any_data_is_read() -> None:
    model = pixel_model()
    for steps, spacing, words in ((0, None, "1 to"), (41, None, "1 to"), (None, "best", "--steps")):
        with pytest.raises(UserError, match=words):
            chains.check(model, steps, spacing)
    chains.check(model, 40, "best")
    chains.check(model, None, None)
    one_by_one = bits_model("reverse")
    with pytest.raises(UserError, match="single steps"):
        chains.check(one_by_one, 5, None)
    chains.check(one_by_one, 12, None)
    with pytest.raises(UserError, match="bits and symbols"):
        chains.check_variance(bits_model())
    with pytest.raises(UserError, match="itself"):
        chains.check_variance(
            replace(model, denoiser=Denoiser(nn.Linear(1, 1), Gaussian(schedules.Cosine(4)), variance="free"))
        )


def test_bits_have_their_best_chain() -> None:
    found = chains.times(bits_model(), bits, 3, "best")
    assert len(found) == 3
    assert found[-1] == 12


def test_a_run_whose_variance_is_analytic_is_sampled_without_noise() -> None:
    model = pixel_model()
    model.denoiser.variance = "analytic"
    assert model.sample(2, steps=3).shape == (2, 2, 3, 1)
    with pytest.raises(UserError, match="ddim"):
        model.sample(2, steps=3, sampler="ancestral")
    chains.fit_variance(model, pixels())
    assert model.sample(2, steps=3, sampler="ancestral").shape == (2, 2, 3, 1)


# --- what is left at T ------------------------------------------------------------------------------------------------


def test_a_chain_that_does_not_end_in_noise_is_reported_with_the_number() -> None:
    process = Gaussian(schedules.LinearBeta(50))  # the betas of 1000 steps, of which only 50 are taken
    model = replace(pixel_model(), denoiser=Denoiser(GaussianEps(process.schedule, 0.4), process, "eps", "large"))
    result = measure(model, pixels(), terms=None)
    assert result.prior > 1e-3
    assert result.prior_report is not None
    assert f"{result.prior:.3g} bits/dim" in result.prior_report
    assert result.prior_report in result.table()
    assert measure(pixel_model(), pixels(), terms=3).prior_report is None


def test_of_bits_too() -> None:
    assert measure(bits_model(), bits()).prior_report is None
    left = bits_model(T=5)
    left.denoiser.process.schedule = schedules.FromBetas(torch.full((5,), 0.1))
    result = measure(left, bits())
    assert result.unit == "bits/item"
    assert result.prior_report is not None
    assert f"{result.prior / 4:.3g} bits/dim" in result.prior_report
    assert math.isfinite(result.total)
