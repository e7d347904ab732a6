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
import math
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from train_step import lucidrains_module

from unstir import data
from unstir.data import Dataset, contact_sheet
from unstir.denoisers import Denoiser
from unstir.evaluation import extractors, likelihood
from unstir.evaluation.extractors import classifier
from unstir.processes import Gaussian
from unstir.runs import Model
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of, rms
from unstir.runs.config import Config
from unstir.schedules import FromBetas
from unstir.sets.distances import frechet_distance, frechet_from
from unstir.sets.resampling import halves
from unstir.training import engine as engines
from unstir.training import presets
from unstir.training.loop import Trainer

COUNTS = (500, 1_500, 5_000)
"""Of samples, at which a distance is given: it is biased by about a constant over their number."""
CLASSIFIER_IMAGES = 300_000
DDIM_STEPS = 50
SHOWN = 60

Clock = Callable[[], float]


class Contender:
    """Something that is trained, and then measured with its averaged weights.

    Attributes:
        anneals: whether its rate depends on the budget, so that each budget is a run of its own.
        samples, bound: how many samples are drawn; held-out pictures and terms of the bound (all as time allows).
    """

    anneals: ClassVar[bool]
    samples: ClassVar[int]
    bound: ClassVar[tuple[int, int]]
    described: str
    batch: int
    network: nn.Module

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        self.dataset, self.seed = dataset, asked.seed
        self.order = np.random.default_rng(asked.seed)
        self.left = np.empty(0, np.int64)

    def update(self, share: float) -> None:
        """One step of the optimizer, when this share of the budget is spent."""
        raise NotImplementedError

    def averaged(self) -> dict[str, Tensor]:
        """The weights that samples are drawn from, as the network's state dict."""
        raise NotImplementedError

    def model(self) -> Model:
        """Its network, as our bound reads it."""
        raise NotImplementedError

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        """The ways in which samples are drawn: each gives n pictures, uint8 (n, 28, 28, 1)."""
        raise NotImplementedError

    def pictures(self) -> Tensor:
        """The next batch in -1 … 1, in a random order, each picture once an epoch."""
        if len(self.left) < self.batch:
            self.left = np.concatenate([self.left, self.order.permutation(len(self.dataset.train))])
        rows, self.left = self.left[: self.batch], self.left[self.batch :]
        return self.dataset.train.batch(rows)[0]


class Ours(Contender):
    anneals, samples, bound = True, 5_000, (256, 100)

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        base = presets.get(asked.preset, dataset.spec, rms(dataset.train))
        self.config: Config = replace(configs.from_dict(overrides(asked.set), base), seed=asked.seed)
        self.how = {"sampler": asked.sampler, "steps": asked.steps, "spacing": asked.spacing}
        self.described = f"{asked.sampler}, {asked.steps} steps, {asked.spacing}"
        self.batch = self.config.optimiser.batch
        torch.manual_seed(asked.seed)
        self.denoiser = denoiser_of(self.config)
        self.network = self.denoiser.network
        self.trainer: Trainer | None = None

    def _start(self) -> Trainer:
        engines.keep_memory()
        choices = engines.alternatives(torch.device("cpu"), "auto", "auto", "off", images=True)
        engine, milliseconds = engines.fastest(choices, self._trial)
        print("a step takes", {name: round(value, 1) for name, value in milliseconds.items()}, "using", engine.name)
        engine.settle()
        engine.place(self.denoiser)
        return Trainer(self.config, self.denoiser, self.dataset, engine)

    def _trial(self, engine: engines.Engine) -> Callable[[], None]:
        trainer = Trainer(self.config, denoiser_of(self.config), self.dataset, engine)
        engine.place(trainer.denoiser)
        return lambda: (trainer.update(), None)[1]

    def update(self, share: float) -> None:
        if self.trainer is None:
            self.trainer = self._start()
        progress = self.trainer.progress
        # The budget in pictures, as `unstir train --minutes` finds it, but anew at each step, so that it ends on time.
        progress.total = round(progress.images / share) if share > 0.01 else 0
        self.trainer.update()

    def averaged(self) -> dict[str, Tensor]:
        assert self.trainer is not None
        return {n: v.clone() for n, v in zip(self.trainer.names, self.trainer.ema.values, strict=True)}

    def model(self) -> Model:
        return Model(self.denoiser.eval(), self.dataset.spec, self.config)

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        ways: dict[str, Callable[[int], np.ndarray]] = {"without labels": self._plain}
        return ({"with labels": self._labelled} | ways) if self.dataset.spec.classes else ways

    def _plain(self, n: int) -> np.ndarray:
        return self.model().sample(n, batch=250, seed=1, **self.how)

    def _labelled(self, n: int) -> np.ndarray:
        """Each class as often as in the training data, mixed."""
        assert self.dataset.train.labels is not None
        shares = np.cumsum(np.bincount(self.dataset.train.labels)) / len(self.dataset.train)
        ends = np.round(shares * n).astype(int)
        parts, begin = [], 0
        for label, end in enumerate(ends):
            parts.append(
                self.model().sample(end - begin, indices=range(begin, end), batch=250, label=label, **self.how)
            )
            begin = end
        return np.concatenate(parts)[np.random.default_rng(0).permutation(n)]


