"""Features of a small classifier that has been taught the user's own classes: what sets them apart, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.data import Dataset, DataSpec, Split
from unstir.errors import UserError
from unstir.runs import files
from unstir.runs.checkpoint import write_aside

KEY = "unstir-classifier"
FORMAT = 1
FEATURES = 64
_FIRST, _SMALLEST = 16, 8  # channels of the first convolution; pixels a side that the last one sees, or fewer
_RATE = 5e-3
_MEASURING, _SAFETY = (
    0.05,
    0.97,
)  # of the minutes: trained before they become a number of images; what of the rest is used
_AT_ONCE, _MOST = 100, 10_000


class Classifier(nn.Module):
    """``softmax(W f(x) + b)`` over the classes, with 64 features f.

    Of pictures f is the mean over space of convolutions, each followed by a batch norm and a rectifier, that halve the picture
    until 8 pixels a side are left; of all else two rectified layers. Once taught it is in eval mode, where no row looks at others.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.symbols = spec.symbols
        self.body = _convolutions(spec.shape) if spec.kind == "image" else _layers(spec)
        self.head = nn.Linear(FEATURES, len(spec.classes))

    def features(self, x: Tensor) -> Tensor:
        """Data as a network sees them, (N, *E), to (N, 64)."""
        if self.symbols:
            x = F.one_hot(x, self.symbols).float()
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def _convolutions(shape: tuple[int, ...]) -> nn.Sequential:
    channels, height, width = shape
    halvings = max(0, math.ceil(math.log2(min(height, width) / _SMALLEST)))
    widths = [channels, _FIRST, *(min(_FIRST << i, FEATURES) for i in range(1, halvings)), FEATURES, FEATURES]
    strides = [1, *[2] * halvings, *[1] * (len(widths) - 2 - halvings)]
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(widths, widths[1:], strides):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _layers(spec: DataSpec) -> nn.Sequential:
    inputs = math.prod(spec.shape) * (spec.symbols or 1)
    middle = 2 * FEATURES
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, middle), nn.ReLU(), nn.Linear(middle, FEATURES), nn.ReLU())


@dataclass(frozen=True)
class Taught:
    """A classifier and how it came about.

    Attributes:
        spec: the data's. images: how many it was shown. accuracy: the share of ``heldout`` items that it names rightly.
    """

    network: Classifier
    spec: DataSpec
    seed: int
    images: int
    accuracy: float
    heldout: int

    def save(self, path: Path) -> None:
        """Writes a file that describes itself, under another name and renamed."""
        facts = {
            "format": FORMAT,
            "data": self.spec.to_json(),
            "seed": self.seed,
            "images": self.images,
            "accuracy": self.accuracy,
            "heldout": self.heldout,
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, save(tensors, {KEY: json.dumps(facts)}))


def check_place(path: Path) -> None:
    """Raises UserError where a classifier cannot be written, or would take the place of something else."""
    if path.suffix != ".safetensors":
        raise UserError(f"features are written as safetensors: give a name such as {path.with_suffix('.safetensors')}")
    files.check_place(path)
    if path.is_dir():
        raise UserError(f"{path} is already there, as a folder: choose another --out")
    if path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                ours = KEY in (file.metadata() or {})
        except (SafetensorError, OSError):
            ours = False
        if not ours:
            raise UserError(f"{path} is already there, and is no classifier: choose another --out")


def check(dataset: Dataset) -> None:
    """Raises UserError where there is nothing to tell apart."""
    if dataset.train.labels is None or dataset.heldout.labels is None or not dataset.spec.classes:
        raise UserError(
            f"{dataset.spec.source} has no labels, which a classifier learns from: give class subfolders or an array of labels"
        )
    if len(dataset.spec.classes) == 1:
        raise UserError(f"{dataset.spec.source} has one class alone: there is nothing to tell apart")


