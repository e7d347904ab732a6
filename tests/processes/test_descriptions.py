from __future__ import annotations

import json

import pytest

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
