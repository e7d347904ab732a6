"""A checkpoint's tensors in the parts that several processes keep: each writes its own, and anyone reads them as whole ones.

The file ``model-00002-of-00004.safetensors`` holds, of each tensor by name, the second of four parts: those cut along the first
dimension, in order. What has no dimension is the same in all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})")


class Joined(Mapping[str, Tensor]):
    """Whole tensors made of their parts when they are asked for, so that one at a time is in memory.

    Args:
        parts: what each process wrote, in order.
    """

    def __init__(self, parts: list[Mapping[str, Tensor]]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> Tensor:
        parts = [part[name] for part in self.parts]
        return torch.cat(parts) if parts[0].ndim else parts[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts[0])

    def __len__(self) -> int:
        return len(self.parts[0])


def name_of(name: str, rank: int, world: int) -> str:
    """What the part of process ``rank`` of ``world`` is called."""
    return f"{name}-{rank + 1:05d}-of-{world:05d}"


def joined(files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Mapping[str, Tensor]]:
    """Tensors by part and name from what files hold, by their names without suffix, whether whole or in parts.

    Raises:
        ValueError: when a part is missing.
    """
    whole: dict[str, Mapping[str, Tensor]] = {}
    cut: defaultdict[tuple[str, int], dict[int, Mapping[str, Tensor]]] = defaultdict(dict)
    for name, tensors in files.items():
        match = _NAME.fullmatch(name)
        if match is None:
            whole[name] = tensors
        else:
            cut[match[1], int(match[3])][int(match[2])] = tensors
    for (name, count), parts in cut.items():
        if sorted(parts) != list(range(1, count + 1)):
            raise ValueError(f"of {count} parts of {name} there are {len(parts)}")
        whole[name] = Joined([parts[number] for number in sorted(parts)])
    return whole