def teach(
    dataset: Dataset,
    *,
    minutes: float | None = None,
    images: int | None = None,
    seed: int = 0,
    batch: int = 64,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Taught:
    """Trains a classifier on labelled data by Adam on the cross-entropy, the rate constant for half the way and falling to 0.

    With a budget in images the weights are a function of data, seed and budget (on one machine, with so many threads). A
    budget in minutes becomes one in images once the speed is known.

    Args:
        minutes, images: the budget, one of them.
        progress: called with (images shown, all).

    Raises:
        UserError: where the data have no labels, or one class alone.
    """
    check(dataset)
    if (minutes is None) == (images is None) or (minutes or images or 0) <= 0:
        raise UserError("a budget is minutes or images, one of them and more than 0")
    device = device or torch.device("cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(dataset.spec)
    network.to(device)
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    total, done, begin = images or 0, 0, time.perf_counter()
    while not total or done < total:
        rows = _order(np.arange(done, min(done + batch, total or done + batch)), len(dataset.train), seed)
        x, labels = dataset.train.batch(rows)
        assert labels is not None
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, 2 * (1 - done / total)) if total else _RATE
        optimiser.zero_grad()
        F.cross_entropy(network(x.to(device)), labels.to(device)).backward()
        optimiser.step()
        done += len(x)
        expected = total
        if minutes is not None and not total:
            share = (time.perf_counter() - begin) / (60 * minutes)
            expected = max(done, round(done / share * _SAFETY))
            total = expected if share > _MEASURING else 0
        if progress:
            progress(done, expected)
    accuracy, seen = _accuracy(network.eval().requires_grad_(False), dataset.heldout, device)
    return Taught(network, dataset.spec, seed, done, accuracy, seen)


def _order(images: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Which training item each image is: every epoch a fresh shuffle."""
    rows = np.empty_like(images)
    for epoch in np.unique(images // size):
        here = images // size == epoch
        rows[here] = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)[images[here] % size]
    return rows


def _accuracy(network: Classifier, heldout: Split, device: torch.device) -> tuple[float, int]:
    rows, right = heldout.spread(_MOST), 0
    with torch.no_grad():
        for start in range(0, len(rows), _AT_ONCE):
            x, labels = heldout.batch(rows[start : start + _AT_ONCE])
            assert labels is not None
            right += int((network(x.to(device)).argmax(1).cpu() == labels).sum())
    return right / len(rows), len(rows)


@dataclass(frozen=True)
class ClassifierFeatures:
    """The 64 numbers that a taught classifier decides by.

    Attributes:
        name: ``classifier-`` and the beginning of the file's SHA-256.
        own, given: the data it learned from, and those it looks at now: of one shape, perhaps scaled differently.
    """

    network: Classifier
    own: DataSpec
    given: DataSpec
    name: str
    hash: str
    rule: str

    def __call__(self, x: Tensor) -> Tensor:
        """(N, *E) to (N, 64), float64."""
        if self.own.scaling != self.given.scaling:
            x = self.own.inside(self.given.outside(x)).to(x.device)
        network = self.network.to(x.device)
        with torch.no_grad():
            return torch.cat([network.features(part).double().cpu() for part in x.split(_AT_ONCE)])


def of_file(path: Path, said: str, weights: Mapping[str, Tensor], file_hash: str, spec: DataSpec) -> ClassifierFeatures:
    """From what a file that :meth:`Taught.save` wrote says of itself and its tensors.

    Raises:
        UserError: where it is damaged or newer than this, or was taught on data of another kind or shape.
    """
    damaged = f"{path} is damaged: teach the classifier again with unstir features train"
    try:
        facts: dict[str, Any] = json.loads(said)
        if facts["format"] > FORMAT:
            raise UserError(f"{path} was written by a newer unstir; upgrade to read it")
        accuracy = float(facts["accuracy"])
        own = DataSpec.from_json(facts["data"])
        network = Classifier(own)
        network.load_state_dict(dict(weights))
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError):
        raise UserError(damaged) from None
    ours, theirs = ((one.kind, one.shape, one.symbols, one.eight_bit) for one in (own, spec))
    if ours != theirs:
        raise UserError(
            f"{path} was taught on {_described(own)}, and this run is of {_described(spec)}: teach one on its data"
        )
    rule = (
        f"data as the network of the run sees them; the 64 features that a classifier of {len(own.classes)} classes decides by, "
        f"taught on {own.source} (right of {accuracy:.1%} of what was held out)"
    )
    name = f"classifier-{file_hash[:8]}"
    whole = hashlib.sha256(f"{name}\n{rule}\n{file_hash}".encode()).hexdigest()
    extractor = ClassifierFeatures(network.eval().requires_grad_(False), own, spec, name, whole, rule)
    generator = torch.Generator().manual_seed(0)
    if spec.symbols:
        x = torch.randint(spec.symbols, (3, *spec.shape), generator=generator)
    else:
        x = torch.rand(3, *spec.shape, generator=generator) * 2 - 1
    try:
        with np.errstate(all="ignore"):
            sound = bool(extractor(x).isfinite().all())
    except (ValueError, ArithmeticError, TypeError, RuntimeError):  # such as a scaling of other things than numbers
        sound = False
    if not sound or not 0 <= accuracy <= 1:
        raise UserError(damaged)
    return extractor


def _described(spec: DataSpec) -> str:
    return f"{'real-valued ' if spec.kind == 'image' and not spec.eight_bit else ''}{spec.kind} {'×'.join(map(str, spec.shape))}"
