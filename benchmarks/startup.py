"""How long until a command answers: ours beside the peers', interleaved.

    python benchmarks/startup.py [--rounds 15]

Each row is a whole process, from the shell's point of view. Peers that are not installed are left out, and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
COMMANDS = {
    "unstir --help": [str(BIN / "unstir"), "--help"],
    "unstir train --help": [str(BIN / "unstir"), "train", "--help"],
    "import unstir": [sys.executable, "-c", "import unstir"],
    "accelerate --help": [str(BIN / "accelerate"), "--help"],
    "diffusers-cli --help": [str(BIN / "diffusers-cli"), "--help"],
    "import diffusers": [sys.executable, "-c", "import diffusers"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    there = {name: command for name, command in COMMANDS.items() if _there(name, command)}
    seconds: dict[str, list[float]] = {name: [] for name in there}
    for command in there.values():
        subprocess.run(command, capture_output=True, check=True)
    for _ in range(rounds):
        for name, command in there.items():
            begin = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - begin)
    ours = seconds["unstir --help"]
    print(f"{'':<24} {'median s':>9} {'min s':>7} {'ratio to unstir --help':>24}")
    for name, values in seconds.items():
        ratio = statistics.median(theirs / mine for theirs, mine in zip(values, ours))
        print(f"{name:<24} {statistics.median(values):9.3f} {min(values):7.3f} {ratio:24.2f}")
    for name in COMMANDS.keys() - there.keys():
        print(f"{name}: not installed")


def _there(name: str, command: list[str]) -> bool:
    if "diffusers" in name and importlib.util.find_spec("diffusers") is None:
        return False
    return Path(command[0]).exists()


if __name__ == "__main__":
    main()
