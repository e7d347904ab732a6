"""``torchrun … -m unstir sample``: several processes, the same files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TORCHRUN = str(Path(sys.executable).parent / "torchrun")


def test_two_processes_write_the_files_of_one(tmp_path: Path, digits_run: Path, unstir: Callable[..., Any]) -> None:
    line = ["sample", digits_run, "-n", 7, "--batch", 2, "--steps", 2, "--label", "each", "--out"]
    assert unstir(*line, tmp_path / "one").code == 0
    words = [str(word) for word in (*line, tmp_path / "two")]
    done = subprocess.run(
        [TORCHRUN, "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "unstir", *words],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("samples in") == 1, "one process speaks"
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert len(one) == 8
    assert one == two
