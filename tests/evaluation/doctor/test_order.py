"""Which of several findings is told first."""

from __future__ import annotations

import pytest

from unstir.evaluation.doctor import Diagnosis, Finding, Look


def look(name: str, rest: float = 1.0) -> Look:
    return Look(name, "said", {}, Finding(name, "text", "advice", {}), rest)


@pytest.mark.parametrize("undone", ["tint", "channels-swapped", "schedule-mismatch"])
def test_what_was_undone_leads_only_where_the_network_then_knows_something(undone: str) -> None:
    """A young network answers a constant too, and no last layer is to blame for it."""

    def told(rest: float) -> list[str]:
        looks = (look("samples-shifted"), look(undone, rest), look("untrained"), look("labels-unused"))
        return [finding.name for finding in Diagnosis(looks, "ema").findings]

    assert told(0.2) == [undone, "untrained", "labels-unused", "samples-shifted"]
    assert told(0.9) == ["untrained", undone, "labels-unused", "samples-shifted"]


def test_of_two_undone_the_one_that_explains_more_leads() -> None:
    looks = (look("tint", 0.5), look("channels-swapped", 0.3), look("weights-not-finite"))
    assert [f.name for f in Diagnosis(looks, "ema").findings] == ["weights-not-finite", "channels-swapped", "tint"]
