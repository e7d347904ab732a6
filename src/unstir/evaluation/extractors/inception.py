"""The Inception-v3 that the FID is defined by, from a file of its weights.

The network is that of TensorFlow's graph of 2015-12-05 (Szegedy et al. 2016), which Heusel et al. (2017) took their features
from, with the key names of its PyTorch port ``pt_inception-2015-12-05-6726825d.pth``. It differs from later Inceptions: averages
leave out the padding, the last block takes a maximum where all others average, and there are 1,008 classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.evaluation.extractors import pictures

NAME = "inception-2015-12-05"
SIDE, FEATURES, CLASSES = 299, 2048, 1008
_PUBLISHED = "6726825d"  # how the SHA-256 of the port's file begins
_AT_ONCE = 8  # pictures: 64 channels of 147 × 147 take 5 MB each

Kernel = int | tuple[int, int]
Step = tuple[int, *tuple[Kernel, ...]]
"""Channels out, and the kernels: of two, which stand side by side on the same input, each gives so many channels."""
Branches = dict[str, tuple[Step, ...]]

ROW, COLUMN = (1, 7), (7, 1)
_FORK: Step = (384, (1, 3), (3, 1))


def _a(pooled: int) -> Branches:
    return {
        "1x1": ((64, 1),),
        "5x5": ((48, 1), (64, 5)),
        "3x3dbl": ((64, 1), (96, 3), (96, 3)),
        "_pool": ((pooled, 1),),
    }


def _c(inner: int) -> Branches:
    twice = ((inner, 1), (inner, COLUMN), (inner, ROW), (inner, COLUMN), (192, ROW))
    return {"1x1": ((192, 1),), "7x7": ((inner, 1), (inner, ROW), (192, COLUMN)), "7x7dbl": twice, "_pool": ((192, 1),)}


_B: Branches = {"3x3": ((384, 3),), "3x3dbl": ((64, 1), (96, 3), (96, 3))}
_D: Branches = {"3x3": ((192, 1), (320, 3)), "7x7x3": ((192, 1), (192, ROW), (192, COLUMN), (192, 3))}
_E: Branches = {
    "1x1": ((320, 1),), "3x3": ((384, 1), _FORK), "3x3dbl": ((448, 1), (384, 3), _FORK), "_pool": ((192, 1),)
}  # fmt: skip

# How a block pools beside its convolutions: an average or a maximum of the same size, or a maximum that halves as the last
# convolution of every branch then does.
_MIXED = {
    "5b": (_a(32), "average"),
    "5c": (_a(64), "average"),
    "5d": (_a(64), "average"),
    "6a": (_B, "halving"),
    "6b": (_c(128), "average"),
    "6c": (_c(160), "average"),
    "6d": (_c(160), "average"),
    "6e": (_c(192), "average"),
    "7a": (_D, "halving"),
    "7b": (_E, "average"),
    "7c": (_E, "maximum"),
}


class _Convolution(nn.Module):
    """``relu(bn(W * x))``, without a bias of its own."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (height // 2, width // 2) if padded else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches of convolutions on one input, beside one another in the output's channels; see the table above."""

    def __init__(self, inputs: int, branches: Branches, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.outputs = inputs if pooling == "halving" else 0
        self.branches: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            width, self.branches[branch] = inputs, []
            for number, (outputs, *kernels) in enumerate(steps, 1):
                halves = pooling == "halving" and number == len(steps)
                name = f"branch{branch}" + (f"_{number}" if len(steps) > 1 else "")
                names = [f"{name}{letter}" for letter in ("ab" if len(kernels) > 1 else [""])]
                for each, kernel in zip(names, kernels):
                    self.add_module(each, _Convolution(width, outputs, kernel, 1 + halves, padded=not halves))
                self.branches[branch].append(names)
                width = outputs * len(kernels)
            self.outputs += width

    def forward(self, x: Tensor) -> Tensor:
        if self.pooling == "average":
            pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        elif self.pooling == "maximum":
            pooled = F.max_pool2d(x, 3, 1, 1)
        else:
            pooled = F.max_pool2d(x, 3, 2)
        parts = []
        for branch, steps in self.branches.items():
            y = pooled if branch == "_pool" else x
            for names in steps:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            parts.append(y)
        return torch.cat([*parts, pooled] if self.pooling == "halving" else parts, 1)


class Inception(nn.Module):
    """Pictures (N, 3, H, W) in -1…1, 75 pixels or more a side, to the mean over space of the last block: (N, 2048).

    It is always in eval mode: its normalisation has been measured once, and features must not depend on a batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, 3, 2, padded=False)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = _Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = _Convolution(80, 192, 3, padded=False)
        width, self.mixed = 192, []
        for name, (branches, pooling) in _MIXED.items():
            block = _Mixed(width, branches, pooling)
            self.add_module(f"Mixed_{name}", block)
            self.mixed.append(f"Mixed_{name}")
            width = block.outputs
        self.fc = nn.Linear(FEATURES, CLASSES)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Inception:
        """Stays in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in self.mixed:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


def is_fid(name: str) -> bool:
    """Whether a Fréchet distance in the features of this name is the FID: with the port's own file alone."""
    return name == NAME


@dataclass(frozen=True)
class InceptionFeatures:
    """The 2,048 features of Inception-v3 behind ``pool3``, of pictures as the reference implementation prepares them.

    Attributes:
        name: ``inception-2015-12-05`` from the port's own file, else ``inception-`` and the beginning of the file's SHA-256.
    """

    network: Inception
    name: str
    hash: str
    rule: str = (
        "levels 0…255, grey copied to three channels, resized to 299×299 by TensorFlow 1's bilinear rule, (level - 128) / 128; "
        "the mean over space of Inception-v3's last block"
    )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, 1 or 3, H, W), -1…1, to (N, 2048), float64."""
        network, parts = self.network.to(x.device), []
        with torch.no_grad():
            for part in x.split(_AT_ONCE):
                seen = pictures.resize_as_in_2015(pictures.three_channels(pictures.levels(part)), SIDE)
                parts.append(network((seen - 128) / 128).double().cpu())
        return torch.cat(parts)


def of_pickle(path: Path, file_hash: str, spec: DataSpec) -> InceptionFeatures:
    """From a ``.pth`` or ``.pt`` file, which is read as tensors alone: no code in it is run.

    Raises:
        UserError: as :func:`of_weights`.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch's reader meets in a file of unknown making
        raise UserError(f"{path} cannot be read as a file of weights ({type(error).__name__})") from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} does not hold a network's weights by name")
    return of_weights(weights, file_hash, path, spec)


