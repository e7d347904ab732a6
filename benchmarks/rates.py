"""How long work takes, by the clock that suits it, and the rate of matrix products that a machine reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]

SIDES = (512, 1024, 2048)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def clock_of(device: str, cpu_time: bool) -> Clock:
    """Seconds of the wall or of this process; of an accelerator once all that was asked of it is done."""
    if device == "cpu":
        return time.process_time if cpu_time else time.perf_counter

    def clock() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return clock


def products(precision: torch.dtype, clock: Clock, device: str = "cpu", rounds: int = 5) -> float:
    """The largest rate of square matrix products that is seen, operations a second: other work only ever lowers it."""
    rates = []
    for n in SIDES:
        a, b = (torch.randn(n, n, device=device).to(precision) for _ in range(2))
        rates.append(2 * n**3 / min(timed(lambda a=a, b=b: a @ b, clock, rounds)))
    return max(rates)


def timed(work: Callable[[], object], clock: Clock, rounds: int) -> list[float]:
    """Seconds of each of some rounds, after one that is not counted."""
    work()
    seconds = []
    for _ in range(rounds):
        begin = clock()
        work()
        seconds.append(clock() - begin)
    return seconds
