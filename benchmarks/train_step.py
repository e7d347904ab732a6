"""One training step of our U-Net beside its peers': forward, mean squared error, backward, AdamW, EMA.

Each row is a process of its own, and one step is asked of each in turn, A B C D A B C D …, so that a machine that is
slower for a while is slower for all of them. Times are medians, ratios are medians of the ratios within a round.

    ours               this package's U-Net and settings: bfloat16 autocast, the layout it asks for, fused AdamW
    diffusers          UNet2DModel, same architecture and parameter count, as in its train_unconditional.py: float32,
                       NCHW, AdamW, its EMAModel
    diffusers tuned    the same with what an expert would set: bfloat16 autocast, channels-last, fused AdamW, foreach EMA
    lucidrains         denoising-diffusion-pytorch's Unet with its defaults, at the width nearest in parameter count: float32,
                       NCHW, Adam, an average every tenth step

    python benchmarks/train_step.py --preset cifar10 --batch 16 --rounds 10
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from rates import PRECISIONS, clock_of, products
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unstir.errors import UserError
from unstir.networks import UNet, UNetConfig
from unstir.networks.layout import lay_out
from unstir.networks.presets import preset
from unstir.networks.unet2d import to_unet2d
from unstir.training.engine import keep_memory, peak_memory

Step = Callable[[], Tensor]

_SMALL = UNetConfig(3, 3, channels=64, multipliers=(1, 2, 2), blocks=2, middle_attention=False)
_ADM = {"time_embedding": "scale_shift", "resample": "block", "cosine_first": True, "frequency_shift": 0}

ARCHITECTURES: dict[str, tuple[UNetConfig, int]] = {
    # Networks that every peer can be given.
    "plain": (_SMALL, 32),
    "plain-4-groups": (replace(_SMALL, groups=4), 32),  # 16 channels in a group, where channels-last is fast
    "adm": (replace(_SMALL, attention=(1, 2), middle_attention=True, head_channels=32, **_ADM), 32),
    "cifar10": (preset("cifar10", (3, 32, 32)), 32),
    # The presets as they ship: where they fold a patch into channels, diffusers' network has none, and nearly as many parameters.
    "tiny-8": (preset("tiny", (1, 8, 8)), 8),
    "small-28": (preset("small", (1, 28, 28)), 28),
    "small-32": (preset("small", (3, 32, 32)), 32),
    "small-64": (preset("small", (3, 64, 64)), 64),
}


class Batch:
    """The same noise, times and targets for every row."""

    def __init__(self, config: UNetConfig, batch: int, size: int, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(batch, config.in_channels, size, size, generator=generator)
        self.target = torch.randn(batch, config.out_channels, size, size, generator=generator)
        self.time = torch.randint(0, 1000, (batch,), generator=generator)
        self.x, self.target, self.time = (v.to(device) for v in (self.x, self.target, self.time))

    def channels_last(self) -> Batch:
        other = object.__new__(Batch)
        other.x, other.target = (v.to(memory_format=torch.channels_last) for v in (self.x, self.target))
        other.time = self.time
        return other


def _step(
    network: Callable[[], Tensor], target: Tensor, optimizer: torch.optim.Optimizer, ema: Callable[[], None], amp: bool
) -> Step:
    def step() -> Tensor:
        with torch.autocast(target.device.type, torch.bfloat16, enabled=amp):
            output = network()
        loss = F.mse_loss(output.float(), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ema()
        return loss.detach()

    return step


def _lerp(model: nn.Module) -> Callable[[], None]:
    parameters: list[Tensor] = list(model.parameters())
    averages = [p.detach().clone() for p in parameters]
    return lambda: torch._foreach_lerp_(averages, parameters, 1e-3)


def ours(config: UNetConfig, batch: Batch) -> tuple[Step, nn.Module]:
    model = UNet(config).train().to(batch.x.device)
    lay_out(model)
    layout = model.memory_format
    x, target = batch.x.contiguous(memory_format=layout), batch.target.contiguous(memory_format=layout)
    seconds = batch.time.float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    return _step(lambda: model(x, seconds), target, optimizer, _lerp(model), amp=True), model


def unfolded(config: UNetConfig) -> UNetConfig:
    """The same network, without a patch folded into channels, which peers do not have: as many parameters, on more positions."""
    return replace(config, patch=1)


def diffusers(config: UNetConfig, batch: Batch) -> tuple[Step, nn.Module]:
    from diffusers import UNet2DModel
    from diffusers.training_utils import EMAModel

    model = UNet2DModel(**to_unet2d(unfolded(config))).train().to(batch.x.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    network = lambda: model(batch.x, batch.time).sample  # noqa: E731
    return _step(network, batch.target, optimizer, lambda: ema.step(model.parameters()), amp=False), model


def diffusers_tuned(config: UNetConfig, batch: Batch) -> tuple[Step, nn.Module]:
    from diffusers import UNet2DModel
    from diffusers.training_utils import EMAModel

    model = UNet2DModel(**to_unet2d(unfolded(config))).train().to(batch.x.device, memory_format=torch.channels_last)
    batch = batch.channels_last()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ema = EMAModel(model.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True)
    network = lambda: model(batch.x, batch.time).sample  # noqa: E731
    return _step(network, batch.target, optimizer, lambda: ema.step(model.parameters()), amp=True), model


def lucidrains(config: UNetConfig, batch: Batch) -> tuple[Step, nn.Module]:
    Unet = lucidrains_module().Unet
    wanted = sum(p.numel() for p in UNet(config).parameters())

    def made(width: int) -> nn.Module:
        return Unet(width, dim_mults=config.multipliers, channels=config.in_channels)

    def distance(width: int) -> int:
        with torch.device("meta"):
            return abs(sum(p.numel() for p in made(width).parameters()) - wanted)

    model = made(min(range(16, 257, 8), key=distance)).train().to(batch.x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99))
    lerp, calls = _lerp(model), iter(range(10**9))

    def ema() -> None:  # its trainer averages every tenth step
        if next(calls) % 10 == 0:
            lerp()

    return _step(lambda: model(batch.x, batch.time), batch.target, optimizer, ema, amp=False), model


def lucidrains_module() -> types.ModuleType:
    """denoising-diffusion-pytorch's main module."""
    # It imports torchvision and more at the top, for its data set and its quality measure: what is not there is not needed.
    stood_in = []
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils", "ema_pytorch", "pytorch_fid"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = _Stub(name)
            stood_in.append(name)
    try:
        return importlib.import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    finally:
        for name in stood_in:  # others ask whether torchvision is there
            del sys.modules[name]


