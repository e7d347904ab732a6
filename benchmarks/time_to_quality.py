"""What so many minutes of training from nothing give on MNIST: ours beside the peers with their own settings.

    python benchmarks/time_to_quality.py mnist/train-images-idx3-ubyte.gz --out quality

For each contender and budget: pictures seen, bits/dim of held-out pictures (the variational bound, for all by our code), and the
Fréchet distance of samples from the training pictures, in the 64 features of a classifier that is taught first (its accuracy is
printed, and the distance between halves of the data). A budget is minutes of one thread's processor time, which a busy machine
does not spoil; measuring is not part of it.

    ours        `unstir train`: its preset, engine and loop; the rate falls to 0 over the budget; a label for every picture
    lucidrains  denoising-diffusion-pytorch as its README has it (width 64, predicts v), at 28 pixels with three levels; its
                Trainer's defaults without mirroring (batch 16, Adam, constant rate, its EMA); DDIM in 50 steps
    diffusers   the network that Hugging Face's course gives for MNIST, with the settings of train_unconditional.py (batch 16, AdamW,
                cosine rate, its EMA, 1,000 linear betas, eps); DDIM in 50 steps

Weights are kept when a budget ends, figures when they are measured: asked again with the same --out, it does what is missing.

    python benchmarks/time_to_quality.py DATA --out quality --contenders ours --minutes 3 --tag wide --set network.channels=48

tries other settings of ours beside the shipped ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contenders import CONTENDERS, Contender, Ours
from rates import Clock, clock_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from unstir import data
from unstir.data import Dataset, contact_sheet
from unstir.evaluation import extractors, likelihood
from unstir.evaluation.extractors import classifier
from unstir.sets.distances import frechet_distance, frechet_from
from unstir.sets.resampling import halves

COUNTS = (500, 1_500, 5_000)
"""Of samples, at which a distance is given: it is biased by about a constant over their number."""
CLASSIFIER_IMAGES = 300_000
SHOWN = 60


def train(contender: Contender, minutes: list[float], clock: Clock) -> Iterator[tuple[float, dict[str, Any]]]:
    """Trains to each budget, rising, in one run; yields (budget, what was done until then)."""
    spent, updates = 0.0, 0
    for budget in minutes:
        whole, said = 60 * budget, time.monotonic()
        while spent < whole:
            begin = clock()
            contender.update(spent / whole)
            spent += clock() - begin
            updates += 1
            if time.monotonic() > said + 60:
                said = time.monotonic()
                print(f"  {spent / 60:.1f} of {budget:g} minutes, {updates * contender.batch:,} pictures", flush=True)
        yield budget, {"seconds": round(spent, 1), "updates": updates, "images": updates * contender.batch}


def measure(contender: Contender, features: extractors.Extractor, samples: int | None, sheet: Path) -> dict[str, Any]:
    """Distances and bits/dim of the network as it is."""
    dataset, found = contender.dataset, {}
    distance = frechet_from(reference(features, dataset))
    with torch.no_grad():
        for name, draw in contender.ways().items():
            began = time.process_time()
            drawn = draw(samples or contender.samples)
            seconds = time.process_time() - began
            if not found:
                contact_sheet(drawn[:SHOWN], columns=10).save(sheet)
            seen = features(dataset.spec.inside(drawn))
            counts = sorted({*(n for n in COUNTS if n < len(drawn)), len(drawn)})
            distances = {str(n): distance(seen[:n]) for n in counts}
            found[name] = {"frechet": distances, "milliseconds_a_sample": round(1e3 * seconds / len(drawn), 1)}
            print(f"  {name}: {distances}", flush=True)
        items, terms = contender.bound
        bound = likelihood.measure(contender.model(), dataset.heldout, images=items, terms=terms)
    print(f"  {bound.total:.3f} ± {bound.half_width:.3f} bits/dim", flush=True)
    return {
        "samples": found,
        "sampled": contender.described,
        "bits_per_dim": bound.total,
        "half_width": bound.half_width,
    }


def reference(features: extractors.Extractor, dataset: Dataset) -> Tensor:
    return extractors.cached(features, dataset.train.x, dataset.spec.inside)


def taught(path: Path, dataset: Dataset) -> None:
    """The classifier whose features are looked at, made once."""
    if not path.exists():
        print(f"teaching a classifier on {CLASSIFIER_IMAGES:,} pictures", flush=True)
        made = classifier.teach(dataset, images=CLASSIFIER_IMAGES, seed=0)
        made.save(path)
        print(f"right of {made.accuracy:.2%} of {made.heldout:,} held out", flush=True)


def floor(features: extractors.Extractor, dataset: Dataset) -> dict[str, float]:
    """Distances that no sampler can be asked to beat: between halves of the data, and of held-out pictures."""
    seen = reference(features, dataset)
    heldout = features(dataset.spec.inside(dataset.heldout.x[dataset.heldout.spread(max(COUNTS))]))
    mixed = heldout[np.random.default_rng(0).permutation(len(heldout))]
    rows = {f"two halves of the training pictures ({len(seen) // 2:,} each)": frechet_distance(*halves(seen))}
    return rows | {f"{n:,} held-out pictures": frechet_distance(seen, mixed[:n]) for n in COUNTS if n <= len(mixed)}


def run(name: str, asked: argparse.Namespace, dataset: Dataset, features: extractors.Extractor) -> None:
    """Trains and measures what is missing of a contender's budgets."""
    stem = name if asked.tag is None else f"{name}-{asked.tag}"
    places = {budget: asked.out / f"{stem}-{budget:g}" for budget in asked.minutes}
    missing = [budget for budget, place in places.items() if not named(place, ".safetensors").exists()]
    clock = clock_of("cpu", asked.clock == "cpu")
    kind = CONTENDERS[name]
    for sitting in [[budget] for budget in missing] if kind.anneals else [missing] if missing else []:
        contender = kind(dataset, asked)
        print(f"{stem}: training for {', '.join(f'{b:g}' for b in sitting)} minutes", flush=True)
        for budget, done in train(contender, sitting, clock):
            facts = done | {
                "contender": stem,
                "minutes": budget,
                "clock": asked.clock,
                "threads": asked.threads,
                "seed": asked.seed,
                "batch": contender.batch,
                "parameters": sum(p.numel() for p in contender.network.parameters()),
                "torch": torch.__version__,
            }
            if isinstance(contender, Ours):
                facts["config"] = asdict(contender.config)
            weights = {key: value.contiguous() for key, value in contender.averaged().items()}
            save_file(weights, named(places[budget], ".safetensors"), {"facts": json.dumps(facts)})
            print(f"{stem}: {budget:g} minutes done, {facts['images']:,} pictures", flush=True)
    for budget, place in places.items():
        if named(place, ".json").exists():
            continue
        print(f"{stem}: measuring after {budget:g} minutes", flush=True)
        contender = kind(dataset, asked)
        with safe_open(named(place, ".safetensors"), "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            contender.network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
        facts |= measure(contender, features, asked.samples, named(place, ".png"))
        named(place, ".json").write_text(json.dumps(facts, indent=1))


def named(place: Path, suffix: str) -> Path:
    """Beside it; a budget may have a point of its own."""
    return place.with_name(place.name + suffix)


def table(out: Path) -> None:
    rows = [json.loads(path.read_text()) for path in out.glob("*.json")]
    print(
        f"\n{'':22}{'minutes':>8}{'pictures':>10}{'updates':>9}{'bits/dim':>16}   Fréchet distance, by number of samples"
    )
    for row in sorted(rows, key=lambda row: (row["contender"], row["minutes"])):
        bits = f"{row['bits_per_dim']:.3f} ± {row['half_width']:.3f}"
        distances = "; ".join(
            f"{way}: " + ", ".join(f"{value:.3g} ({int(n):,})" for n, value in found["frechet"].items())
            for way, found in row["samples"].items()
        )
        head = f"{row['contender']:22}{row['minutes']:8g}{row['images']:10,}{row['updates']:9,}{bits:>16}"
        print(f"{head}   {distances}   [{row['sampled']}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="MNIST's train-images-idx3-ubyte.gz, its other files beside it")
    parser.add_argument("--out", type=Path, default=Path("quality"), help="a folder for weights, sheets and figures")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--minutes", nargs="+", type=float, default=[3, 10, 30])
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu", help="what a minute is of")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, help="how many; default: as many as each contender's cost allows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--sampler", default="unipc2", help="ours")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--spacing", default="log-snr:last=50")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of ours, such as optimiser.batch=64"
    )
    parser.add_argument("--tag", help="a name for these settings of ours")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    asked = parser.parse_args()
    asked.minutes.sort()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    dataset = data.load(asked.data)
    path = asked.out / "classifier.safetensors"
    taught(path, dataset)
    features = extractors.find(path, dataset.spec)(None)
    if not asked.table and len(asked.contenders) == 1:
        run(asked.contenders[0], asked, dataset, features)
        return
    print(features.rule)
    for what, value in floor(features, dataset).items():
        print(f"  {what:50} {value:.4g}")
    for name in [] if asked.table else asked.contenders:
        # Each in a process of its own: what one sets for the whole process is not the others'.
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--contenders", name], check=True)
    table(asked.out)


if __name__ == "__main__":
    main()
