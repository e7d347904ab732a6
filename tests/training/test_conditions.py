"""Training with vectors and with what is shown of pictures: hidden by keyed coins, continued bit for bit, drawn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import small
from tests.conftest import Ended
from tests.training.test_resume import resumed
from unstir.data import Dataset
from unstir.data.vectors import Vectors
from unstir.denoisers import Condition
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs import Model, Run, load
from unstir.training import session, watch
from unstir.training.batches import hidden
from unstir.training.engine import Engine
from unstir.training.resolve import resolve
from unstir.training.session import Session

CPU = Engine(torch.device("cpu"))
VIEWS = {"mask": 2, "super-resolution:2": 1}


def case(condition: str, classes: int = 3) -> tuple[Any, Dataset]:
    """The small trainer's settings and data with a vector for each picture, and a view of it."""
    dataset = small.pictures(classes=classes)
    rng = np.random.default_rng(1)
    parts = {
        name: replace(split, vectors=rng.normal(size=(len(split), 2)).astype(np.float32))
        for name, split in (("train", dataset.train), ("heldout", dataset.heldout))
    }
    spec = replace(dataset.spec, vectors=Vectors(("age", "height"), (5.0, 100.0), (2.0, 10.0)))
    network = {"vector": 2, "image_channels": VIEWS[condition], "classes": classes}
    return small.config(condition=condition, network=network), replace(dataset, spec=spec, **parts)


@pytest.mark.parametrize("condition", VIEWS)
def test_stopping_and_going_on_changes_no_bit(tmp_path: Path, condition: str) -> None:
    settings, dataset = case(condition)
    whole = small.trainer(settings, dataset, CPU)
    for _ in range(5):
        whole.update()
    part = resumed(tmp_path, settings, dataset, CPU, before=2)
    for _ in range(3):
        part.update()
    expected, found = small.tensors_of(whole), small.tensors_of(part)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_an_image_of_the_run_has_its_own_coins_and_mask_in_any_batch() -> None:
    """What image 6 is shown and what of it is hidden is the same whichever batch it falls in; the network sees just that."""
    settings, dataset = case("mask")
    made = small.trainer(settings, dataset, CPU)
    seen: list[Condition] = []
    made.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    made.loss(4, 4)
    made.loss(6, 2)
    whole, part = seen[0].select(torch.tensor([2, 3])), seen[1]
    for name in ("label", "vector", "image", "null"):
        assert torch.equal(getattr(whole, name), getattr(part, name)), name
    assert whole.null is not None
    assert whole.null.shape == (2, 3)


def test_each_condition_is_hidden_by_a_coin_of_its_own_and_all_by_one() -> None:
    """Shares within four standard deviations; one kind alone has the coin that runs before had."""
    n, share = 20_000, 0.2
    source = NoiseSource(0, range(n))
    label, vector = torch.zeros(n, dtype=torch.long), torch.zeros(n, 1)
    alone = hidden(Condition(label), source, share)
    assert torch.equal(alone, source.uniform((), "label dropout") < share)
    null = hidden(Condition(label, vector), source, share).double()
    assert null.shape == (n, 3)
    one = share + (1 - share) * share
    expected = {(0,): one, (1,): one, (0, 1): share + (1 - share) * share**2}
    for columns, wanted in expected.items():
        found = float(null[:, list(columns)].prod(1).mean())
        assert abs(found - wanted) < 4 * (wanted * (1 - wanted) / n) ** 0.5, columns
    assert torch.equal(null[:, 2], alone.double())


def test_held_out_items_have_all_their_conditions_and_the_same_masks_each_time() -> None:
    settings, dataset = case("mask")
    made = small.trainer(settings, dataset, CPU)
    seen: list[Condition] = []
    made.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    first, again = (watch.loss_by_time(made, dataset.heldout, 8) for _ in range(2))
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert all(each.null is None and each.vector is not None and each.image is not None for each in seen)
    assert all(torch.equal(seen[0].image, each.image) for each in seen)


# --- runs -------------------------------------------------------------------------------------------------------------


