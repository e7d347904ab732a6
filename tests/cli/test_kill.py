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
MANY = 24_000  # for hundreds of kills, each after some updates

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts the line that trains into a folder: with labels, some of them hidden, dropout, and mirrored pictures."""
    settings = tmp_path_factory.mktemp("settings") / "small.toml"
    settings.write_text(small.TOML)

    def begin(out: Path, images: int = IMAGES, seconds: float = 0.1, **options: object) -> subprocess.Popen[str]:
        line = [
            "train",
            "digits",
            "--flip",
            "--augment",
            "0.3",
            "--averages",
            "4",
            "--images",
            str(images),
            "--checkpoint-seconds",
            str(seconds),
        ]
        line += ["--config", str(settings)]
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
    err = process.communicate(timeout=300)[1]
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


def kill(start: Start, out: Path, seen: int, **options: object) -> tuple[int, bool]:
    """Kills a sitting some time after its first checkpoint; the images of the newest one then, and whether a write was cut off."""
    process = start(out, **options)
    wait_past(process, out, seen)
    time.sleep(random.uniform(0, 0.1))
    process.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err
    assert not (out / "model.safetensors").exists(), "killed too late to mean anything"
    if seen:
        assert f"continuing from {seen:,} images" in err, "it began past image 0, where the kill before left it"
    return newest(out), bool(list((out / "checkpoints").glob(".*")))


@pytest.mark.timeout(900)
def test_killed_five_times_it_ends_in_the_same_bits(start: Start, whole: bytes, tmp_path: Path) -> None:
    out, seen = tmp_path / "run", 0
    for seconds in (0.1, 0.0, 0.0, 0.0, 0.1):  # with 0 it writes most of the time, so kills come amid writing
        seen, _ = kill(start, out, seen, seconds=seconds)
        assert 0 < seen < IMAGES
    finish(start, out, whole)


def test_stopped_twice_it_ends_in_the_same_bits(start: Start, whole: bytes, tmp_path: Path) -> None:
    out, seen = tmp_path / "run", 0
    for number in (signal.SIGTERM, signal.SIGINT):
        process = start(out)
        wait_past(process, out, seen)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert not seen or f"continuing from {seen:,} images" in err
        stopped = re.search(r"stopped and saved at ([\d,]+) images; the same line continues", err)
        assert stopped is not None, err
        seen = int(stopped[1].replace(",", ""))
        assert newest(out) == seen
        assert 0 < seen < IMAGES
    finish(start, out, whole)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_killed_two_hundred_times_it_ends_in_the_same_bits(start: Start, tmp_path: Path) -> None:
    whole, out, seen, cut = tmp_path / "whole", tmp_path / "run", 0, 0
    undisturbed = start(whole, images=MANY)
    _, err = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, err
    for _ in range(200):
        seen, amid = kill(start, out, seen, images=MANY, seconds=random.choice((0.0, 0.02, 0.1)))
        assert 0 < seen < MANY
        cut += amid
    print(f"200 kills, {cut} of them amid the writing of a checkpoint, the last at {seen:,} images")
    assert cut > 0
    finish(start, out, (whole / "model.safetensors").read_bytes(), images=MANY)


@pytest.mark.slow
def test_killed_at_any_instant_from_the_first_import_on(start: Start, whole: bytes, tmp_path: Path) -> None:
    for _ in range(15):
        process = start(tmp_path / "run")
        time.sleep(random.uniform(0, 5))
        process.kill()
        process.communicate()
    finish(start, tmp_path / "run", whole)


def finish(start: Start, out: Path, whole: bytes, **options: object) -> None:
    process = start(out, **options)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert (out / "model.safetensors").read_bytes() == whole
    if "is finished" not in err:
        left = [path.name for path in out.rglob(".*") if path.name != ".training"]
        assert not left, "what the kills left is cleared away"


def test_a_full_disk_is_said_in_one_line(start: Start, tmp_path: Path) -> None:
    limit = 20_000  # bytes a file: the weights do not fit
    process = start(tmp_path / "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("unstir: the checkpoint could not be written")
    assert newest(tmp_path / "run") == 0
