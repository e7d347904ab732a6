from __future__ import annotations

import json
import math

import pytest
import torch

from unstir.processes import Binomial, Categorical, Gaussian, Process, from_description
from unstir.schedules import InverseTime

SCHEDULE = InverseTime(4)


@pytest.mark.parametrize(
    "process",
    [Gaussian(SCHEDULE), Binomial(SCHEDULE, 0.2), Categorical(SCHEDULE, 7), Categorical(SCHEDULE, 3, "absorbing")],
)
def test_a_description_makes_the_process_again(process: Process) -> None:
    """Through JSON, as a run's files hold it."""
    description = json.loads(json.dumps(process.describe()))
    again = from_description(description, SCHEDULE)
    assert type(again) is type(process)
    assert again.schedule is SCHEDULE
    assert again.describe() == process.describe()
    assert description == json.loads(json.dumps(process.describe())), "the description was changed"


def test_what_was_described_is_what_comes() -> None:
    process = from_description({"name": "binomial", "prior": 0.2}, SCHEDULE)
    assert isinstance(process, Binomial)
    assert process.pi == 0.2
    process = from_description({"name": "categorical", "classes": 3, "kind": "absorbing"}, SCHEDULE)
    assert isinstance(process, Categorical)
    assert (process.classes, process.states) == (3, 4)


@pytest.mark.parametrize("description", [{"name": "poisson"}, {}])
def test_an_unknown_process_is_answered_with_the_known_ones(description: dict) -> None:
    with pytest.raises(ValueError, match="gaussian, binomial, categorical"):
        from_description(description, SCHEDULE)


def test_every_process_says_how_it_wants_to_be_used() -> None:
    for process in (Binomial(SCHEDULE), Categorical(SCHEDULE, 3)):
        assert (process.decoder, process.prediction, process.sampler) == ("reverse", "logits", "ancestral")
        assert not process.continuous


GAUSSIAN, BITS, UNIFORM = Gaussian(SCHEDULE), Binomial(SCHEDULE), Categorical(SCHEDULE, 3)


@pytest.mark.parametrize("process", [GAUSSIAN, BITS, UNIFORM, Categorical(SCHEDULE, 3, "absorbing")])
def test_times_outside_the_chain_are_refused(process: Process) -> None:
    """As numbers and as tensors; else a table would be read beyond its end, and a variance come out below 0."""
    x = torch.zeros(2, 3, dtype=torch.int64 if isinstance(process, Categorical) else torch.float32)
    for t in (5, -1, 4.5, math.nan, torch.tensor([1.0, 5.0]), torch.tensor([math.nan, 1.0])):
        for call in (
            lambda t=t: process.marginal(x, t),
            lambda t=t: process.step(x, 0, t),
            lambda t=t: process.posterior(x, x, 0, t),
            lambda t=t: process.step_entropy(x, 0, t),
        ):
            with pytest.raises(ValueError, match=r"lies outside 0 … 4"):
                call()
    for call in (lambda: process.step(x, 3, 2), lambda: process.posterior(x, x, torch.tensor([1.0, 3.0]), 2)):
        with pytest.raises(ValueError, match="lies after t = 2"):
            call()


def test_whole_numbers_are_not_taken_for_real_ones() -> None:
    """alpha would be rounded to 0, and every level to nothing."""
    x = torch.tensor([[3, 4]])
    for call in (
        lambda: GAUSSIAN.marginal(x, 2),
        lambda: GAUSSIAN.step(x, 1, 2),
        lambda: GAUSSIAN.posterior(x, x, 1, 2),
    ):
        with pytest.raises(ValueError, match=r"real numbers, not torch\.int64"):
            call()