def started(path: Path, source: str, **tree: Any) -> Run:
    file = path.parent / f"{path.name}.toml"
    file.write_text(small.TOML)
    run = Run(path)
    flags: dict[str, Any] = {"data": {"source": source}, "budget": {"images": 64}}
    for name, value in tree.items():
        flags[name] = flags[name] | value if isinstance(value, dict) else value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "SNAPSHOTS", 1)  # the pictures drawn on the way are most of so short a run
        patch.setattr(session, "SAMPLES", 4)
        for _ in Session(run, *resolve(flags, file, run)).events():
            pass
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures in colour in two classes, and a table of two numbers for each."""
    folder = tmp_path_factory.mktemp("conditions") / "photos"
    rng = np.random.default_rng(0)
    lines = ["file,age,height"]
    for i in range(40):
        place = folder / ("ab"[i % 2])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{i}.png")
        lines.append(f"{i}.png,{i},{2 * i}")
    (folder.parent / "table.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def vectors_run(photos: Path) -> Path:
    table = str(photos.parent / "table.csv")
    return started(photos.parent / "vectors", str(photos), data={"vectors": table}).path


@pytest.fixture(scope="module", params=["super-resolution:4", "colouring", "mask"])
def view_run(photos: Path, request: pytest.FixtureRequest) -> Path:
    return started(photos.parent / request.param.partition(":")[0], str(photos), condition=request.param).path


def test_a_run_with_vectors_samples_what_is_asked(vectors_run: Path) -> None:
    model = load(vectors_run)
    assert model.spec.vectors is not None
    assert model.spec.vectors.names == ("age", "height")
    # Barely trained: whether a vector is heard at all is a matter of the weights, so they are shaken.
    shaken(model)
    plain = model.sample(4, steps=3)
    asked = model.sample(4, steps=3, vector=[3.0, 60.0])
    assert not np.array_equal(plain, asked)
    two = model.sample(4, steps=3, vector=[[3.0, 60.0], [30.0, 10.0]])
    assert np.array_equal(two[::2], asked[::2])
    assert not np.array_equal(two[1::2], asked[1::2])
    third = model.sample(1, indices=[3], steps=3, vector=[[3.0, 60.0], [30.0, 10.0]])
    assert np.abs(third[0].astype(int) - two[3]).max() <= 1
    both = model.sample(4, steps=3, vector=[3.0, 60.0], label="b", guidance=2.0)
    assert not np.array_equal(both, asked)
    found = model.bound(plain, terms=2)
    assert torch.isfinite(found.total).all()


def shaken(model: Model) -> None:
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=g)


def test_what_is_shown_of_a_picture_comes_back(view_run: Path, photos: Path) -> None:
    """Known pixels to the bit; means of blocks and brightness as far as levels can say them."""
    model = load(view_run)
    shaken(model)
    given = np.stack([np.asarray(Image.open(photos / "a" / f"{i}.png")) for i in (0, 2)])
    free, drawn = model.sample(5, steps=3), model.sample(5, steps=3, image=given, clip="none")
    assert not np.array_equal(free, drawn)
    pairs = np.stack([given[i % 2] for i in range(5)]).astype(float)
    name = model.config.condition
    if name == "mask":
        unknown = np.zeros((8, 8), bool)
        unknown[2:6, 3:8] = True
        masked = model.sample(5, steps=3, image=given, mask=unknown)
        assert np.array_equal(masked[:, ~unknown], pairs[:, ~unknown])
        assert not np.array_equal(masked[:, unknown], pairs[:, unknown])
        assert np.abs(model.sample(1, indices=[3], steps=3, image=given, clip="none").astype(int) - drawn[3]).max() <= 1
        return
    inside = (drawn > 0) & (drawn < 255)  # where nothing was cut off at the border of the range
    if name == "colouring":
        luma = np.array([0.299, 0.587, 0.114])
        kept = inside.all(-1)
        assert kept.mean() > 0.02
        assert np.abs(drawn @ luma - pairs @ luma)[kept].max() < 0.51
        return
    blocks = lambda x: x.reshape(5, 2, 4, 2, 4, 3).mean((2, 4))  # noqa: E731
    kept = blocks(inside) == 1
    assert np.abs(blocks(drawn) - blocks(pairs))[kept].max(initial=0) < 0.51
    little = np.rint(blocks(pairs)[:2]).astype(np.uint8)
    again = model.sample(5, steps=3, image=little, clip="none")
    assert np.abs(blocks(again) - blocks(drawn))[kept & (blocks((again > 0) & (again < 255)) == 1)].max(initial=0) < 1.1


def test_evaluating_and_continuing_such_a_run_works(
    unstir: Callable[..., Ended], view_run: Path, vectors_run: Path, photos: Path
) -> None:
    for run in (view_run, vectors_run):
        ended = unstir("evaluate", run, "--images", 2, "--terms", 2, "--json")
        assert ended.code == 0, ended.err
    config = photos.parent / "vectors.toml"
    line = ("train", photos, "--images", 64, "--config", config, "--vectors", photos.parent / "table.csv")
    ended = unstir(*line, "--out", vectors_run)
    assert (ended.code, "is finished" in ended.err) == (0, True)
    ended = unstir(*line[:-2], "--out", vectors_run)
    assert ended.code == 2
    assert "data.vectors" in ended.err


def test_a_run_without_conditions_names_none_in_its_network(digits_run: Path) -> None:
    """Else a run from before them could not be continued: its configuration would differ from what the same line asks for."""
    text = (digits_run / "config.toml").read_text()
    assert "image_channels" not in text
    assert "\nvector =" not in text


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "vector without": ("mask", {"vector": [1.0]}, "trained without vectors"),
    "picture without": ("vectors", {"image": np.zeros((8, 8, 3), np.uint8)}, "without pictures as condition"),
    "too few numbers": ("vectors", {"vector": [1.0]}, "2 numbers .age, height., not 1"),
    "a number that is none": ("vectors", {"vector": [1.0, float("nan")]}, "finite"),
    "another size": ("mask", {"image": np.zeros((9, 8, 3), np.uint8)}, "shape .8, 8, 3., one or several"),
    "floats": ("mask", {"image": np.zeros((8, 8, 3))}, "uint8"),
    "mask alone": ("mask", {"mask": np.zeros((8, 8), bool)}, "give the picture too"),
    "mask of numbers": ("mask", {"image": np.zeros((8, 8, 3), np.uint8), "mask": np.zeros((8, 8))}, "a mask is bool"),
    "guided to nothing": ("mask", {"guidance": 2.0}, "guidance needs a label"),
}


@pytest.mark.parametrize(("kind", "how", "match"), REFUSED.values(), ids=REFUSED)
def test_conditions_that_a_run_does_not_know_are_refused(
    photos: Path, kind: str, how: dict[str, Any], match: str
) -> None:
    settings, dataset = case("mask", classes=0)
    spec = replace(dataset.spec, shape=(3, 8, 8), vectors=dataset.spec.vectors if kind == "vectors" else None)
    channels = {"in_channels": 3, "out_channels": 3, "vector": 2 if kind == "vectors" else 0, "classes": 0}
    shown = "mask" if kind == "mask" else ""
    settings = small.config(condition=shown, network=channels | {"image_channels": 4 if shown else 0})
    model = Model(small.trainer(settings).denoiser, spec, settings)
    with pytest.raises(UserError, match=match):
        model.sample(1, steps=2, **how)


LINES = {
    "no such condition": "{photos} --condition blur",
    "a factor that does not divide": "{photos} --condition super-resolution:3",
    "colouring grey digits": "digits --condition colouring",
    "a condition on points": "swiss-roll --condition mask",
    "no such table": "{photos} --vectors {photos}/none.csv",
    "a table of other items": "digits --vectors {photos}/../table.csv",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_bad_conditions_are_one_line_and_leave_nothing(
    unstir: Callable[..., Ended], photos: Path, tmp_path: Path, line: str
) -> None:
    ended = unstir("train", *line.format(photos=photos).split(), "--out", tmp_path / "run", "--images", 8)
    assert ended.code == 2
    said = [text for text in ended.err.strip().splitlines() if not text.startswith("reading")]
    assert len(said) == 1, said
    assert not (tmp_path / "run").exists()
