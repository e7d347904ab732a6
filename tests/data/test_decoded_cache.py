from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unstir.data.prepare
from unstir.data import inspect, load
from unstir.data.cache import Cache, default_cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    (tmp_path / "bad.png").write_text("hello")
    return tmp_path


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for every picture that is decoded."""
    calls: list[int] = []
    decode = unstir.data.prepare.decode

    def counting(*args: object) -> object:
        calls.append(1)
        return decode(*args)

    monkeypatch.setattr(unstir.data.prepare, "decode", counting)
    return calls


def age(folder: Path) -> None:
    """Makes files old enough to be remembered by their times."""
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))


def entries(root: Path) -> list[Path]:
    return sorted((root / "data").iterdir())


def test_pictures_are_decoded_once_and_then_mapped(folder: Path, decodings: list[int]) -> None:
    first = inspect(folder)
    assert len(decodings) == 13
    second = inspect(folder)
    assert len(decodings) == 13
    assert isinstance(second.dataset.train.x, np.memmap)
    assert not second.dataset.train.x.flags.writeable
    assert first.to_json() == second.to_json()


def test_the_key_is_the_content(folder: Path, tmp_path_factory: pytest.TempPathFactory, decodings: list[int]) -> None:
    load(folder)
    copy = tmp_path_factory.mktemp("copy")
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert load(copy).spec.source == str(copy)  # the user's name, not the first one's
    assert len(decodings) == 13
    pixels = np.zeros((8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "00.png")
    dataset = load(folder)
    assert len(decodings) == 26
    assert any((x == 0).all() for split in (dataset.train, dataset.heldout) for x in split.x)
    (folder / "00.png").rename(folder / "zz.png")
    load(folder)
    assert len(decodings) == 39


def test_the_key_holds_the_options(folder: Path, cache_of_its_own: Path) -> None:
    for options in ({}, {"size": 4}, {"mode": "L"}, {"background": (0, 0, 0)}):
        load(folder, **options)
    assert len(entries(cache_of_its_own)) == 4


def test_an_unchanged_file_is_not_read_and_a_changed_one_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unstir.data.cache, "_RACY", -1.0)  # as if the files were old
    inputs = {file.name: file for file in sorted(folder.iterdir())}
    cache = Cache(default_cache())
    read: list[Path] = []
    file_hash = unstir.data.cache._file_hash
    monkeypatch.setattr(unstir.data.cache, "_file_hash", lambda path: read.append(path) or file_hash(path))
    key = cache.key(inputs, None)
    assert len(read) == 13
    assert cache.key(inputs, None) == key
    assert len(read) == 13
    data = bytearray((folder / "00.png").read_bytes())
    data[-1] ^= 1  # same name, same size
    (folder / "00.png").write_bytes(bytes(data))
    assert cache.key(inputs, None) != key


def test_files_just_written_are_read_again(folder: Path, cache_of_its_own: Path) -> None:
    load(folder)
    assert not (cache_of_its_own / "known").exists()


def test_a_half_written_entry_is_never_read(folder: Path, cache_of_its_own: Path, decodings: list[int]) -> None:
    whole = load(folder).spec
    (entry,) = entries(cache_of_its_own)
    for damage in ("train.npy", "meta.json"):
        path = entry / damage
        path.write_bytes(path.read_bytes()[:-7])
        decodings.clear()
        assert load(folder).spec == whole
        assert len(decodings) == 13
        assert entries(cache_of_its_own) == [entry]
    (entry / "heldout.npy").unlink()
    assert load(folder).spec == whole


def test_an_interrupted_writer_leaves_nothing(folder: Path, cache_of_its_own: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(folder, progress=interrupt)
    assert entries(cache_of_its_own) == []


def test_what_a_killed_writer_left_is_swept_a_day_later(folder: Path, cache_of_its_own: Path) -> None:
    for name, time in (("writing-old", 1e9), ("writing-new", None)):
        (cache_of_its_own / "data" / name).mkdir(parents=True)
        if time:
            os.utime(cache_of_its_own / "data" / name, (time, time))
    load(folder)
    names = [entry.name for entry in entries(cache_of_its_own)]
    assert "writing-old" not in names
    assert "writing-new" in names


def _load_elsewhere(folder: Path, root: Path, hashes: multiprocessing.Queue) -> None:
    hashes.put(load(folder, cache=root).spec.hash)


def test_processes_may_write_the_same_entry_at_once(folder: Path, cache_of_its_own: Path) -> None:
    context = multiprocessing.get_context("spawn")
    hashes = context.Queue()
    workers = [context.Process(target=_load_elsewhere, args=(folder, cache_of_its_own, hashes)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = {hashes.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert found == {load(folder).spec.hash}
    assert len(entries(cache_of_its_own)) == 1


def test_without_a_usable_cache_it_works_in_memory(folder: Path, tmp_path: Path) -> None:
    cached = load(folder)
    (tmp_path / "a file").write_text("in the way")
    dataset = load(folder, cache=tmp_path / "a file" / "below")
    assert dataset.spec.hash != ""
    assert dataset.spec.shape == cached.spec.shape
    assert "kept in memory, because the cache cannot be used" in dataset.log[-1]


def test_a_full_disk_is_found_before_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    assert "0 free" in load(folder).log[-1]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNSTIR_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "ours"
    monkeypatch.delenv("UNSTIR_CACHE")
    assert default_cache() == tmp_path / "xdg" / "unstir"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache().parent.exists() or Path.home() in default_cache().parents