class _Stub(types.ModuleType):
    # Any name asked of it is an empty class: enough for an import or a base class.
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


ROWS = {"ours": ours, "diffusers": diffusers, "diffusers tuned": diffusers_tuned, "lucidrains": lucidrains}


def work(name: str, arguments: argparse.Namespace) -> None:
    """A row in a process of its own: build, report its size, then time one step for each line that arrives."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if name == "ours" and arguments.keep_memory:
        keep_memory()
    config, size = ARCHITECTURES[arguments.preset]
    target = torch.device(arguments.device)
    try:
        batch = Batch(config, arguments.batch, arguments.size or size, arguments.device)
        before = (peak_memory(target) or math.nan) / 1e6
        step, model = ROWS[name](config, batch)
    except (ImportError, UserError) as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    operations = counted(step)
    step()
    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"parameters": parameters, "gflop": operations / 1e9}), flush=True)
    clock = clock_of(arguments.device, arguments.cpu_time)
    for _ in sys.stdin:
        start = clock()
        step()
        print(clock() - start, flush=True)
    print((peak_memory(target) or math.nan) / 1e6 - before, flush=True)


def counted(step: Step) -> int:
    """The operations of one step: its matrix products, convolutions and attention, forward and backward."""
    with FlopCounterMode(display=False) as flops:
        step()
    return flops.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=ARCHITECTURES, default="plain")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, help="height and width; default: the preset's")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="such as cuda")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--keep-memory", action=argparse.BooleanOptionalAction, default=True, help="glibc's setting in our row"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time: with --threads 1, for a machine that is busy"
    )
    parser.add_argument("--worker", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments)
        return

    workers: dict[str, subprocess.Popen[str]] = {}
    facts: dict[str, dict[str, float]] = {}
    for name in arguments.rows:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        fact = json.loads(_answer(worker))
        if "missing" in fact:
            print(f"{name:16} not measured: {fact['missing']}")
        else:
            workers[name], facts[name] = worker, fact

    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            seconds[name].append(float(_ask(worker)))
    memories: dict[str, float] = {}
    for name, worker in workers.items():
        memories[name] = float(worker.communicate()[0])
    torch.set_num_threads(arguments.threads)
    clock = clock_of(arguments.device, arguments.cpu_time)
    peak = max(products(precision, clock, arguments.device) for precision in PRECISIONS.values()) / 1e9

    size = arguments.size or ARCHITECTURES[arguments.preset][1]
    print(
        f"{arguments.preset}, batch {arguments.batch} of {size}×{size}, {arguments.rounds} rounds, "
        f"{arguments.threads} threads, {'processor' if arguments.cpu_time else 'wall'} time, torch {torch.__version__}"
    )
    print(f"matrix products reach {peak:.0f} GFLOP/s here; memory is the most that training took of it")
    print(
        f"{'':16} {'parameters':>11} {'ms/step':>9} {'images/s':>9} {'GFLOP/s':>8} {'of peak':>8} {'MB':>7} {'ours is':>9}"
    )
    for name, times in seconds.items():
        middle = median(times)
        ratio = median(a / b for a, b in zip(times, seconds.get("ours", times)))
        print(
            f"{name:16} {facts[name]['parameters']:11,} {middle * 1e3:9.1f} {arguments.batch / middle:9.1f} "
            f"{facts[name]['gflop'] / middle:8.0f} {facts[name]['gflop'] / middle / peak:8.1%} {memories[name]:7.0f} "
            f"{ratio:8.2f}×"
        )


def _ask(worker: subprocess.Popen[str]) -> str:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return _answer(worker)


def _answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker ended with status {worker.wait()}")
    return line


if __name__ == "__main__":
    main()
