"""Conditions as users give them, checked against what the model was trained with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unstir.data import DataSpec
from unstir.denoisers import Condition
from unstir.errors import UserError

EACH = "each"  # the label that stands for every class in turn


def asked(
    spec: DataSpec, label: int | str | None, indices: Sequence[int], device: torch.device | str = "cpu"
) -> Condition | None:
    """The condition of samples to be drawn: one class for all, or with ``each`` class i mod K for sample i.

    Raises:
        UserError: for a class that the model does not have.
    """
    if label is None:
        return None
    if not spec.classes:
        raise UserError("this model was trained without classes, so it takes no label")
    if label == EACH and EACH not in spec.classes:
        numbers = [i % len(spec.classes) for i in indices]
    else:
        numbers = [_class(spec, label)] * len(indices)
    return Condition(torch.tensor(numbers, device=device))


def of_items(
    spec: DataSpec, labels: np.ndarray | Sequence[int | str], count: int, device: torch.device | str = "cpu"
) -> Condition:
    """The classes of ``count`` items of data, by number as data holds them or by name.

    Raises:
        UserError: for another number of labels, and for a class that the model does not have.
    """
    if not spec.classes:
        raise UserError("this model was trained without classes, so it takes no label")
    given = np.asarray(labels)
    if given.shape != (count,):
        raise UserError(f"labels are one class for each of {count} items, not an array of shape {given.shape}")
    # What data holds are numbers, whatever the classes are called: "7" may be the name of class 6.
    numbers = [_class(spec, each) if isinstance(each, str) else _numbered(spec, each) for each in given.tolist()]
    return Condition(torch.tensor(numbers, device=device))


def _class(spec: DataSpec, label: int | str) -> int:
    return spec.classes.index(str(label)) if str(label) in spec.classes else _numbered(spec, label)


def _numbered(spec: DataSpec, label: int | str) -> int:
    classes, number = spec.classes, _number(label)
    if number is None or not 0 <= number < len(classes):
        raise UserError(
            f"there is no class {label!r}; there are {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}"
        )
    return number


def _number(label: int | str) -> int | None:
    try:
        return int(str(label))  # 1.5 and True name no class
    except ValueError:
        return None
