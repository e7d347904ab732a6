"""Which extractor a name means, and whether it suits the data."""

from __future__ import annotations

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.evaluation.extractors.base import Fit
from unstir.evaluation.extractors.builtin import FITTED


def default(spec: DataSpec) -> str:
    """The features that need no file: ``random-filters`` of pictures, ``components`` of all else."""
    return "random-filters" if spec.kind == "image" else "components"


def find(named: str | None, spec: DataSpec, *, input_range: str = "-1,1") -> Fit:
    """What makes the extractor of a name from real data as a network sees them; all that can be wrong is found here.

    Args:
        named: ``random-filters`` (of pictures) or ``components``, both fitted to the data; None for :func:`default`.

    Raises:
        UserError: for features that do not exist, and for those that do not suit the data.
    """
    named = named or default(spec)
    if named not in FITTED:
        raise UserError(f"there are no features called {named!r}; there are {', '.join(FITTED)}")
    if named == "random-filters" and spec.kind != "image":
        raise UserError(f"random-filters look at pictures, and this run is of {spec.kind}: use components")
    return FITTED[named]
