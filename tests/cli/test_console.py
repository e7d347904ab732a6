"""Progress where there is no terminal: a plain line now and then, and one at the end."""

from __future__ import annotations

import sys

import pytest

from unstir.cli import console


def test_a_line_every_ten_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with console.bar("work", "things") as update:
        for now in range(100):
            update(min(now, 53), 53, "a note")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 10 of 53 things, 43 s left, a note"
    # At 10, 20, … 50, at the end (53), and then again every ten seconds while something follows the end.
    assert [int(line.split()[1]) for line in lines] == [10, 20, 30, 40, 50, 53, 53, 53, 53, 53]


def test_short_work_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with console.bar("work") as update:
        for now in range(9):
            update(now, 8)
    assert capsys.readouterr().err == ""


def test_the_time_left_forgets_what_was_done_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that goes on tells late how far it had come: a jump, that is no speed."""
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with console.bar("work") as update:
        for now in range(31):
            update(0 if now < 5 else 1000 + now, 2000)
    assert [line.split(", ")[-1] for line in capsys.readouterr().err.splitlines()][1:] == ["980 s left", "970 s left"]
