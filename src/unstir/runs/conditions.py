"""Conditions as users give them, checked against what the model was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from unstir.data import DataSpec
from unstir.denoisers import Condition
from unstir.editing import views
from unstir.editing.views import LowResolution, Masked, View
from unstir.errors import UserError
from unstir.noise import NoiseSource

EACH = "each"  # the label that stands for every class in turn


def view_of(name: str) -> View | None:
    """What a run's ``condition`` shows of pictures; None for a run without.

    Raises:
        UserError: for a name that does not exist.
    """
    try:
        return views.get(name) if name else None
    except ValueError as error:
        raise UserError(f"--condition: {error}") from None


def shown_channels(name: str, spec: DataSpec) -> int:
    """How many channels a run's ``condition`` shows of its pictures; 0 for a run without.

    Raises:
        UserError: where the data are no pictures, or of a shape that the condition does not suit.
    """
    view = view_of(name)
    if view is None:
        return 0
    if spec.kind != "image":
        raise UserError(f"--condition {name} is of pictures, and this data is {spec.kind}: leave it out")
    channels, height, width = spec.shape
    try:
        return view.channels((channels, height, width))
    except ValueError as error:
        raise UserError(f"--condition {name}: {error}") from None


def asked(
    spec: DataSpec,
    label: int | str | None,
    indices: Sequence[int],
    device: torch.device | str = "cpu",
    *,
    vector: np.ndarray | Sequence[float] | Sequence[Sequence[float]] | None = None,
    image: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    shown_as: str = "",
    seed: int = 0,
) -> Condition | None:
    """The condition of samples to be drawn; of several classes, vectors or pictures sample i gets number i mod K.

    Args:
        label: one class for all, or ``each`` for all in turn.
        vector: (V,) or (K, V), in the table's own units.
        image: pictures as users hold them, (H, W, C) or (K, H, W, C), of which the run's view shows its part; of a low resolution
            also small ones as they are.
        mask: of a masked view, bool (H, W) or (K, H, W): True where the picture is unknown. None draws what is unknown, as training
            does.
        shown_as: the run's ``condition``. seed: of what is drawn.

    Raises:
        UserError: for what the model does not have or was not trained with.
    """
    rows = list(indices)
    found = Condition(
        None if label is None else torch.tensor(_labels(spec, label, rows)),
        None if vector is None else _vectors(spec, vector, rows),
        None if image is None else _shown(spec, image, mask, shown_as, NoiseSource(seed, rows), rows),
    )
    if mask is not None and image is None:
        raise UserError("a mask says what of a picture is unknown: give the picture too")
    return None if found.empty else _on(found, device)


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


def numbers_of(text: str | None) -> list[float] | None:
    """A vector as it is typed, such as ``0.3,1.2``.

    Raises:
        UserError: for what is no list of numbers.
    """
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"a vector is numbers with commas between, such as 0.3,1.2: not {text!r}") from None


def _labels(spec: DataSpec, label: int | str, rows: Sequence[int]) -> list[int]:
    if not spec.classes:
        raise UserError("this model was trained without classes, so it takes no label")
    if label == EACH and EACH not in spec.classes:
        return [i % len(spec.classes) for i in rows]
    return [_class(spec, label)] * len(rows)


def _vectors(
    spec: DataSpec, vector: np.ndarray | Sequence[float] | Sequence[Sequence[float]], rows: Sequence[int]
) -> Tensor:
    if spec.vectors is None:
        raise UserError("this model was trained without vectors, so it takes none")
    names = spec.vectors.names
    try:
        given = np.atleast_2d(np.asarray(vector, np.float64))
    except ValueError:
        raise UserError("vectors are numbers, (V,) or (K, V)") from None
    if given.ndim != 2 or given.shape[1] != len(names) or not len(given):
        raise UserError(f"this model's vectors have {len(names)} numbers ({', '.join(names)}), not {given.shape[-1]}")
    if not np.isfinite(given).all():
        raise UserError("a vector's numbers are finite")
    return torch.from_numpy(spec.vectors.inside(given))[[i % len(given) for i in rows]]


def _shown(
    spec: DataSpec, image: np.ndarray, mask: np.ndarray | None, shown_as: str, noise: NoiseSource, rows: Sequence[int]
) -> Tensor:
    view = view_of(shown_as)
    if view is None:
        raise UserError("this model was trained without pictures as condition, so it takes none")
    if mask is not None and not isinstance(view, Masked):
        raise UserError(f"this model is shown pictures as {shown_as}, which has no mask: leave it out")
    given = np.asarray(image)
    given = given[None] if given.ndim == 3 else given
    channels, height, width = spec.shape
    small = isinstance(view, LowResolution) and given.shape[1:3] == (height // view.factor, width // view.factor)
    if given.ndim != 4 or not len(given) or not (small or given.shape[1:] == (height, width, channels)):
        raise UserError(
            f"pictures shown to this model have shape ({height}, {width}, {channels}), one or several, not {np.shape(image)}"
        )
    places = [i % len(given) for i in rows]
    try:
        x0 = spec.inside(given)[places]
    except ValueError as error:
        raise UserError(str(error)) from None
    if small and isinstance(view, LowResolution):
        return view.enlarged(x0)
    if isinstance(view, Masked) and mask is not None:
        return view.shown(x0, _known(mask, height, width, rows).to(x0))
    return view(x0, noise)


def _known(mask: np.ndarray, height: int, width: int, rows: Sequence[int]) -> Tensor:
    unknown = np.asarray(mask)
    unknown = unknown[None] if unknown.ndim == 2 else unknown
    if unknown.dtype != np.bool_ or unknown.shape[1:] != (height, width) or not len(unknown):
        raise UserError(f"a mask is bool ({height}, {width}), one or several, not {unknown.dtype} {np.shape(mask)}")
    return ~torch.from_numpy(unknown)[[i % len(unknown) for i in rows], None]


def _on(condition: Condition, device: torch.device | str) -> Condition:
    parts = {name: value.to(device) for name, value in vars(condition).items() if value is not None}
    return replace(condition, **parts)


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
