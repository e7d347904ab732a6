"""A run that is killed or interrupted, and started again with the same line, ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import small

UNSTIR = Path(sys.executable).with_name("unstir")
IMAGES = 1600

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts the line that trains into a folder."""
    settings = tmp_path_factory.mktemp("settings") / "small.toml"
    settings.write_text(small.TOML)

    def begin(out: Path, **options: object) -> subprocess.Popen[str]:
        line = ["train", "digits", "--images", str(IMAGES), "--checkpoint-seconds", "0.1", "--config", str(settings)]
        return subprocess.Popen(
            [str(UNSTIR), *line, "--out", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            **options,  # type: ignore[call-overload]
        )

    return begin


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights' file of the run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(out)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 0, err
    return (out / "model.safetensors").read_bytes()


def newest(out: Path) -> int:
    """The image count of the newest checkpoint, 0 when there is none."""
    return max((int(p.name.removeprefix("step-")) for p in (out / "checkpoints").glob("step-*")), default=0)


def wait_past(process: subprocess.Popen[str], out: Path, images: int) -> None:
    """Returns once a checkpoint newer than so many images is there."""
    deadline = time.monotonic() + 60
    while newest(out) <= images:
        assert process.poll() is None, f"ended too early: {process.communicate()[1]}"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_disturbed_at_random_moments_it_ends_in_the_same_bits(start: Start, whole: bytes, tmp_path: Path) -> None:
    out, seen = tmp_path / "run", 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = start(out)
        wait_past(process, out, seen)
        moment = random.uniform(0, 0.1)
        time.sleep(moment)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        if seen:
            assert f"continuing from {seen:,} images" in err
        if number == signal.SIGKILL:
            assert process.returncode == -number, (moment, err)
            assert not (out / "model.safetensors").exists(), "killed too late to mean anything"
            seen = newest(out)
        else:
            assert process.returncode == 130, err
            stopped = re.search(r"stopped and saved at ([\d,]+) images; the same line continues", err)
            assert stopped is not None, err
            seen = int(stopped[1].replace(",", ""))
            assert newest(out) == seen
        assert 0 < seen < IMAGES
    finish(start, out, whole)


@pytest.mark.slow
def test_killed_at_any_instant_from_the_first_import_on(start: Start, whole: bytes, tmp_path: Path) -> None:
    for _ in range(15):
        process = start(tmp_path / "run")
        time.sleep(random.uniform(0, 5))
        process.kill()
        process.communicate()
    finish(start, tmp_path / "run", whole)


def finish(start: Start, out: Path, whole: bytes) -> None:
    process = start(out)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (out / "model.safetensors").read_bytes() == whole
    if "is finished" not in err:
        assert not list(out.rglob("*.writing")), "what the kills left is cleared away"


def test_a_full_disk_is_said_in_one_line(start: Start, tmp_path: Path) -> None:
    limit = 20_000  # bytes a file: the weights do not fit
    process = start(tmp_path / "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("unstir: the checkpoint could not be written")
    assert newest(tmp_path / "run") == 0
