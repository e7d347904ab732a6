"""Which extractor a name or a file means, and whether it suits the data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.evaluation.extractors import classifier, exported, inception
from unstir.evaluation.extractors.base import Extractor, Fit
from unstir.evaluation.extractors.builtin import FITTED

_FILES = (".pth", ".pt", ".safetensors", ".onnx", ".pt2")


def default(spec: DataSpec) -> str:
    """The features that need no file: ``random-filters`` of pictures, ``components`` of all else."""
    return "random-filters" if spec.kind == "image" else "components"


def find(named: str | Path | None, spec: DataSpec, *, input_range: str = "-1,1") -> Fit:
    """What makes the extractor of a name from real data as a network sees them; all that can be wrong is found here.

    Args:
        named: None for :func:`default`; ``random-filters`` (of pictures) or ``components``, both fitted to the data; or a file,
            whose network is taken as it is: Inception's weights (``.pth``, ``.pt``, ``.safetensors``), a classifier of
            ``unstir features train`` (``.safetensors``), any network as ``.onnx`` or ``.pt2``.
        input_range: of pictures for ``.onnx`` and ``.pt2``: -1,1; 0,1; 0,255; or imagenet (its means and deviations).

    Raises:
        UserError: for features that do not exist, files that cannot be read, and what does not suit the data.
    """
    named = str(named or default(spec))
    path = Path(named)
    of_file = named not in FITTED
    if of_file and not path.is_file():
        if path.suffix.lower() in _FILES or len(path.parts) > 1:
            raise UserError(f"there is no file {named} to take features with")
        raise UserError(
            f"there are no features called {named!r}; there are {', '.join(FITTED)}, and files: {', '.join(_FILES)}"
        )
    if input_range not in exported.RANGES:
        raise UserError(f"an input range is one of {'; '.join(exported.RANGES)}: not {input_range!r}")
    if input_range != "-1,1":
        if path.suffix.lower() not in (".onnx", ".pt2"):
            raise UserError(f"an input range is for .onnx and .pt2 files: {named} has its own")
        if spec.kind != "image" or not spec.eight_bit:
            raise UserError(
                "an input range is for pictures of levels 0…255: leave it out, and data go in as the run sees them"
            )
    if of_file:
        extractor = _of_file(path, spec, input_range)
        return lambda _: extractor
    if named.startswith("random-filters") and spec.kind != "image":
        raise UserError(f"random-filters look at pictures, and this run is of {spec.kind}: use components")
    return FITTED[named]


def _of_file(path: Path, spec: DataSpec, input_range: str) -> Extractor:
    suffix = path.suffix.lower()
    if suffix not in _FILES:
        raise UserError(f"features are taken with {', '.join(_FILES)} files: {path} is none of them")
    try:
        with path.open("rb") as file:
            file_hash = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if suffix in (".onnx", ".pt2"):
        return exported.of_file(path, file_hash, spec, input_range)
    if suffix == ".safetensors":
        return _of_safetensors(path, file_hash, spec)
    return inception.of_pickle(path, file_hash, spec)


def _of_safetensors(path: Path, file_hash: str, spec: DataSpec) -> Extractor:
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None
    if classifier.KEY in facts:
        return classifier.of_file(path, facts[classifier.KEY], weights, file_hash, spec)
    if "unstir" in facts:
        raise UserError(f"{path} is a run's model, which draws data; features come from networks that look at them")
    return inception.of_weights(weights, file_hash, path, spec)
