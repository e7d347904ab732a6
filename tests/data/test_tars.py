"""Shards of ``.tar`` files hold the pictures that a folder would."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data import load
from unstir.data.sources import path_of
from unstir.errors import UserError


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(levels(seed)).save(stream, "PNG")
    return stream.getvalue()


def levels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of four pictures, each with its class; the second in another order."""
    for number in range(3):
        members: dict[str, bytes] = {}
        for i in range(4):
            seed = 4 * number + i
            members |= {
                f"{seed:04d}.png": png(seed),
                f"{seed:04d}.cls": str(seed % 3).encode(),
                f"{seed:04d}.json": b"{}",
            }
        shard(
            tmp_path / "shards" / f"train-{number:03d}.tar", dict(reversed(members.items())) if number == 1 else members
        )
    return tmp_path / "shards"


def test_every_picture_has_its_class(shards: Path) -> None:
    dataset = load(shards)
    assert dataset.spec.classes == ("0", "1", "2")
    assert dataset.log == [
        "train-000.tar/0000.json, train-000.tar/0001.json, train-000.tar/0002.json and 9 more: neither picture nor class, ignored",
        "classes taken from .cls",
    ]
    seen = set()
    for split in (dataset.train, dataset.heldout):
        assert split.labels is not None
        for x, label, name in zip(split.x, split.labels, split.names):
            seed = int(Path(name).stem)
            assert (x == levels(seed)).all(), name
            assert label == seed % 3
            assert name == f"train-{seed // 4:03d}.tar/{seed:04d}.png"
            seen.add(seed)
    assert seen == set(range(12))


def test_a_folder_a_range_and_wildcards_name_the_same_data(shards: Path) -> None:
    hashes = {load(source).spec.hash for source in (shards, f"{shards}/train-{{000..002}}.tar", f"{shards}/*.tar")}
    assert len(hashes) == 1
    part = load(f"{shards}/train-{{001..002}}.tar")
    assert len(part.train) + len(part.heldout) == 8
    assert path_of(f"{shards}/train-{{001..002}}.tar") == shards
    one = load(shards / "train-001.tar")
    assert len(one.train) + len(one.heldout) == 4


def test_a_change_in_a_shard_is_seen(shards: Path) -> None:
    before = load(shards)
    shard(shards / "train-002.tar", {"a.png": png(50), "a.cls": b"1"})
    after = load(shards)
    assert len(after.train) + len(after.heldout) == 9
    assert before.spec.hash != after.spec.hash


def test_without_labels_the_folders_are_classes(tmp_path: Path) -> None:
    shard(tmp_path / "pets.tar", {f"pets/{'cat' if i % 2 else 'dog'}/{i}.jpg.png": png(i) for i in range(6)})
    dataset = load(tmp_path / "pets.tar")
    assert dataset.spec.classes == ("cat", "dog")


def test_named_classes_and_one_without(tmp_path: Path) -> None:
    members = {f"{i}.png": png(i) for i in range(4)} | {f"{i}.cls": b"cat" if i else b"dog" for i in range(4)}
    shard(tmp_path / "a.tar", members)
    assert load(tmp_path / "a.tar").spec.classes == ("cat", "dog")
    del members["2.cls"]
    shard(tmp_path / "b.tar", members)
    found = load(tmp_path / "b.tar")
    assert found.spec.classes == ()
    assert found.log == ["no classes: 2.png have no .cls"]


def test_what_cannot_be_read_is_said_in_one_line(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-003\.tar: no such shards"):
        load(f"{shards}/train-{{000..003}}.tar")
    with pytest.raises(UserError, match="no such shards"):
        load(f"{shards}/other-*.tar")
    shard(tmp_path / "small.tar", {"0.png": png(0)}, "w:gz")
    with pytest.raises(UserError, match="unpack what is compressed"):
        load(tmp_path / "small.tar")
    shard(tmp_path / "none.tar", {"0.txt": b"no picture"})
    with pytest.raises(UserError, match="no pictures in it"):
        load(tmp_path / "none.tar")
