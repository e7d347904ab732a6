"""MNIST by Parzen windows [SD15 table 2], and in bits/dim, which can be trusted."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import data
from unstir.data import Dataset, Split, contact_sheet
from unstir.evaluation import likelihood
from unstir.evaluation.report.films import forward_film, reverse_film
from unstir.reproduce import DataMissing
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.parzen import kmeans, parzen
from unstir.reproduce.plots import figure
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.runs.build import rms
from unstir.training import presets

TITLE = "MNIST: Parzen-window log-likelihood (bits, higher is better) and bits/dim (lower is better)"

PARZEN, ERROR, BITS, SPREAD = "Parzen (bits)", "± standard error", "bits/dim", "± over pictures"
PAPER = {
    "stacked CAE": (174.0, 2.3),
    "DBN": (199.0, 2.9),
    "deep GSN": (309.0, 1.6),
    "diffusion (Sohl-Dickstein et al. 2015)": (317.0, 2.7),
    "adversarial net": (325.0, 2.9),
    "training pictures, as printed there": (349.0, 3.3),
}
"""[SD15 table 2]: bits and their standard error."""

_HELD_BACK = 6  # a sixth of the training pictures chooses sigma: the last 10,000 of MNIST's 60,000
_VALIDATION = 1_000
_SHOWN = 25


def variants(setting: Setting) -> list[Variant]:
    made = dataset(setting)
    ours = asdict(presets.get("small", made.spec, rms(made.train)))
    kept = ("process", "schedule", "prediction", "variance", "objective", "times", "optimiser")
    config = {key: ours[key] for key in kept}
    config["network"] = ours["network"] | ({"blocks": 1} if setting.quick else {})
    # By what it is for 28×28: larger pictures cost more, and get fewer.
    budget = (28_000 if setting.quick else 200_000) * min(1.0, 784 / math.prod(made.spec.shape))
    config["budget"] = {"images": max(64, int(budget))}
    return [Variant("ours", config, {"sampler": "ddim", "steps": 20})]


def dataset(setting: Setting) -> Dataset:
    everything = _everything(setting)
    last = len(everything.train) - len(everything.train) // _HELD_BACK
    # Without labels: the paper's models know no classes.
    return replace(
        everything,
        spec=replace(everything.spec, classes=()),
        train=Split(everything.train.x[:last], None),
        heldout=Split(everything.heldout.x, None),
    )


def measure(model: Model, dataset: Dataset, variant: Variant, setting: Setting) -> Measured:
    count = min(2_000 if setting.quick else 10_000, len(dataset.train))
    drawn = model.sample(count, batch=250, seed=model.config.seed, **variant.facts)
    validation = unit(_everything(setting).train.x[len(dataset.train) :][:_VALIDATION])
    test, train = unit(dataset.heldout.x), unit(dataset.train.x)
    generator = torch.Generator().manual_seed(model.config.seed)
    # And what needs no model, for each seed anew: pictures drawn to learn from, and centres of them.
    some = train[torch.randperm(len(train), generator=generator)[:count]]
    scores = {
        "samples": parzen(unit(drawn), validation, test),
        "training": parzen(some, validation, test),
        "centres": parzen(kmeans(train[: 5 * count], count, 5, model.config.seed), validation, test),
    }
    pictures, terms = (96, 50) if setting.quick else (1_000, 100)
    bits = likelihood.measure(model, dataset.heldout, images=pictures, terms=terms)
    figures = {f"{name} {key}": value for name, score in scores.items() for key, value in vars(score).items()}
    return figures | {
        "count": count,
        "test": len(test),
        "bits/dim": bits.total,
        "spread": bits.half_width,
        "pictures": bits.items,
    }


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    ours = measured["ours"]
    rows = [Row(name, {PARZEN: Figure(bits), ERROR: Figure(error)}) for name, (bits, error) in PAPER.items()]
    spread = Figure(sum(run["spread"] for run in ours) / len(ours))
    bits = {BITS: Figure.over([run["bits/dim"] for run in ours]), SPREAD: spread}
    rows.append(Row("ours", _scores(ours, "samples") | bits))
    rows.append(Row("training pictures, here", _scores(ours, "training")))
    rows.append(Row("k-means centres of training pictures", _scores(ours, "centres")))
    some = ours[0]
    notes = [
        f"Protocol of Goodfellow et al. 2014: {some['count']:,} samples, pixels in 0 … 1, the best of ten widths on {_VALIDATION:,} "
        f"validation pictures (for ours {some['samples sigma']:.3f}), the score on {some['test']:,} test pictures. Ours are sampled "
        "by ddim in 20 steps.",
        "Why the measure misleads: it asks how near the samples lie to the test pictures, so blurred centres, of which none is a "
        "sample of anything, "
        + _beat(_mean(ours, "centres"), _mean(ours, "training"))
        + " (Theis et al. 2016); and it asks nothing about how likely a model finds a picture, which bits/dim does.",
        f"Bits/dim: the bound on {some['pictures']:,} test pictures of 8-bit levels.",
    ]
    if setting.quick:
        notes.append(
            f"Quick: {some['count']:,} samples where the paper's figures are of 10,000. Fewer samples lie further from any "
            "picture, so all scores here are lower: compare the rows here with one another alone."
        )
    columns = (PARZEN, ERROR, BITS, SPREAD)
    return Table("mnist", TITLE, columns, rows, notes, _figures(folder, setting), setting.seeds, digits=2)


def unit(levels: np.ndarray) -> Tensor:
    """Levels 0 … 255 as the protocol has them, flat: ``level / 255``, float32 (N, D)."""
    return torch.from_numpy(np.array(levels, np.float32)).flatten(1) / 255


def _scores(runs: list[Measured], name: str) -> dict[str, Figure]:
    errors = [run[f"{name} standard_error"] for run in runs]
    return {PARZEN: Figure.over([run[f"{name} bits"] for run in runs]), ERROR: Figure(sum(errors) / len(errors))}


def _mean(runs: list[Measured], name: str) -> float:
    return sum(run[f"{name} bits"] for run in runs) / len(runs)


def _beat(centres: float, training: float) -> str:
    verb = "beat" if centres > training else "do not here beat"
    return f"{verb} real training pictures ({centres:.0f} against {training:.0f} bits)"


def _everything(setting: Setting) -> Dataset:
    if setting.data is None:
        raise DataMissing("mnist needs MNIST's files: give --data train-images-idx3-ubyte.gz, its neighbours beside it")
    made = data.load(setting.data)
    if made.spec.kind != "image" or not made.spec.eight_bit or made.spec.shape[0] != 1:
        raise DataMissing(f"mnist is about grey pictures of 8 bits, and {setting.data} is not: give MNIST's images")
    return made


def _figures(folder: Path, setting: Setting) -> list[str]:
    """Test pictures beside samples, as in the paper's figure App. 1; and the chain there and back."""
    made = dataset(setting)
    seen: dict[str, Any] = {"test pictures": np.asarray(made.heldout.x[made.heldout.spread(_SHOWN)])}
    (variant,) = variants(setting)
    model = trained(folder, variant)
    seen["ours"] = model.sample(_SHOWN, **variant.facts)
    path = folder / "mnist.png"
    with figure(path, 1, len(seen), size=(3.0, 3.2)) as axes:
        for axis, (name, x) in zip(axes[0], seen.items(), strict=True):
            axis.imshow(np.asarray(contact_sheet(x)), cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[], title=name)
    forward, back = folder / "forward.png", folder / "reverse.png"
    forward_film(model, made.heldout).save(forward)
    reverse_film(model)[0].save(back)
    return [str(path), str(forward), str(back)]
