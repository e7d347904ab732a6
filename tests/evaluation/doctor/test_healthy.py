"""Healthy runs raise no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.doctor import patients


@pytest.mark.parametrize("kind", ["digits", "colours", "points", "bits"])
def test_no_false_alarm(kind: str, healthy: dict[str, Path]) -> None:
    found = patients.look(healthy[kind])
    assert found.findings == (), found.table()
    assert found.healthy
    looked_at = {look.name for look in found.looks}
    assert {
        "weights",
        "averages",
        "data",
        "learned",
        "high noise",
        "end of the chain",
        "grid",
        "samples",
        "copies",
    } <= looked_at
    facts = patients.as_json(found)
    assert facts["healthy"] is True
    assert len(facts["checked"]) == len(found.looks)
