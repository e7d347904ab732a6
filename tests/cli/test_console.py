"""Progress where there is no terminal: a plain line now and then, and one at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from unstir.cli import console

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """The lines of so many seconds in which each second tells what is done by then."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)

    def lines(seconds: int, done: Callable[[int], int], total: int, unit: str = "", note: str = "") -> list[str]:
        nonlocal now
        with console.bar("work", unit) as update:
            for now in range(seconds):
                update(done(now), total, note)
        return capsys.readouterr().err.splitlines()

    return lines


def test_a_line_every_ten_seconds_and_one_at_the_end(shown: Shown) -> None:
    lines = shown(100, lambda now: min(now, 53), 53, "things", "a note")
    assert lines[0] == "work: 10 of 53 things, 43 s left, a note"
    # At 10, 20, … 50, at the end (53), and then again every ten seconds while something follows the end.
    assert [int(line.split()[1]) for line in lines] == [10, 20, 30, 40, 50, 53, 53, 53, 53, 53]


def test_short_work_says_nothing(shown: Shown) -> None:
    assert shown(9, lambda now: now, 8) == []


def test_the_time_left_forgets_what_was_done_before(shown: Shown) -> None:
    """A run that goes on tells late how far it had come: a jump, that is no speed."""
    lines = shown(31, lambda now: 0 if now < 5 else 1000 + now, 2000)
    assert [line.split(", ")[-1] for line in lines][1:] == ["980 s left", "970 s left"]
