"""Averages of the weights that a run stored on its way, and others made of them afterwards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from unstir.averaging import combination, gamma_of
from unstir.errors import UserError
from unstir.runs import checkpoint as checkpoints
from unstir.runs import config as configs
from unstir.runs.folder import Run
from unstir.runs.model import metadata

WIDTHS = (0.05, 0.1)
"""The two averages that are stored; Karras et al. 2024 take the same."""

_KEY = "unstir-average"


@dataclass(frozen=True)
class Stored:
    """One stored average: its file, its width, when it was taken, in updates and in images, and the SHA-256 of its numbers."""

    path: Path
    width: float
    updates: int
    images: int
    sha256: str

    def tensors(self) -> dict[str, Tensor]:
        """The weights, in half precision.

        Raises:
            UserError: when they are not what was stored.
        """
        found = load_file(self.path)
        if _sha256(found) != self.sha256:
            raise UserError(f"{self.path} is damaged (it does not match its checksum): delete it, the others may do")
        return found


def store(run: Run, tensors: dict[str, Tensor], width: float, updates: int, images: int) -> None:
    """Writes an average into the run, in half precision: sums of many lose nothing by it that shows."""
    folder = run.path / "averages"
    folder.mkdir(exist_ok=True)
    halves = {name: value.to(torch.float16).contiguous() for name, value in tensors.items()}
    known = {"width": width, "updates": updates, "images": images, "sha256": _sha256(halves)}
    facts = {_KEY: json.dumps(known)}
    checkpoints.write_aside(folder / f"{images:010d}-{width:g}.safetensors", save(halves, facts))


def stored(run: Run) -> list[Stored]:
    """What the run has stored, oldest first.

    Raises:
        UserError: for a file that is damaged.
    """
    found = []
    for path in sorted((run.path / "averages").glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found.append(Stored(path, **json.loads((file.metadata() or {})[_KEY])))
        except (SafetensorError, KeyError, ValueError, TypeError, OSError):
            raise UserError(
                f"{path} is damaged, or no average that a run stored: delete it, the others may do"
            ) from None
    return sorted(found, key=lambda one: (one.updates, one.width))


def reconstruct(run: Run, width: float, target: Path) -> float:
    """Writes a model whose weights are the average of this width at the end of what the run stored (Karras et al. 2024, §3.2).

    Args:
        width: as in ``ema_width``: the profile's standard deviation as a share of the run. target: the file.

    Returns:
        How far the profile that could be made is from the one that was wanted, as a share of it.

    Raises:
        UserError: for a run that stored nothing, and a width that no profile has.
    """
    parts = stored(run)
    if not parts:
        raise UserError(
            f"{run.path} stored no averages: train with --averages 8, say, and any width can be made afterwards"
        )
    try:
        wanted = (float(parts[-1].updates), gamma_of(width))
    except ValueError as error:
        raise UserError(str(error)) from None
    x, left = combination([(float(part.updates), gamma_of(part.width)) for part in parts], wanted)
    total: dict[str, Tensor] = {}
    for part, share in zip(parts, x.tolist(), strict=True):
        for name, value in part.tensors().items():
            total[name] = total.get(name, 0) + share * value.double()
    config = replace(configs.read(run.config), ema_width=width)
    facts = metadata(config, run.spec(), parts[-1].images, "ema")
    checkpoints.write_aside(target, save({name: value.float() for name, value in total.items()}, facts))
    return left


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
