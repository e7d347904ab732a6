"""Ten thousand pictures: features of two sets and all distances between them, beside torchmetrics on the same features.

    python benchmarks/evaluate.py mnist/train-images-idx3-ubyte.gz

The aim is a minute on two cores for 10,000 MNIST pictures. Without data of your own the pictures are random levels of the same
shape, which take as long. torchmetrics is given our features and computes the distances alone; it gives no interval, no floor and
no extrapolation, and its kernel distance looks at random subsets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstir.data import Split, load
from unstir.data.codec import LEVELS
from unstir.evaluation import extractors
from unstir.evaluation.quality import Reference, measure
from unstir.evaluation.sampling import Drawn, Sampling
from unstir.sets.distances import frechet_distance, kernel_distance
from unstir.sets.manifold import precision_recall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="pictures; by default random levels of 28×28")
    parser.add_argument("--number", type=int, default=10_000, help="of real and of generated pictures each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="of the distances, ours and theirs in turn")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    real, generated = pictures(asked.data, asked.number)

    began = time.perf_counter()
    extractor = extractors.RandomFilters.fitted(LEVELS.inside(real))
    with tempfile.TemporaryDirectory() as empty:
        own, seen = (extractors.cached(extractor, x, LEVELS.inside, cache=Path(empty)) for x in (real, generated))
        of_features = time.perf_counter() - began
        began = time.perf_counter()
        extractors.cached(extractor, real, LEVELS.inside, cache=Path(empty))
        again = time.perf_counter() - began
    drawn = Drawn(generated, seen, Sampling("none", 1), 0.0, extractor.name, "none")
    began = time.perf_counter()
    measure(drawn, Reference(extractor, own, seen, Split(generated, None)))
    of_distances = time.perf_counter() - began

    ours: dict[str, Callable[[], Any]] = {
        "frechet": lambda: frechet_distance(own, seen),
        "kernel": lambda: kernel_distance(own, seen),
        "overlap": lambda: precision_recall(own, seen),
    }
    warnings.simplefilter("ignore")  # torchmetrics': that it keeps all features
    theirs = peers(own, seen)
    times: dict[str, list[float]] = {name: [] for name in [*ours, *(f"torchmetrics {name}" for name in theirs)]}
    for _ in range(asked.rounds):
        for name, work in ours.items():
            times[name].append(clock(work))
            if name in theirs:
                times[f"torchmetrics {name}"].append(clock(theirs[name]))
    medians = {name: statistics.median(values) for name, values in times.items()}

    print(f"{asked.number:,} pictures of {'×'.join(map(str, real.shape[1:]))} on {asked.threads} threads, seconds")
    print(f"  fit and features of both sets            {of_features:8.2f}")
    print(f"  features of the reference, from the cache {again:7.2f}")
    print(f"  all distances with intervals and floors  {of_distances:8.2f}")
    print(f"  together                                 {of_features + of_distances:8.2f}   (aim: 60)")
    for name in ours:
        line = f"  {name} alone, median of {asked.rounds}"
        beside = medians.get(f"torchmetrics {name}")
        ratio = f"   torchmetrics {beside:.2f}, {beside / medians[name]:.1f} times as long" if beside else ""
        print(f"{line:<43}{medians[name]:8.2f}{ratio}")
    print(json.dumps({"features": of_features, "cached": again, "distances": of_distances, "medians": medians}))


def pictures(source: str | None, number: int) -> tuple[np.ndarray, np.ndarray]:
    if source is None:
        return tuple(np.random.default_rng(0).integers(0, 256, (2, number, 28, 28, 1), np.uint8))  # type: ignore[return-value]
    found = load(source).train
    chosen = found.x[found.spread(2 * number)]
    if len(chosen) < 2 * number:
        raise SystemExit(f"{source} has {len(found):,} training pictures, and this takes {2 * number:,}")
    return np.ascontiguousarray(chosen[::2]), np.ascontiguousarray(chosen[1::2])


def peers(own: torch.Tensor, seen: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """torchmetrics' distances of the same features, where it is installed."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ImportError:
        return {}

    class Given(torch.nn.Module):
        """Features that are there already."""

        num_features = own.shape[1]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    def frechet() -> float:
        metric = FrechetInceptionDistance(feature=Given()).set_dtype(torch.float64)
        metric.update(own, real=True)
        metric.update(seen, real=False)
        return float(metric.compute())

    def kernel() -> float:
        metric = KernelInceptionDistance(feature=Given(), subsets=100, subset_size=1000).set_dtype(torch.float64)
        metric.update(own, real=True)
        metric.update(seen, real=False)
        return float(metric.compute()[0])

    return {"frechet": frechet, "kernel": kernel}


def clock(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
