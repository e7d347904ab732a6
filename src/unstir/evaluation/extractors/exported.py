"""Any network from a file, ONNX or exported by torch, as an extractor: its first output is what data are compared in."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unstir.data import DataSpec
from unstir.errors import UserError
from unstir.evaluation.extractors import pictures

RANGES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "-1,1": ((0.0,), (1.0,)),
    "0,1": ((-1.0,), (2.0,)),
    "0,255": ((-1.0,), (2 / 255,)),
    "imagenet": ((-0.03, -0.088, -0.188), (0.458, 0.448, 0.45)),
}
"""What a network wants of pictures in -1…1: ``(x - offset) / scale``, of each channel. The last is ``(u - m) / s`` of u in 0…1
with the means 0.485, 0.456, 0.406 and deviations 0.229, 0.224, 0.225 of ImageNet's pictures."""
_AT_ONCE = 8  # what few rows leave behind stays in the processor's cache
_SAME = 1e-3
"""By so much of the largest, features may differ with the batch: more than rounding is a network in train mode."""


@dataclass(frozen=True)
class _Network:
    """A network as its file gives it: ``run`` takes float32 of ``shape``, where None stands for any size."""

    run: Callable[[Tensor], Tensor]
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Exported:
    """The first output (N, F) of a network in a file, or the mean over space of (N, F, H, W).

    Attributes:
        name: the kind of file, its stem, the beginning of its SHA-256, and the range where it is not -1…1.
        size: (H, W) that pictures are resized to; None leaves them as they are.
        batch: how many rows the file takes at once, where it takes no other number.
    """

    network: _Network
    name: str
    hash: str
    rule: str
    input_range: str = "-1,1"
    channels: int | None = None
    size: tuple[int, int] | None = None
    batch: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) or (N, D) to (N, F), float64."""
        parts = []
        with torch.no_grad():
            for part in x.split(self.batch or _AT_ONCE):
                given = self._prepared(part.cpu().float())
                if self.batch:
                    given = torch.cat([given, given[-1:].expand(self.batch - len(part), *given.shape[1:])])
                seen = self.network.run(given.contiguous())[: len(part)].double()
                parts.append(seen.mean((2, 3)) if seen.ndim == 4 else seen)
        return torch.cat(parts)

    def _prepared(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x
        if self.channels == 3:
            x = pictures.three_channels(x)
        if self.size and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        offset, scale = (torch.tensor(values)[:, None, None] for values in RANGES[self.input_range])
        return (x - offset) / scale


def of_file(path: Path, file_hash: str, spec: DataSpec, input_range: str) -> Exported:
    """The extractor in an ``.onnx`` or ``.pt2`` file, tried out on three rows of noise.

    Raises:
        UserError: where the file cannot be read, where its network does not take such data, or gives no features, or gives
            rows that depend on one another.
    """
    kind = path.suffix.lower().removeprefix(".")
    network = _of_onnx(path) if kind == "onnx" else _of_pt2(path)
    if kind == "onnx":
        file_hash = _with_outside_data(path, file_hash)
    channels, size, rule = _way_in(path, network.shape, spec, input_range)
    rule += "; the network's first output, averaged over space where it has some"
    name = f"{kind}-{path.stem}-{file_hash[:8]}" + ("" if input_range == "-1,1" else f"[{input_range}]")
    # Not the name, which has the file's: the same network called otherwise gives the same features.
    whole = hashlib.sha256(f"{kind}\n{input_range}\n{rule}\n{file_hash}".encode()).hexdigest()
    extractor = Exported(network, name, whole, rule, input_range, channels, size, network.shape[0])
    _try_out(extractor, path, spec)
    return extractor


def _way_in(
    path: Path, fixed: tuple[int | None, ...], spec: DataSpec, input_range: str
) -> tuple[int | None, tuple[int, int] | None, str]:
    """How data reach a network of that input: channels, (H, W) where it is fixed, and both in words."""
    takes = f"{path} takes ({', '.join('any' if size is None else str(size) for size in fixed)})"
    if spec.kind == "symbols":
        raise UserError("networks from files take numbers, and this run is of symbols: use components")
    if spec.kind != "image":
        if len(fixed) != 2 or fixed[1] not in (None, spec.shape[0]):
            raise UserError(f"{takes}, and these {spec.kind} are (N, {spec.shape[0]})")
        return None, None, f"{spec.kind} as the network of the run sees them"
    own = spec.shape[0]
    if len(fixed) != 4 or (fixed[1] not in (None, own) and (fixed[1], own) != (3, 1)):
        raise UserError(f"{takes}, and these pictures are (N, {', '.join(map(str, spec.shape))})")
    channels = fixed[1] or (3 if input_range == "imagenet" else own)
    if input_range == "imagenet" and channels != 3:
        raise UserError(f"{takes}, and ImageNet's means are those of three channels: choose another input range")
    said, size = ["pictures"], None
    if channels != own:
        said.append("grey copied to three channels")
    if fixed[2] and fixed[3]:
        size = (fixed[2], fixed[3])
    if size and size != spec.shape[1:]:
        said.append(f"resized to {size[0]}×{size[1]} by torch's antialiased bilinear rule")
    said.append(
        "less ImageNet's means, over its deviations"
        if input_range == "imagenet"
        else f"in {input_range.replace(',', '…')}"
    )
    return channels, size, ", ".join(said)


def _try_out(extractor: Exported, path: Path, spec: DataSpec) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, *spec.shape, generator=generator) * 2 - 1
    x = (x > 0).float() if spec.kind == "bits" else x
    try:
        together, alone = extractor(x), extractor(x[:1])
    except Exception as error:  # whatever a network from elsewhere meets
        what = "pictures" if spec.kind == "image" else spec.kind
        raise UserError(f"{path} does not take these {what}: {_line(error)}") from None
    if together.ndim != 2 or len(together) != 3 or not together.shape[1]:
        shape = ", ".join(map(str, together.shape))
        raise UserError(
            f"the first output of {path} has shape ({shape}) for 3 rows: features are (N, F) or (N, F, H, W)"
        )
    if not bool(together.isfinite().all()):
        raise UserError(f"{path} gives features that are not finite")
    if float((together[:1] - alone).abs().max()) > _SAME * float(together.abs().max()):
        raise UserError(
            f"the features that {path} gives depend on what else is in the batch: export the network in eval mode"
        )


def _of_onnx(path: Path) -> _Network:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"reading {path} takes onnxruntime: pip install 'unstir[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # what is wrong comes as an exception
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but this
        raise UserError(f"{path} cannot be read as an ONNX network: {_line(error)}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(one.type for one in inputs)
        raise UserError(f"{path} takes {found}: features come from networks of one input in float32")
    name, output = inputs[0].name, session.get_outputs()[0].name

    def run(x: Tensor) -> Tensor:
        (found,) = session.run([output], {name: x.numpy()})
        return torch.from_numpy(found)

    return _Network(run, _sizes(inputs[0].shape))


def _with_outside_data(path: Path, file_hash: str) -> str:
    """The hash of a file and of those beside it that hold its weights; of a file that holds its own it stays."""
    try:
        import onnx
    except ImportError:
        raise UserError(f"reading {path} takes onnx: pip install 'unstir[export]'") from None
    weights = onnx.load(str(path), load_external_data=False).graph.initializer
    outside = sorted({e.value for tensor in weights for e in tensor.external_data if e.key == "location"})
    if not outside:
        return file_hash
    total = hashlib.sha256(file_hash.encode())
    for name in outside:
        with (path.parent / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _of_pt2(path: Path) -> _Network:
    _check_holds_no_code(path)
    try:
        with _tensors_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:  # whatever torch's reader meets in a file of unknown making
        raise UserError(f"{path} cannot be read as a network exported by torch: {_line(error)}") from None
    names = program.graph_signature.user_inputs
    inputs = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor) or inputs[0].dtype != torch.float32:
        raise UserError(f"{path} takes other inputs than one in float32, which features come from")
    return _Network(lambda x: _first(module(x)), _sizes(inputs[0].shape))


@contextmanager
def _tensors_only() -> Iterator[None]:
    """torch's reader falls back to unpickling whatever it finds, which would let a file run code; so told, it does not."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _check_holds_no_code(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [part for name in archive.namelist() for part in name.split("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as a network exported by torch: {error}") from None
    # Objects that only unpickling restores, and compiled libraries.
    code = next((part for part in parts if part.startswith(("opaque_obj_", "custom_obj_", "aotinductor"))), None)
    if code:
        raise UserError(f"{path} holds code ({code}), which is not run: export the network's plain operations")


def _first(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        if isinstance(output, Mapping):
            output = list(output.values())
        output = output[0]
    return output


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in shape)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