class Lucidrains(Contender):
    anneals, samples, bound, batch = False, 500, (64, 30), 16
    described = f"its ddim_sample, {DDIM_STEPS} steps"

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        theirs = lucidrains_module()
        theirs.tqdm = lambda steps, **_: steps
        torch.manual_seed(asked.seed)
        channels, side, _ = dataset.spec.shape
        self.network = theirs.Unet(64, dim_mults=(1, 2, 4), channels=channels)
        self.diffusion = theirs.GaussianDiffusion(self.network, image_size=side, sampling_timesteps=DDIM_STEPS)
        self.optimizer = torch.optim.Adam(self.diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
        self.ema = theirs.EMA(self.diffusion, beta=0.995, update_every=10)

    def update(self, share: float) -> None:
        self.diffusion.train()
        self.diffusion((self.pictures() + 1) / 2).backward()
        torch.nn.utils.clip_grad_norm_(self.diffusion.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update()

    def averaged(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.ema.ema_model.model.state_dict().items()}

    def model(self) -> Model:
        schedule = FromBetas(self.diffusion.betas.double())
        network = Called(lambda x, time: self.network(x, time))
        return Model(Denoiser(network, Gaussian(schedule), "v").eval(), self.dataset.spec, Config())

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        def drawn(n: int) -> np.ndarray:
            torch.manual_seed(1)
            parts = [self.diffusion.eval().sample(min(100, n - first)) for first in range(0, n, 100)]
            return self.dataset.spec.outside(torch.cat(parts) * 2 - 1)

        return {"without labels": drawn}


class Diffusers(Contender):
    anneals, samples, bound, batch = True, 1_500, (256, 50), 16
    described = f"its DDIMPipeline, {DDIM_STEPS} steps"

    def __init__(self, dataset: Dataset, asked: argparse.Namespace) -> None:
        super().__init__(dataset, asked)
        import diffusers
        from diffusers.training_utils import EMAModel

        torch.manual_seed(asked.seed)
        channels, side, _ = dataset.spec.shape
        self.network = diffusers.UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        )
        self.schedule = diffusers.DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self.ema = EMAModel(self.network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.steps = 0

    def update(self, share: float) -> None:
        self.network.train()
        clean = self.pictures()
        noise = torch.randn_like(clean)
        t = torch.randint(0, 1000, (len(clean),))
        noised = self.schedule.add_noise(clean, noise, t)
        torch.nn.functional.mse_loss(self.network(noised, t).sample.float(), noise).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        # Its cosine of steps with 500 of warm-up, told by the share of the budget; where 500 are too many, a twentieth of it.
        warm = min(1.0, max((self.steps + 1) / 500, share / 0.05))
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-4 * warm * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.network.parameters())
        self.steps += 1

    def averaged(self) -> dict[str, Tensor]:
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.ema.restore(self.network.parameters())
        return weights

    def model(self) -> Model:
        schedule = FromBetas(self.schedule.betas.double())
        network = Called(lambda x, time: self.network(x, time).sample)
        return Model(Denoiser(network, Gaussian(schedule), "eps").eval(), self.dataset.spec, Config())

    def ways(self) -> dict[str, Callable[[int], np.ndarray]]:
        from diffusers import DDIMPipeline, DDIMScheduler

        pipeline = DDIMPipeline(self.network.eval(), DDIMScheduler.from_config(self.schedule.config))
        pipeline.set_progress_bar_config(disable=True)

        def drawn(n: int) -> np.ndarray:
            generator = torch.Generator().manual_seed(1)
            parts = [
                pipeline(
                    batch_size=min(100, n - first),
                    generator=generator,
                    num_inference_steps=DDIM_STEPS,
                    output_type="np",
                ).images
                for first in range(0, n, 100)
            ]
            return np.round(255 * np.concatenate(parts)).astype(np.uint8)

        return {"without labels": drawn}


class Called(nn.Module):
    """A network of theirs, called as ours are."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.place = nn.Parameter(torch.zeros(()))  # says on which device it is

    def forward(self, x: Tensor, time: Tensor, condition: object = None) -> Tensor:
        return self.call(x, time)


CONTENDERS: dict[str, type[Contender]] = {"ours": Ours, "lucidrains": Lucidrains, "diffusers": Diffusers}


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
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
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


def overrides(settings: list[str]) -> dict[str, Any]:
    """``a.b=1`` as nested dicts; values as TOML writes them, and what is not TOML is a text."""
    tree: dict[str, Any] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            parsed = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            parsed = value
        *path, last = key.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[last] = parsed
    return tree


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
