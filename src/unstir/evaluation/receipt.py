"""Receipts: what was measured, on what, how, with what and with which result, so that anyone can repeat it or refuse it.

A receipt is one JSON object: ``asked`` (the question, word for word), ``data`` (hash, split, counts, rules), ``model`` (hash of its
weights and configuration, raw or averaged, how far trained), ``extractor`` and ``sampling`` where samples were drawn, ``results``,
``made`` (command, versions, device, threads, seconds, time). Paths in it are as they were typed.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from unstir.data import Dataset
from unstir.errors import UserError
from unstir.evaluation import fields
from unstir.evaluation.asked import SAMPLED, Answers, Asked
from unstir.evaluation.extractors.base import identity
from unstir.runs import Model
from unstir.runs.checkpoint import write_aside

FORMAT = 1
_NAMED = 2  # metrics in a file's name
PACKAGES = ("unstir", "torch", "numpy", "pillow")
_PARTS = {"asked": dict, "data": dict, "model": dict, "results": dict, "made": dict}
_KEYS: dict[str, Any] = {
    "run": str,
    "asked.data": str | None,
    "data.hash": str,
    "data.rules": str,
    "model.hash": str,
    "model.weights": Literal["ema", "raw"],
    "model.images": int,
    "made.versions": dict[str, Any],
}
_LIKELIHOOD = {"unit": str, "total": float | None, "half_width": float | None, "items": int}
_RESULTS: dict[str, dict[str, Any]] = {
    "bound": _LIKELIHOOD | {"chain": int},
    "ode": _LIKELIHOOD,
    "yardsticks": {"items": int, "rows": list[dict[str, str | float | None]]},
    "quality": {
        **{"extractor": str, "drawn": str, "samples": int, "real": int, "heldout": int},
        "values": dict[str, float | None],
    },
}
"""What must be there, and of which type, for a receipt to be repeated and compared; of results where there are any."""

Receipt = dict[str, Any]


def model_hash(model: Model) -> str:
    """SHA-256 (hex) of all that makes a model what it is.

    Names, types, shapes and values of its weights; its network, process, schedule, prediction and variance; how data are scaled.
    """
    tensors = sorted(model.denoiser.network.state_dict().items())
    described = json.dumps([_description(model), [name for name, _ in tensors]], sort_keys=True)
    return identity(described, (tensor.reshape(-1) for _, tensor in tensors))


def _description(model: Model) -> dict[str, Any]:
    config, scaling = model.config, model.spec.scaling
    kept = {name: getattr(config, name) for name in ("network", "process", "schedule", "prediction", "variance")}
    if config.condition or model.spec.vectors is not None:  # what a typed condition means to the network
        kept |= {"condition": config.condition, "vectors": model.spec.vectors and asdict(model.spec.vectors)}
    return kept | {"times": config.times.name, "scaling": scaling and asdict(scaling)}


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """What was measured on: the hash is of both splits, in order, with their labels."""
    spec = dataset.spec
    return {
        "source": spec.source,
        "hash": spec.hash,
        "kind": spec.kind,
        "shape": list(spec.shape),
        "rules": spec.rules,
        "training": len(dataset.train),
        "heldout": len(dataset.heldout),
    }


def of(
    asked: Asked,
    answers: Answers,
    model: Model,
    dataset: Dataset,
    *,
    run: str,
    data: str | None = None,
    seconds: float,
    command: Sequence[str] | None = None,
) -> Receipt:
    """The receipt of one evaluation.

    Args:
        run, data: as they were named. command: that was typed; by default this process's own.
    """
    device = next(model.denoiser.parameters()).device
    typed = [Path(sys.argv[0]).name, *sys.argv[1:]] if command is None else list(command)
    extractor, drawn = answers.reference and answers.reference.extractor, answers.drawn
    packages = PACKAGES + (("onnxruntime",) if extractor and extractor.name.startswith("onnx-") else ())
    return {
        "receipt": FORMAT,
        "run": run,
        "asked": asked.to_json() | {"data": data},
        "data": data_facts(dataset),
        "model": {
            "hash": model_hash(model),
            "weights": model.weights,
            "average": {"kind": "power", "width": model.config.ema_width} if model.weights == "ema" else None,
            "images": model.images,
            "trained_on": model.spec.hash,
            **{name: value for name, value in _description(model).items() if name != "network"},
            "parameters": sum(p.numel() for p in model.denoiser.network.parameters()),
            "dtype": str(next(model.denoiser.parameters()).dtype).removeprefix("torch."),
        },
        "extractor": extractor and {"name": extractor.name, "hash": extractor.hash, "rule": extractor.rule},
        "sampling": drawn and drawn.to_json(),
        "results": answers.to_json(),
        "made": {
            "command": shlex.join(typed),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "seconds": round(seconds, 1),
            "sampling_seconds": drawn and round(drawn.seconds, 1),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }


def name(receipt: Receipt) -> str:
    """A file's name for it: the same question of the same model, data and features has the same, any other another."""
    extractor, metrics = receipt["extractor"], receipt["asked"]["metrics"]
    whole = [receipt["asked"], receipt["data"]["hash"], receipt["model"]["hash"], extractor and extractor["hash"]]
    said = "-".join(metrics) if len(metrics) <= _NAMED else f"{metrics[0]}-and-{len(metrics) - 1}-more"
    return f"{said}-{identity(json.dumps(whole, sort_keys=True), ())[:6]}.json"


