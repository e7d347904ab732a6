"""Sampling: what a sampler costs beside its network, and a walk of ours beside diffusers' with the very same network.

First one network call of one of our presets in each precision and layout, and the noise of one step. Then each sampler draws a
batch with it, and the time outside the network is given as a share of the whole. Then one walk of ours and one of diffusers'
pipeline in turn, A B A B …: the same architecture, the same weights, the same number of network calls. Times are medians, ratios
medians of the ratios within a round.

    python benchmarks/sampling.py --preset small-32 --batch 64
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from train_step import ARCHITECTURES

from unstir import samplers
from unstir.denoisers import Autocast, Clipped, Denoiser, DenoiserBase
from unstir.networks import UNet
from unstir.networks.layout import lay_out
from unstir.networks.unet2d import to_unet2d
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers import Grid
from unstir.schedules import LinearBeta
from unstir.training.engine import keep_memory


class Timed(nn.Module):
    """A network that adds up the time spent in it."""

    def __init__(self, network: nn.Module, clock: Callable[[], float]) -> None:
        super().__init__()
        self.network, self.clock, self.seconds = network, clock, 0.0

    def forward(self, *arguments: object) -> Tensor:
        begin = self.clock()
        out = self.network(*arguments)
        self.seconds += self.clock() - begin
        return out


def network_of(preset: str) -> tuple[UNet, tuple[int, int, int]]:
    """A U-Net of random weights, none of them zero, and the shape of its pictures."""
    torch.manual_seed(0)
    config, size = ARCHITECTURES[preset]
    network = UNet(config).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network, (config.in_channels, size, size)


def forms(arguments: argparse.Namespace) -> None:
    """One network call in each precision and layout, in turn, and the normal numbers of a step."""
    network, shape = network_of(arguments.preset)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    x, t = torch.randn(arguments.batch, *shape), torch.full((arguments.batch,), 500.0)
    source = NoiseSource(0, range(arguments.batch))
    layouts = {"contiguous": torch.contiguous_format, "as the network likes it": network.memory_format}
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.rounds + 1):
        for precision in ("float32", "bfloat16"):
            for layout, memory_format in layouts.items():
                lay_out(network, memory_format)
                begin = clock()
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    network(x, t)
                seconds.setdefault(f"{precision}, {layout}", []).append(clock() - begin)
        begin = clock()
        source.normal(shape, "step", 1)
        seconds.setdefault("normal numbers of a step", []).append(clock() - begin)
    for name, times in seconds.items():
        print(f"{name:38} {1e3 * median(times[1:]):8.1f} ms")


def overhead(arguments: argparse.Namespace) -> None:
    network, shape = network_of(arguments.preset)
    lay_out(network)
    process = Gaussian(LinearBeta())
    grid = Grid.uniform(process.schedule, arguments.steps)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    timed = Timed(network, clock)
    denoiser = Clipped(Denoiser(timed, process))
    names = [name for name in samplers.NAMES if name not in ("adaptive", "tau")]
    shares: dict[str, list[float]] = {name: [] for name in names}
    wholes: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            solver = samplers.get(name)
            timed.seconds, begin = 0.0, clock()
            samplers.sample(denoiser, solver, grid, (arguments.batch, *shape))
            whole = clock() - begin
            shares[name].append(1 - timed.seconds / whole)
            calls = solver.calls(arguments.steps)
            assert calls is not None
            wholes[name].append(whole / calls)
    print(
        f"{arguments.preset}, batch {arguments.batch} of {'×'.join(map(str, shape))}, {arguments.steps} steps, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'sampler':14} {'ms a network call':>18} {'outside the network':>20}")
    for name in names:
        print(f"{name:14} {1e3 * median(wholes[name]):18.1f} {median(shares[name]):20.2%}")


def beside(arguments: argparse.Namespace) -> None:
    try:
        from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
    except ImportError as error:
        print(f"diffusers not measured: {error}")
        return
    network, shape = network_of(arguments.peer_preset)
    theirs = UNet2DModel(**to_unet2d(network.config), sample_size=shape[-1]).eval()
    theirs.load_state_dict(network.state_dict())
    pipeline = DDIMPipeline(theirs, DDIMScheduler(clip_sample=True, set_alpha_to_one=True))
    pipeline.set_progress_bar_config(disable=True)
    lay_out(network)
    denoiser = Clipped(Denoiser(network, Gaussian(LinearBeta())))
    grid = Grid.leading(LinearBeta(), arguments.steps)

    clock = time.process_time if arguments.cpu_time else time.perf_counter

    def ours(asked: DenoiserBase = denoiser) -> None:
        samplers.sample(asked, samplers.get("ddim"), grid, (arguments.batch, *shape))

    def peers() -> None:
        pipeline(batch_size=arguments.batch, num_inference_steps=arguments.steps, output_type="np")

    half = Clipped(Autocast(Denoiser(network, Gaussian(LinearBeta()))))
    rows: dict[str, Callable[[], None]] = {"ours": ours, "ours, bf16": lambda: ours(half), "diffusers": peers}
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for run in rows.values():
        run()
    for _ in range(arguments.rounds):
        for name, run in rows.items():
            begin = clock()
            run()
            seconds[name].append(clock() - begin)
    print(
        f"\n{arguments.peer_preset}, DDIM in {arguments.steps} steps, batch {arguments.batch} of {'×'.join(map(str, shape))}"
    )
    for name, times in seconds.items():
        ratio = median(b / a for a, b in zip(seconds["ours"], times))
        print(f"{name:14} {arguments.batch / median(times):8.1f} pictures/s   {ratio:5.2f}× our time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=ARCHITECTURES, default="small-32")
    parser.add_argument(
        "--peer-preset", choices=ARCHITECTURES, default="plain", help="a network that diffusers has too"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time: with --threads 1, for a machine that is busy"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()  # as the command line does
    forms(arguments)
    overhead(arguments)
    beside(arguments)


if __name__ == "__main__":
    main()
