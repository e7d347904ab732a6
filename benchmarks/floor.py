"""The floor of a training step: its operations over the rates that this machine reaches, and the share of them that we reach.

    python benchmarks/floor.py --threads 1 --cpu-time

First the rates: of matrix products, in float32 and bfloat16, the largest over some sizes. Then for each preset the operations of
one step (matrix products and convolutions, forward and backward), the time they would take at that rate, the time that its
convolutions take one by one, in the shapes, precision and layout of the step with nothing between them, and the step itself.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from statistics import median

import torch
from rates import PRECISIONS, Clock, clock_of, products, timed
from torch import Tensor, nn
from train_step import ARCHITECTURES, Batch, counted, ours

BATCHES = {"tiny-8": 32, "small-28": 32, "small-32": 32, "cifar10": 16}


def convolutions(network: nn.Module, call: Callable[[], object]) -> Counter[tuple]:
    """The convolutions of one call of a network: how often each (layer's shape, input's shape) comes."""
    found: Counter[tuple] = Counter()

    def note(layer: nn.Conv2d, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        own = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        found[(*own, tuple(inputs[0].shape))] += 1

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        call()
    for hook in hooks:
        hook.remove()
    return found


def convolved(kind: tuple, layout: torch.memory_format, clock: Clock, device: str, rounds: int) -> tuple[float, float]:
    """Seconds and operations of one convolution, forward and backward, in bfloat16."""
    inputs, outputs, kernel, stride, padding, shape = kind
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding, device=device)
    layer = layer.to(dtype=torch.bfloat16, memory_format=layout)
    x = torch.randn(shape, device=device).to(torch.bfloat16).contiguous(memory_format=layout).requires_grad_()
    y = layer(x)
    ahead = torch.randn(y.shape, device=device).to(torch.bfloat16).contiguous(memory_format=layout)
    operations = 3 * 2 * y.numel() * inputs * kernel[0] * kernel[1]
    return median(timed(lambda: layer(x).backward(ahead), clock, rounds)), operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=ARCHITECTURES, default=list(BATCHES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--cpu-time", action="store_true", help="count processor time: with --threads 1, for a machine that is busy"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    clock = clock_of(asked.device, asked.cpu_time)
    rates = {name: products(dtype, clock, asked.device, asked.rounds) for name, dtype in PRECISIONS.items()}
    for name, rate in rates.items():
        print(f"matrix products in {name:9} {rate / 1e9:8.0f} GFLOP/s")
    print(
        f"\n{'':10}{'batch':>6}{'GFLOP':>8}{'at that rate':>14}{'convolutions alone':>20}{'their rate':>12}{'step':>8}"
        f"{'of the rate':>13}   (ms, bf16, {asked.threads} threads)"
    )
    for name in asked.presets:
        config, size = ARCHITECTURES[name]
        batch = Batch(config, BATCHES.get(name, 32), size, asked.device)
        step, model = ours(config, batch)
        operations = counted(step)
        layout = model.memory_format
        kinds = convolutions(model, lambda model=model, batch=batch: model(batch.x, batch.time.float()))
        alone = [(times, *convolved(kind, layout, clock, asked.device, asked.rounds)) for kind, times in kinds.items()]
        seconds = sum(times * taken for times, taken, _ in alone)
        convolving = sum(times * own for times, _, own in alone)
        whole = median(timed(step, clock, asked.rounds))
        print(
            f"{name:10}{len(batch.x):6}{operations / 1e9:8.1f}{1e3 * operations / rates['bfloat16']:14.1f}"
            f"{1e3 * seconds:20.1f}{convolving / seconds / 1e9:12.0f}{1e3 * whole:8.1f}"
            f"{operations / whole / rates['bfloat16']:13.1%}"
        )


if __name__ == "__main__":
    main()