def place(run: Path, receipt: Receipt) -> Path:
    """Where it lies unless told otherwise: in the run's folder, or beside a model that is one file."""
    return (run if run.is_dir() else run.parent) / "receipts" / name(receipt)


def write(receipt: Receipt, path: Path) -> None:
    """Writes it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, (json.dumps(receipt, indent=1, ensure_ascii=False) + "\n").encode())


def read(path: Path) -> Receipt:
    """A receipt from its file.

    Raises:
        UserError: when there is none, it is of a newer version, or anything that is read of it is missing or of another type.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, and a receipt is a file: {_inside(path)}")
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not a receipt of unstir evaluate: it is not JSON") from None
    whole = isinstance(receipt, dict) and all(isinstance(receipt.get(key), kind) for key, kind in _PARTS.items())
    if not whole or fields.check(receipt.get("receipt"), int):
        raise UserError(f"{path} is not a receipt of unstir evaluate")
    if receipt["receipt"] > FORMAT:
        raise UserError(f"{path} was written by a newer unstir; upgrade to read it")
    try:
        question(receipt)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for key, kind in _wanted(receipt):
        found: Any = receipt
        for part in key:
            if part not in found:
                raise UserError(f"{path} is damaged: {'.'.join(key)} is missing")
            found = found[part]
        if wrong := fields.check(found, kind):
            raise UserError(f"{path} is damaged: {'.'.join(key)} {wrong}")
    return receipt


def _wanted(receipt: Receipt) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key that must be there, the outer before what is in it, with its type."""
    for key, kind in _KEYS.items():
        yield tuple(key.split(".")), kind
    for name in receipt["results"]:
        yield ("results", name), dict[str, Any]
        yield from ((("results", name, key), kind) for key, kind in _RESULTS.get(name, {}).items())
    if "quality" in receipt["results"]:
        yield ("extractor",), dict[str, Any]
        yield from ((("extractor", key), str) for key in ("name", "hash"))


def _inside(folder: Path) -> str:
    inside = folder if folder.name == "receipts" else folder / "receipts"
    newest = sorted(inside.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:3]
    if not newest:
        return "it holds no receipts, which unstir evaluate writes"
    return f"give one of its receipts, such as {' or '.join(map(str, newest))}"


def question(receipt: Receipt) -> tuple[Asked, str | None]:
    """What was asked, and of which data (None: the run's own)."""
    asked = dict(receipt["asked"])
    data = asked.pop("data", None)
    drawn = receipt.get("sampling") or {}
    # Receipts from before a run could choose leave open what was the default then: how samples were drawn says it.
    for name, said in SAMPLED.items():
        if asked.get(name) is None and drawn.get(said) is not None:
            asked[name] = drawn[said]
    return Asked.from_json(asked), data


def short(value: Any) -> str:
    """For sentences: as text, with hashes cut to their first 12 digits."""
    return " ".join(word[:12] + "…" if len(word) == 64 else word for word in str(value).split())
