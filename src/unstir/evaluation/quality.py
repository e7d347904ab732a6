"""Sample quality: distances between samples and data in named features, beside what real data score by the same measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unstir.data import Split
from unstir.errors import UserError
from unstir.evaluation import features as extractors
from unstir.evaluation.distances import extrapolated_frechet, frechet_distance, kernel_distance, moments
from unstir.evaluation.manifold import precision_recall
from unstir.evaluation.resampling import bootstrap_interval, halves
from unstir.runs import Model

MEASURES = ("frechet", "kernel", "overlap")
FEW = 2048
"""Fewer samples than this, and the bias of the Fréchet distance is as large as what it is to show."""
_MOST = 10_000  # real items that are looked at
_FEWEST = 20


@dataclass(frozen=True)
class Quality:
    """What samples score in an extractor's features, and what real data score there.

    Args:
        extractor: the features' name. measures: which of ``frechet``, ``kernel``, ``overlap`` were asked for.
        samples, real, heldout: how many of each were compared: samples against the training data, ``real`` of them.
        drawn: how the samples were drawn, in words.
        values: by name. ``frechet`` and ``frechet_half`` (half of its 95 % interval over the samples), ``frechet_infinite``
            (extrapolated to infinitely many samples), ``frechet_heldout`` (of held-out data), ``frechet_halves`` (of two halves of
            the training data: the floor); ``kernel`` and ``kernel_error`` (one standard error), and the same of held-out data;
            ``precision``, ``recall``, ``density``, ``coverage``, each also of held-out data.
    """

    extractor: str
    measures: tuple[str, ...]
    samples: int
    real: int
    heldout: int
    drawn: str
    values: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def table(self) -> str:
        v, at = self.values, self.extractor
        lines = [
            f"{self.samples:,} samples ({self.drawn}) against {self.real:,} training items, beside {self.heldout:,} held-out ones"
        ]
        if "frechet" in self.measures:
            lines += [
                f"frechet@{at}  {v['frechet']:.5f} ± {v['frechet_half']:.5f} (95 % interval); "
                f"with infinitely many samples {v['frechet_infinite']:.5f}",
                f"    held-out data {v['frechet_heldout']:.5f}; two halves of the training data {v['frechet_halves']:.5f}",
            ]
            if self.samples < FEW:
                lines.append(
                    f"    fewer than {FEW:,} samples: the distance is biased upwards by their number; the kernel distance is not"
                )
        if "kernel" in self.measures:
            lines += [
                f"kernel@{at}  {v['kernel']:.6f} (standard error {v['kernel_error']:.6f})",
                f"    held-out data {v['kernel_heldout']:.6f} (standard error {v['kernel_heldout_error']:.6f})",
            ]
        if "overlap" in self.measures:
            names = ("precision", "recall", "density", "coverage")
            lines += [
                f"overlap@{at}  " + ", ".join(f"{name} {v[name]:.3f}" for name in names),
                "    held-out data " + ", ".join(f"{name} {v[f'{name}_heldout']:.3f}" for name in names),
            ]
        return "\n".join(lines)


def measure(
    model: Model,
    training: Split,
    heldout: Split,
    *,
    measures: tuple[str, ...] = MEASURES,
    samples: int = 2_048,
    features: str | None = None,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Quality:
    """Draws samples as the model draws them by default, without a class, and compares them with what it learned from.

    Args:
        features: ``random-filters`` (the default for pictures) or ``components`` (for all else).
        progress: called with (samples done, all).

    Raises:
        UserError: for features that do not exist or do not suit the data, and where there is too little of it.
    """
    name = features or ("random-filters" if model.spec.kind == "image" else "components")
    check(model, name, samples, measures)
    real, held = (model.inside(split.x[split.spread(min(len(split), _MOST))]).cpu() for split in (training, heldout))
    if min(len(real), len(held)) < _FEWEST:
        raise UserError(
            f"sample quality takes {_FEWEST} items at least to learn from and to hold out, and here are fewer"
        )
    extractor = extractors.FITTED[name](real)
    drawn = model.sample(samples, seed=seed, batch=batch, progress=progress)
    seen, own, others = (extractor(x) for x in (model.inside(drawn).cpu(), real, held))
    values: dict[str, float] = {}
    if "frechet" in measures:
        values |= _frechet(seen, own, others, seed)
    if "kernel" in measures:
        values["kernel"], values["kernel_error"] = kernel_distance(own, seen)
        values["kernel_heldout"], values["kernel_heldout_error"] = kernel_distance(own, others)
    if "overlap" in measures:
        # How many neighbours there are decides how far they reach: so as many of each.
        n = min(len(seen), len(own), len(others))
        own_n, others_n = (x[torch.linspace(0, len(x) - 1, n).round().long()] for x in (own, others))
        values |= precision_recall(own_n, seen[:n])._asdict()
        values |= {f"{key}_heldout": value for key, value in precision_recall(own_n, others_n)._asdict().items()}
    described = f"{model.denoiser.process.sampler}, {model.steps} steps, seed {seed}, {model.weights} weights"
    return Quality(extractor.name, measures, samples, len(own), len(others), described, values)


def check(model: Model, features: str | None, samples: int, measures: tuple[str, ...] = MEASURES) -> None:
    """Refuses what cannot be measured, before anything is drawn."""
    if features is not None and features not in extractors.FITTED:
        raise UserError(f"there are no features called {features!r}; there are {', '.join(extractors.FITTED)}")
    if features == "random-filters" and model.spec.kind != "image":
        raise UserError(f"random-filters look at pictures, and this run is of {model.spec.kind}: use components")
    if "overlap" in measures and not model.denoiser.process.continuous:
        raise UserError(
            f"overlap counts neighbours, and {model.spec.kind} are full of copies: leave it out of --metrics"
        )
    if samples < _FEWEST:
        raise UserError(f"sample quality takes at least {_FEWEST} samples, not {samples}")


def _frechet(seen: Tensor, own: Tensor, others: Tensor, seed: int) -> dict[str, float]:
    whole = moments(own)
    value, half = bootstrap_interval(lambda x: frechet_distance(whole, x), seen, seed=seed)
    first, second = halves(own, seed)
    return {
        "frechet": value,
        "frechet_half": half,
        "frechet_infinite": extrapolated_frechet(whole, seen, seed=seed),
        "frechet_heldout": frechet_distance(whole, others),
        "frechet_halves": frechet_distance(first, second),
    }