def of_weights(weights: Mapping[str, Tensor], file_hash: str, path: Path, spec: DataSpec) -> InceptionFeatures:
    """From the tensors of a file, by name; ``num_batches_tracked`` may be among them or not.

    Raises:
        UserError: when they are not those of this network, or the data are no pictures of levels.
    """
    network = Inception()
    wanted = {key: value.shape for key, value in network.state_dict().items() if not _counts(key)}
    given = {key: value for key, value in weights.items() if not _counts(key)}
    wrong = sorted(wanted.keys() ^ given.keys()) or [key for key in wanted if given[key].shape != wanted[key]]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(
            f"{path} is no Inception-v3 of 2015-12-05 ({wrong[0]}{more} missing, unknown or of another shape): "
            "the FID is defined by pt_inception-2015-12-05-6726825d.pth"
        )
    if spec.kind != "image":
        raise UserError(f"Inception looks at pictures, and this run is of {spec.kind}: use components")
    if not spec.eight_bit:
        raise UserError("Inception looks at levels 0…255, and these pictures are of real numbers: use random-filters")
    network.load_state_dict(given, strict=False)
    name = NAME if file_hash.startswith(_PUBLISHED) else f"inception-{file_hash[:8]}"
    said = f"{name}\n{InceptionFeatures.rule}\n{file_hash}"
    return InceptionFeatures(network, name, hashlib.sha256(said.encode()).hexdigest())


def _counts(key: str) -> bool:
    return key.endswith("num_batches_tracked")  # says nothing in eval mode, and older files lack it
