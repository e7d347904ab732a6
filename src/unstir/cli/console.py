"""What commands say while they work: progress and messages on stderr, results on stdout.

Of several processes that ``torchrun`` started, the first speaks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def say(sentence: str) -> None:
    """One plain line on stderr."""
    if first():
        print(sentence, file=sys.stderr, flush=True)


def give(value: dict[str, Any]) -> None:
    """A result for machines: JSON on stdout."""
    if first():
        print(json.dumps(value), flush=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Around what writes a file, or files into a folder: an interrupt then says whether anything came of it."""
    before = _written(target)
    try:
        yield
    except KeyboardInterrupt:
        if _written(target) != before:
            raise KeyboardInterrupt(f"{target} may not be whole") from None
        raise


def _written(target: Path) -> dict[Path, tuple[int, int]]:
    facts = {path: path.stat() for path in (target, *target.glob("*")) if path.exists()}
    return {path: (fact.st_mtime_ns, fact.st_size) for path, fact in facts.items()}


@contextmanager
def bar(description: str, unit: str = "") -> Iterator[Callable[..., None]]:
    """A progress bar on a terminal; elsewhere a plain line now and then.

    Yields:
        ``update(done, total, note="")``.
    """
    if sys.stderr.isatty() and first():
        with _live(description, unit) as update:
            yield update
    else:
        yield _plain(description, unit)


@contextmanager
def _live(description: str, unit: str) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total or None, note=note)

        yield update


def _plain(description: str, unit: str, interval: float = 10.0) -> Callable[..., None]:
    begin = last = time.monotonic()
    ended = False
    before: int | None = None  # done at the last line: what an earlier sitting did says nothing of this one's speed

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal last, before, ended
        now = time.monotonic()
        before = done if before is None else before
        # The end is worth a line at once; after it something may still be measured.
        if now - last < interval and (ended or done != total or now - begin <= interval):
            return
        of = f" of {total:,}" if total else ""
        left = f", {(total - done) * (now - last) / (done - before):.0f} s left" if total and done > before else ""
        last, before, ended = now, done, done == total
        say(f"{description}: {done:,}{of} {unit}{left}{', ' + note if note else ''}")

    return update
