"""The engine: device, precision and layout. The only place that knows about them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from unstir.denoisers import Denoiser
from unstir.networks.layout import lay_out

PRECISIONS = ("fp32", "bf16")
LAYOUTS = ("contiguous", "channels-last")


@dataclass(frozen=True)
class Engine:
    """How the network is run.

    Args:
        precision: ``bf16`` runs the network's products under autocast; weights, loss, averages and optimizer stay float32.
        layout: the memory order of images and convolution weights.
        threads: of the processor; 0 leaves torch's own choice, as many as there are cores.
    """

    device: torch.device
    precision: str = "fp32"
    layout: str = "contiguous"
    compiled: bool = False
    threads: int = 0

    @property
    def name(self) -> str:
        return f"{self.precision} {self.layout}" + (f" on {self.threads} of the cores" if self.threads else "")

    def settle(self) -> None:
        """Makes this process use the engine's threads."""
        if self.threads:
            torch.set_num_threads(self.threads)

    def place(self, denoiser: Denoiser) -> None:
        """Puts the denoiser on the device, in the layout, its network compiled where that was asked for."""
        denoiser.to(self.device)
        if self.compiled:
            # The network, since that is what is called: compiling the denoiser around it would change nothing.
            denoiser.network.compile()
        lay_out(denoiser, self._format)

    def send(self, x: Tensor) -> Tensor:
        """A batch on the device, in the layout."""
        x = x.to(self.device, non_blocking=True)
        return x.contiguous(memory_format=self._format) if x.ndim == 4 else x

    def autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @property
    def _format(self) -> torch.memory_format:
        return torch.channels_last if self.layout == "channels-last" else torch.contiguous_format


def default_device() -> torch.device:
    """The accelerator where there is one that knows float64, which coefficients and noise are computed in; else the CPU."""
    device = PartialState().device
    assert device is not None
    return torch.device("cpu") if device.type == "mps" else device


def keep_memory() -> None:
    """Tells glibc to keep freed memory instead of giving it back after every step.

    Otherwise each step's large activations are mapped and unmapped anew, and the page faults cost a share of the step.
    Elsewhere than on glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # the names' numbers in malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)
        libc.mallopt(top_pad, 64 << 20)


def alternatives(device: torch.device, precision: str, layout: str, compile_: str, images: bool) -> list[Engine]:
    """The engines worth measuring, given what the user fixed; ``auto`` leaves both ways open."""
    precisions = PRECISIONS if precision == "auto" else (precision,)
    layouts = (LAYOUTS if layout == "auto" else (layout,)) if images else ("contiguous",)
    # Compiling takes minutes that a short run does not earn back, so auto leaves it off.
    compiled = compile_ == "on"
    # Small layers gain little from a second core, and where something else keeps it busy each layer waits for the slower
    # one: a step can then take ten times as long on two cores as on one.
    cores = torch.get_num_threads()
    threads = (cores, 1) if device.type == "cpu" and cores > 1 else (0,)
    return [Engine(device, p, shape, compiled, n) for n, p, shape in itertools.product(threads, precisions, layouts)]


def fastest(
    engines: list[Engine], step: Callable[[Engine], Callable[[], None]], rounds: int = 3
) -> tuple[Engine, dict[str, float]]:
    """The engine whose training step takes the least time, measured in turn so that the machine's drift hits all alike.

    Args:
        step: given an engine, makes a function that does one training step.

    Returns:
        The engine, and the median milliseconds of each.
    """
    if len(engines) == 1:
        return engines[0], {}
    steps = [step(engine) for engine in engines]
    for engine, run in zip(engines, steps, strict=True):
        engine.settle()
        run()
    taken: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, run, times in zip(engines, steps, taken, strict=True):
            engine.settle()
            times.append(seconds(run, engine.device))
    medians = [1000 * statistics.median(times) for times in taken]
    names = [engine.name for engine in engines]
    return engines[medians.index(min(medians))], dict(zip(names, medians, strict=True))


def usual(engines: list[Engine]) -> Engine:
    """The engine to take where none can be measured: half precision on an accelerator, else full, with the first layout."""
    precision = PRECISIONS[0] if engines[0].device.type == "cpu" else PRECISIONS[1]
    return next((engine for engine in engines if engine.precision == precision), engines[0])


def measured(milliseconds: dict[str, float]) -> str:
    """What :func:`fastest` found, in words."""
    return ", ".join(f"{name} {value:.0f} ms" for name, value in milliseconds.items())


def recorded(facts: dict[str, Any]) -> Engine:
    """The engine that a run's ``engine.json`` speaks of, on this machine's device."""
    return Engine(default_device(), facts["precision"], facts["layout"], facts["compiled"], facts.get("threads", 0))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long this takes, to its end on the device."""
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begin


def peak_memory(device: torch.device) -> int | None:
    """The most memory that this process has held, in bytes: of the device, or of the machine where that is a processor.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage counts what the parent held when this process was started.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(lines["VmHWM"].split()[0])
    try:
        import resource
    except ImportError:
        return None  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
