"""Sample quality: distances between samples and data in named features, beside what real data score by the same measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.data import Dataset, Split
from unstir.errors import UserError
from unstir.evaluation import extractors
from unstir.evaluation.extractors import Extractor
from unstir.evaluation.sampling import Drawn
from unstir.runs import Model
from unstir.sets.distances import (
    extrapolated_frechet,
    frechet_distance,
    frechet_from,
    kernel_distance,
    moments,
)
from unstir.sets.manifold import precision_recall
from unstir.sets.resampling import bootstrap_interval, halves

Progress = Callable[[int, int], None]

MEASURES = ("frechet", "kernel", "overlap")
FEW = 2048
"""Fewer samples than this, and the bias of the Fréchet distance is as large as what it is to show."""
_MOST = 10_000  # real items that are looked at
_FEWEST = 20
_MANY = 256  # features


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
            fid = "FID, " if extractors.is_fid(at) else ""
            lines += [
                f"{fid}frechet@{at}  {v['frechet']:.5f} ± {v['frechet_half']:.5f} (95 % interval); "
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


@dataclass(frozen=True)
class Reference:
    """The data that samples are held against, as an extractor sees them.

    Args:
        own, others: features of training and of held-out items, (N, F) and (M, F): at most 10,000 of each, spread evenly.
        heldout: the items behind ``others``.
    """

    extractor: Extractor
    own: Tensor
    others: Tensor
    heldout: Split

    def seen(self, model: Model, x: np.ndarray, progress: Progress | None = None) -> Tensor:
        """Features of stored data, kept in the cache."""
        return extractors.cached(self.extractor, x, model.inside, progress=progress)


def reference(
    model: Model, dataset: Dataset, find: Callable[[Tensor], Extractor], *, progress: Progress | None = None
) -> Reference:
    """Fits an extractor to the training data, and looks at both splits through it.

    Args:
        find: what ``extractors.find`` gave.
        progress: called with (items done, all).

    Raises:
        UserError: where there is too little data.
    """
    if few := too_few(dataset):
        raise UserError(few)
    own, others = (split.take(split.spread(_MOST)) for split in (dataset.train, dataset.heldout))
    extractor, number = find(model.inside(own.x).cpu()), len(own) + len(others)

    def seen(part: Split, before: int) -> Tensor:
        def update(done: int, _: int) -> None:
            if progress:
                progress(before + done, number)

        return extractors.cached(extractor, part.x, model.inside, progress=update)

    return Reference(extractor, seen(own, 0), seen(others, len(own)), others)


def too_few(dataset: Dataset) -> str:
    """Why there is too little data to hold samples against; nothing where there is enough."""
    if min(len(dataset.train), len(dataset.heldout)) >= _FEWEST:
        return ""
    return f"sample quality takes {_FEWEST} items at least to learn from and to hold out, and here are fewer"


def measure(drawn: Drawn, reference: Reference, measures: tuple[str, ...] = MEASURES, seed: int = 0) -> Quality:
    """Compares samples with what their model learned from, beside what held-out data score.

    Args:
        seed: of the halves and parts that intervals, floor and extrapolation are taken from.
    """
    seen, own, others = drawn.features, reference.own, reference.others
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
    return Quality(drawn.extractor, measures, len(seen), len(own), len(others), drawn.described, values)


def check(model: Model, samples: int, measures: tuple[str, ...] = MEASURES) -> None:
    """Refuses what cannot be measured, before anything is drawn."""
    if "overlap" in measures and not model.denoiser.process.continuous:
        raise UserError(
            f"overlap counts neighbours, and {model.spec.kind} are full of copies: leave it out of --metrics"
        )
    if samples < _FEWEST:
        raise UserError(f"sample quality takes at least {_FEWEST} samples, not {samples}")


def _frechet(seen: Tensor, own: Tensor, others: Tensor, seed: int) -> dict[str, float]:
    whole = moments(own)
    from_whole = frechet_from(whole)
    # The work grows with the cube of the features, and 25 draws already give a width to within a seventh of itself.
    value, half = bootstrap_interval(from_whole, seen, draws=100 if own.shape[1] <= _MANY else 25, seed=seed)
    first, second = halves(own, seed)
    return {
        "frechet": value,
        "frechet_half": half,
        "frechet_infinite": extrapolated_frechet(whole, seen, seed=seed),
        "frechet_heldout": from_whole(others),
        "frechet_halves": frechet_distance(first, second),
    }
