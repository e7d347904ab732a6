"""Training items that are there more than once: what is learned several times is remembered first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir.data import Split
from unstir.sets.nearest import PAIRS, nearly_equal

NEAR = 0.05
"""Training pictures are nearly equal within this share of a held-out picture's median distance to its nearest."""

SHOWN = 20
"""Of any list, in JSON."""


@dataclass(frozen=True)
class Duplicates:
    """Training items that are there more than once, by name.

    Args:
        exact: groups of equal items. near: pairs (name, name, distance) of different ones nearly equal in ``space``, nearest
            first; None where they are not looked for.
    """

    exact: tuple[tuple[str, ...], ...]
    near: tuple[tuple[str, str, float], ...] | None
    space: str

    def to_json(self) -> dict[str, Any]:
        """How many, and the first of them."""
        found = {
            "groups": len(self.exact),
            "items": sum(map(len, self.exact)),
            "equal": [list(group[:SHOWN]) for group in self.exact[:SHOWN]],
        }
        if self.near is None:
            return found
        return found | {
            "near_space": self.space,
            "near_pairs": len(self.near),
            "near": [list(pair) for pair in self.near[:SHOWN]],
        }

    def lines(self) -> list[str]:
        found = []
        if self.exact:
            some = "; ".join(
                " = ".join(group[:3]) + (f" and {len(group) - 3:,} more" if len(group) > 3 else "")
                for group in self.exact[:3]
            )
            found.append(
                f"  {len(self.exact):,} training items are there several times, {sum(map(len, self.exact)):,} in all: {some}"
                + ("; …" if len(self.exact) > 3 else "")
            )
        if self.near:
            some = "; ".join(f"{a} ≈ {b}" for a, b, _ in self.near[:3])
            found.append(
                f"  {len(self.near):,}{' or more' if len(self.near) >= PAIRS else ''} pairs of training items are nearly equal in "
                f"{self.space}: {some}{'; …' if len(self.near) > 3 else ''}"
            )
        return found


def repeated(
    training: Split, groups: list[list[int]], features: Tensor, space: str, typical: float | None
) -> Duplicates:
    """What is there more than once.

    Args:
        groups: equal rows, of :func:`~unstir.data.split.duplicates`.
        features: (N, F), of the training items, in ``space``.
        typical: how far new items are from their nearest training item there; None: no near ones are looked for.
    """
    names = training.names
    exact = tuple(tuple(names[i] for i in group) for group in groups)
    if typical is None:
        return Duplicates(exact, None, space)
    once = np.setdiff1d(np.arange(len(training)), [i for group in groups for i in group[1:]])
    x = features.cpu()
    near = nearly_equal(x[torch.from_numpy(once)] if groups else x, NEAR * typical)
    return Duplicates(exact, tuple((names[int(once[i])], names[int(once[j])], d) for i, j, d in near), space)
