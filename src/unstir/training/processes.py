"""The processes that train one network together: which one this is, and how they come to agree.

What is trained on is fixed by the configuration and by global image indices; a process picks its share of them, see
``batches.pieces``. The first process speaks and writes, and where clocks or measurements decide, it decides for all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from unstir.errors import UserError

PATIENCE = timedelta(hours=12)
"""How long the others wait while one process reads data, measures or draws. Whoever died is noticed by ``torchrun`` long before."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """This process's number among how many, and its number on this machine; by default it is alone."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def agreed(self, value: Result) -> Result:
        """The first process's value."""
        if self.world == 1:
            return value
        box: list[Any] = [value if self.first else None]
        with _together():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is raised by any process."""
        if self.world == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        with _together():
            distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a number over the processes, the same in each."""
        if self.world == 1:
            return value
        value = value.detach().clone()
        with _together():
            distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Until all are here."""
        self.any(False)

    def gathered(self, value: Result) -> list[Result]:
        """Every process's value, in the order of their numbers."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with _together():
            distributed.all_gather_object(values, value)
        return values

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """What ``work`` gives here: the first process does it first, then one on each machine, then the rest.

        So what one leaves on a disk, the others find there. Where the first fails, the others end without a word of their own:
        it has said why.
        """
        turn = 0 if self.first else 1 if self.local == 0 else 2
        result, problem = None, None
        for now in range(3):
            if now == turn:
                try:
                    result = work()
                except UserError as error:
                    problem = error
            (failed,) = self.any(problem is not None)
            if problem is not None:
                raise problem
            if failed:
                raise SystemExit(2)
        return result  # pyright: ignore[reportReturnType]


def place_among_processes() -> tuple[int, int]:
    """This process's number and how many there are, as ``torchrun`` tells them; (0, 1) where nobody does."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join() -> Processes:
    """The processes that ``torchrun`` or ``accelerate launch`` started, now in touch with each other."""
    rank, world = place_among_processes()
    if world == 1:
        return Processes()
    if not distributed.is_initialized():
        # Decisions are numbers on the CPU whatever the network runs on, so that no accelerator is waited for.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=PATIENCE)
    return Processes(rank, world, int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    """The end of what :func:`join` began, where all have come to an orderly end."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Another process's end is not this one's fault, and its own message says what was wrong."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"another process of this training ended: see its message ({_first_line(error)})") from None


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
