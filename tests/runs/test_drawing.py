"""Samples into files: shared between processes, continued after a death, and the same files in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unstir.data.codec import LEVELS
from unstir.errors import UserError
from unstir.runs import Model, load
from unstir.runs.drawing import Job

NAMES = ["folder", "x.npz", "x.png"]


def job(target: Path, indices: Sequence[int] = range(11), batch: int = 3, how: str = "ddim") -> Job:
    return Job(target, indices, batch, {"how": how}, LEVELS)


def draw(part: Sequence[int]) -> np.ndarray:
    """Pictures that know their index."""
    return np.array([np.full((2, 2, 1), index * 7 % 251) for index in part], np.uint8)


def dies_at(index: int):
    def drawn(part: Sequence[int]) -> np.ndarray:
        if index in part:
            raise KeyboardInterrupt
        return draw(part)

    return drawn


def held(target: Path) -> dict[str, bytes]:
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    return {path.name if target.is_dir() else "": path.read_bytes() for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_write_what_one_writes(tmp_path: Path, name: str) -> None:
    alone, shared = tmp_path / "alone" / name, tmp_path / "shared" / name
    assert job(alone).run(draw) == 11
    drawn = [job(shared).run(draw, rank=1, world=2), job(shared).run(draw, rank=0, world=2)]
    assert drawn == [5, 6], "batches 1 and 3, and 0, 2 and the short last one"
    assert held(shared) == held(alone)
    assert [path.name for path in shared.parent.iterdir()] == [name], "nothing is left beside it"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dead_process_left_out_is_drawn_the_next_time(tmp_path: Path, name: str) -> None:
    alone, shared = tmp_path / "alone" / name, tmp_path / "shared" / name
    job(alone).run(draw)
    with pytest.raises(KeyboardInterrupt):
        job(shared).run(dies_at(9), rank=1, world=2)
    assert job(shared).begun
    assert job(shared).run(draw) == 8, "batch 1 was there"
    assert held(shared) == held(alone)


def test_a_batch_is_drawn_whole_where_one_of_it_is_missing(tmp_path: Path) -> None:
    """Its shape decides the last bits of its samples."""
    asked: list[Sequence[int]] = []
    target = tmp_path / "folder"
    job(target).run(draw)
    (target / "000004.png").unlink()
    assert job(target).run(lambda part: asked.append(part) or draw(part)) == 3
    assert [list(part) for part in asked] == [[3, 4, 5]]


def test_files_of_another_way_of_drawing_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    job(target).run(draw)
    before = held(target)
    for other in (job(target, how="heun"), job(target, batch=4)):
        with pytest.raises(UserError, match="drawn in another way"):
            other.run(draw)
    assert held(target) == before
    with pytest.raises(UserError, match="drawn in another way"):
        job(target, indices=range(30, 33), how="heun").run(draw)  # else its manifest would speak for the others too
    assert held(target) == before
    job(target, indices=range(20, 23)).run(draw)
    assert len(list(target.glob("*.png"))) == 14, "more of the same may be laid beside them"


def test_another_job_beside_one_that_stopped_is_its_own(tmp_path: Path) -> None:
    target = tmp_path / "x.npz"
    with pytest.raises(KeyboardInterrupt):
        job(target, how="heun").run(dies_at(9))
    assert not job(target).begun
    assert job(target).run(draw) == 11


def test_nothing_is_made_by_what_is_refused(tmp_path: Path) -> None:
    def refused(part: Sequence[int]) -> np.ndarray:
        raise UserError("no such class")

    for name in NAMES:
        with pytest.raises(UserError, match="no such class"):
            job(tmp_path / "new" / name).run(refused)
    assert not list(tmp_path.iterdir())


def test_pictures_lie_under_their_index(tmp_path: Path) -> None:
    job(tmp_path / "folder", indices=[17, 3]).run(draw)
    assert np.asarray(Image.open(tmp_path / "folder" / "000017.png")).tolist() == [[17 * 7] * 2] * 2


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_a_picture_is_the_same_in_batches_of_1_7_and_64(model: Model, sampler: str) -> None:
    """Trap 43: the noise to the bit, the pictures to the backend's rounding."""
    of_64 = model.sample(64, sampler=sampler, steps=3, batch=64).astype(int)
    for batch in (1, 7):
        assert np.abs(model.sample(64, sampler=sampler, steps=3, batch=batch) - of_64).max() <= 1
    alone = model.sample(1, indices=[17], sampler=sampler, steps=3)
    assert np.abs(alone[0] - of_64[17]).max() <= 1
    same_shape = model.sample(64, sampler=sampler, steps=3, batch=64, indices=[*range(32), *range(100, 132)])
    assert np.array_equal(same_shape[:32], of_64[:32]), "to the bit where the batch has the same shape"
