"""Features of stored data, computed once: kept beside the decoded pictures, and free to be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unstir.data.cache import default_cache
from unstir.data.split import content_hash
from unstir.evaluation.extractors.base import Extractor
from unstir.runs.checkpoint import write_aside

_PROBED = 4  # rows


def cached(
    extractor: Extractor,
    x: np.ndarray,
    inside: Callable[[np.ndarray], Tensor],
    *,
    batch: int = 250,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """The features (N, F), float64, of data as users hold it (N, …): from disk where these very features were kept before.

    The key is the extractor's hash, the data's content, and the features of the first rows to the last bit: axes that another
    version or processor found are not mixed with today's. An entry is an array as numpy keeps it, and after it the SHA-256 of key
    and array: one that was cut, changed or put in another's place is not used. It is written under another name and renamed. One
    that cannot be read or written costs the time to compute it, and nothing else.

    Args:
        inside: takes rows across the border, such as :meth:`~unstir.runs.Model.inside`.
        batch: how many rows at a time.
        cache: the folder of entries; ``features`` in :func:`~unstir.data.cache.default_cache` unless named.
        progress: called with (rows done, all).
    """
    first = extractor(inside(x[:_PROBED])).numpy()
    key = hashlib.sha256(f"{extractor.hash} {content_hash([x])} {content_hash([first])}".encode()).hexdigest()
    place = (cache or default_cache() / "features") / f"{key}.npy"
    features = _kept(place, (len(x), first.shape[1]))
    if features is None:
        parts = []
        for start in range(0, len(x), batch):
            parts.append(extractor(inside(x[start : start + batch])))
            if progress:
                progress(min(start + batch, len(x)), len(x))
        features = torch.cat(parts)
        _keep(place, features)
    elif progress:
        progress(len(x), len(x))
    return features


def _kept(place: Path, shape: tuple[int, int]) -> Tensor | None:
    try:
        content = place.read_bytes()
        array = memoryview(content)[: -hashlib.sha256().digest_size]
        if content[len(array) :] != _sealed(place, array):
            return None
        found = np.lib.format.read_array(BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or none of ours
        return None
    if found.shape != shape or found.dtype.kind != "f":
        return None
    return torch.from_numpy(found.astype(np.float64))


def _sealed(place: Path, array: memoryview) -> bytes:
    hashed = hashlib.sha256(place.stem.encode())
    hashed.update(array)
    return hashed.digest()


def _keep(place: Path, features: Tensor) -> None:
    held = features.numpy()
    small = held.astype(np.float32)
    if np.array_equal(small, held):  # a network in float32 says no more than this, and its features are many
        held = small
    content = BytesIO()
    np.save(content, held)
    content.write(_sealed(place, memoryview(content.getvalue())))
    with contextlib.suppress(OSError):  # the disk may be full or the folder not ours: then there is no entry
        place.parent.mkdir(parents=True, exist_ok=True)
        write_aside(place, content.getvalue())
