from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests import shape_checks

shape_checks.install()  # before anything imports what is to be checked

TINY_POINTS = """
[network]
width = 16
depth = 1

[schedule]
T = 50

[optimiser]
batch = 64

[hardware]
precision = "fp32"
"""


@pytest.fixture(scope="session", autouse=True)
def cache_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSTIR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits_run(cache_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the digits, barely trained; tests must not change it."""
    from tests import small

    return small.train(tmp_path_factory.mktemp("runs") / "digits", "digits", 320).path


@pytest.fixture(scope="session")
def points_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points in the plane with mean 50 and standard deviation 10 in each coordinate."""
    path = tmp_path_factory.mktemp("points") / "points.npy"
    np.save(path, np.random.default_rng(0).normal(50, 10, (3000, 2)).astype(np.float32))
    return path


@pytest.fixture(scope="session")
def points_run(cache_elsewhere: None, points_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the points; tests must not change it."""
    from tests import small

    path = tmp_path_factory.mktemp("runs") / "points"
    return small.train(path, str(points_file), 64 * 300, TINY_POINTS).path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def unstir(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command line, in this process."""

    def run(*words: object) -> Ended:
        from unstir.cli import main

        monkeypatch.setattr(sys, "argv", ["unstir", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        return Ended(code, *capsys.readouterr())

    return run
