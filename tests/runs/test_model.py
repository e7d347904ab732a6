"""A model: where it can be loaded from, and one seed being one picture."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import unstir
from tests import small
from unstir.data import load as load_data
from unstir.data.codec import Codec
from unstir.denoisers import Condition, Guided
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs import Model, Run, heldout, load, write


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to one grey level."""
    return a.shape == b.shape and int(np.abs(a.astype(int) - b.astype(int)).max()) <= 1


def levels(path: Path) -> np.ndarray:
    """What a picture file holds."""
    with Image.open(path) as image:
        return np.asarray(image)


def edited(source: Path, target: Path, **changes: Any) -> Path:
    """A model file with changes to what it says of itself."""
    with safe_open(source, "pt") as file:
        facts = json.loads(file.metadata()["unstir"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    save_file(tensors, target, {"unstir": json.dumps(facts | changes)})
    return target


def test_the_front_door_is_the_same(digits_run: Path, model: Model) -> None:
    assert unstir.load is load
    assert unstir.Model is Model
    with pytest.raises(AttributeError, match="no attribute 'unload'"):
        unstir.unload  # noqa: B018


def test_folder_and_file_give_the_same_samples(digits_run: Path, model: Model, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    shutil.copy(digits_run / "model.safetensors", moved)
    alone = load(moved)
    assert (alone.config, alone.spec, alone.images, alone.weights) == (model.config, model.spec, model.images, "ema")
    assert np.array_equal(alone.sample(4, steps=3), model.sample(4, steps=3))
    only_file = tmp_path / "only"
    only_file.mkdir()
    for name in ("config.toml", "data.json", "model.safetensors"):
        shutil.copy(digits_run / name, only_file)
    assert np.array_equal(load(str(only_file)).sample(4, steps=3), model.sample(4, steps=3))


def test_raw_weights_are_others(digits_run: Path, model: Model) -> None:
    raw = load(digits_run, weights="raw")
    assert raw.weights == "raw"
    states = [m.denoiser.network.state_dict() for m in (raw, model)]
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    with pytest.raises(UserError, match="ema or raw"):
        load(digits_run, weights="best")
    with pytest.raises(UserError, match="holds the ema weights alone"):
        load(digits_run / "model.safetensors", weights="raw")


def test_what_is_no_model_is_refused(digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "nothing.safetensors").write_bytes(b"")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors", {"format": "pt"})
    save_file({"w": torch.zeros(2)}, tmp_path / "words.safetensors", {"unstir": "not json"})
    whole = (digits_run / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("empty", "text", "nothing", "foreign", "other", "words", "cut", "absent"):
        path = tmp_path / (name if name == "empty" else f"{name}.safetensors")
        with pytest.raises(UserError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(digits_run: Path, tmp_path: Path) -> None:
    newer = edited(digits_run / "model.safetensors", tmp_path / "newer.safetensors", format=99, data={"unheard": "of"})
    with pytest.raises(UserError, match="newer unstir"):
        load(newer)


def test_weights_that_do_not_fit_are_refused(digits_run: Path, tmp_path: Path) -> None:
    with safe_open(digits_run / "model.safetensors", "pt") as file:
        config = json.loads(file.metadata()["unstir"])["config"]
    config["network"]["channels"] = 12
    path = edited(digits_run / "model.safetensors", tmp_path / "odd.safetensors", config=config)
    with pytest.raises(UserError, match="do not fit") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("left", [None, "", '{"kind"', "[]", "{}"])
def test_a_damaged_data_description_is_named(digits_run: Path, tmp_path: Path, left: str | None) -> None:
    shutil.copytree(digits_run, tmp_path / "run")
    (tmp_path / "run" / "data.json").unlink()
    if left is not None:
        (tmp_path / "run" / "data.json").write_text(left)
    with pytest.raises(UserError, match=r"data\.json cannot be read"):
        load(tmp_path / "run")


def test_a_run_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    from unstir.training.session import Session

    Session(Run(tmp_path / "run"), small.config(), small.pictures())
    with pytest.raises(UserError, match="no checkpoint yet"):
        load(tmp_path / "run")


@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "heun"])
def test_one_seed_is_one_picture_whatever_the_batch(model: Model, sampler: str) -> None:
    options: dict[str, Any] = {"sampler": sampler, "steps": 5, "seed": 3}
    together = model.sample(9, **options)
    assert together.shape == (9, 8, 8, 1)
    assert together.dtype == np.uint8
    assert np.array_equal(together, model.sample(9, **options))
    for batch in (1, 2, 4):
        assert close(model.sample(9, batch=batch, **options), together)
    chosen = [7, 0, 7, 3]
    assert close(model.sample(0, indices=chosen, **options), together[chosen])
    assert close(model.sample(2, indices=np.array([5, 6]), **options), together[5:7])
    assert not np.array_equal(model.sample(9, **(options | {"seed": 4})), together)


def test_the_noise_they_start_from_is_bitwise_the_same() -> None:
    together = NoiseSource(3, range(9)).normal((1, 8, 8), "prior")
    for i in (0, 5, 8):
        assert torch.equal(NoiseSource(3, [i]).normal((1, 8, 8), "prior")[0], together[i])


def test_a_far_index_is_as_good(model: Model) -> None:
    far = 2**46 + 12345
    assert close(model.sample(1, indices=[far], steps=2), model.sample(2, indices=[3, far], steps=2)[1:])


def test_dropout_has_no_part_in_sampling_and_measuring(model: Model) -> None:
    assert any(m.p for m in model.denoiser.modules() if isinstance(m, torch.nn.Dropout))
    pictures = model.sample(2, steps=3)
    for use in (lambda: model.sample(2, steps=3), lambda: model.bound(pictures, terms=3).total.numpy()):
        first = use()
        model.denoiser.train()
        assert np.array_equal(use(), first)
        assert not model.denoiser.training


def test_progress_ends_at_all(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    model.sample(5, steps=1, batch=2, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_labels_by_name_and_by_number(digits_run: Path, model: Model) -> None:
    plain = model.sample(3, steps=3)
    seven = model.sample(3, steps=3, label=7)
    assert np.array_equal(seven, model.sample(3, steps=3, label="7"))
    assert not np.array_equal(seven, plain)
    for wrong in ("eleven", 10, -1, "-1", ""):
        with pytest.raises(UserError, match="there is no class"):
            model.sample(1, label=wrong)


def test_each_class_in_turn_follows_the_index_and_not_the_place(model: Model) -> None:
    condition = model.condition("each", [3, 17, 99])
    assert condition is not None
    assert condition.label is not None
    assert condition.label.tolist() == [3, 7, 9]


def test_a_name_goes_before_a_number(model: Model) -> None:
    renamed = Model(model.denoiser, replace(model.spec, classes=tuple("9876543210")), model.config)
    assert np.array_equal(renamed.sample(2, steps=3, label="9"), model.sample(2, steps=3, label=0))


def test_no_label_is_the_null_class_and_guidance_the_stated_sum(model: Model) -> None:
    x, t = torch.randn(4, *model.spec.shape, generator=torch.Generator().manual_seed(0)), 20.0
    label = torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        unconditional = model.denoiser.predict(x, t).x0
        hidden = model.denoiser.predict(x, t, Condition(label, null=torch.ones(4, dtype=torch.bool))).x0
        conditional = model.denoiser.predict(x, t, Condition(label)).x0
        once = Guided(model.denoiser, 1.0).predict(x, t, Condition(label)).x0
        twice = Guided(model.denoiser, 2.0).predict(x, t, Condition(label)).x0
    assert torch.equal(unconditional, hidden)
    assert torch.equal(conditional, once)
    assert not torch.allclose(conditional, unconditional)
    torch.testing.assert_close(twice, 2 * conditional - unconditional, rtol=1e-4, atol=1e-5)
    assert np.array_equal(model.sample(2, steps=2, label=3, guidance=1.0), model.sample(2, steps=2, label=3))
    assert not np.array_equal(model.sample(2, steps=2, label=3, guidance=3.0), model.sample(2, steps=2, label=3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "hopping"}, "hopping"),
        ({"steps": 0}, "step"),
        ({"steps": 51, "spacing": "trailing"}, "51 steps"),
        ({"spacing": "even"}, "even"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 64}, "seed"),
        ({"indices": [-1]}, "indices"),
        ({"indices": [1 << 47]}, "indices"),
        ({"indices": []}, "at least one"),
        ({"batch": 0}, "at least one"),
        ({"guidance": float("nan")}, "guidance"),
    ],
    ids=str,
)
def test_what_cannot_be_sampled_is_a_user_error(model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        model.sample(1, **options)


def test_guidance_without_a_class_is_refused(model: Model, points_run: Path) -> None:
    with pytest.raises(UserError, match="guidance needs classes"):
        load(points_run).sample(1, guidance=2.0)
    with pytest.raises(UserError, match="takes no label"):
        load(points_run).sample(1, label=0)
    with pytest.raises(UserError, match="guidance needs a label"):
        model.sample(1, guidance=2.0)


def test_the_film_ends_in_the_sample(model: Model) -> None:
    frames = list(model.film(3, steps=4, seed=2, sampler="ddim"))
    assert [t for t, _, _ in frames] == [37.5, 25.0, 12.5, 0.0]
    assert np.array_equal(frames[-1][1], model.sample(3, steps=4, seed=2, sampler="ddim"))
    assert all(x.dtype == x0.dtype == np.uint8 for _, x, x0 in frames)


def test_pictures_cross_the_border_unchanged(model: Model) -> None:
    all_levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    assert np.array_equal(model.outside(model.inside(all_levels)), all_levels)
    with pytest.raises(UserError, match=r"shape \(N, 8, 8, 1\), not \(2, 9, 9, 1\)"):
        model.inside(np.zeros((2, 9, 9, 1), np.uint8))


def test_a_bound_of_points_is_in_bits_a_sample_and_has_no_bits_per_dim(model: Model, points_run: Path) -> None:
    points = load(points_run)
    density = points.bound(points.sample(3, steps=2), terms=2)
    with pytest.raises(ValueError, match=r"these data have none.*\.bits a sample") as caught:
        _ = density.bits_per_dim
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(density.bits * math.log(2), density.total)
    mass = model.bound(model.sample(3, steps=2), terms=2)
    torch.testing.assert_close(mass.bits_per_dim * 64, mass.bits)


def test_the_classes_of_a_bound_go_by_number_and_by_name(model: Model) -> None:
    named = replace(model, spec=replace(model.spec, classes=tuple("abcdefghij")))
    pictures = model.sample(3, steps=2)
    truth = named.bound(pictures, np.array([2, 0, 9]), terms=3).total
    for labels in (["c", "a", "j"], ["2", "a", "9"], [2, 0, 9], np.array([2, 0, 9], np.uint8), torch.tensor([2, 0, 9])):
        assert torch.equal(named.bound(pictures, labels, terms=3).total, truth)
    assert not torch.equal(named.bound(pictures, ["a", "c", "j"], terms=3).total, truth)
    # The data's numbers mean its classes, even where they are called by other numbers.
    turned = replace(model, spec=replace(model.spec, classes=tuple("9876543210")))
    assert torch.equal(turned.bound(pictures, np.array([2, 0, 9]), terms=3).total, truth)
    assert torch.equal(turned.bound(pictures, ["7", "9", "0"], terms=3).total, truth)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 10], "there is no class 10; there are 0, 1, 2"),
        ([0, -1], "there is no class -1; there are 0, 1, 2"),
        (["0", "disc"], "there is no class 'disc'; there are 0, 1, 2"),
        ([0, 1.5], "there is no class"),
        ([True, False], "there is no class True"),
        ([0], r"one class for each of 2 items, not an array of shape \(1,\)"),
        ("seven", r"one class for each of 2 items, not an array of shape \(\)"),
    ],
    ids=str,
)
def test_classes_that_are_none_are_refused(model: Model, labels: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        model.bound(np.zeros((2, 8, 8, 1), np.uint8), labels, terms=2)
    assert "\n" not in str(caught.value)


def test_a_model_without_classes_takes_no_labels(points_run: Path) -> None:
    with pytest.raises(UserError, match="without classes"):
        load(points_run).bound(np.zeros((1, 2), np.float32), [0], terms=2)


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (5,), (), (5, 2, 1), (1, 5, 2)])
def test_points_of_another_shape_are_refused_before_they_are_scaled(points_run: Path, shape: tuple[int, ...]) -> None:
    """Scaling broadcasts: one column of two would pass for both."""
    model = load(points_run)
    with pytest.raises(UserError, match=re.escape(f"for data of shape (N, 2), not {shape}")) as caught:
        model.bound(np.zeros(shape, np.float32), terms=2)
    assert "\n" not in str(caught.value)


def test_pictures_of_another_type_are_a_user_error(model: Model) -> None:
    with pytest.raises(UserError, match="expected uint8"):
        model.bound(np.zeros((2, 8, 8, 1), np.float32), terms=2)


def test_loader_to_model_to_file_is_the_file(tmp_path: Path) -> None:
    """Pictures on disk, through loading, scaling, a model's border and the writer, come back as they were."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    originals = {rng.integers(0, 256, (8, 8, 3), np.uint8).tobytes() for _ in range(12)}
    for i, raw in enumerate(sorted(originals)):
        Image.frombytes("RGB", (8, 8), raw).save(tmp_path / "in" / f"{i}.png")
    dataset = load_data(tmp_path / "in")
    border = Model(None, dataset.spec, small.config())  # type: ignore[arg-type]
    x0, _ = dataset.train.batch(np.arange(len(dataset.train)))
    assert float(x0.min()) >= -1
    assert float(x0.max()) <= 1
    written = write(border.outside(x0), tmp_path / "out", range(len(x0)))
    found = {levels(path).tobytes() for path in written.iterdir()}
    assert found <= originals
    assert len(found) == len(dataset.train)


def test_the_forms_of_a_file_hold_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grey, rgb = rng.integers(0, 256, (3, 5, 4, 1), np.uint8), rng.integers(0, 256, (3, 5, 4, 3), np.uint8)
    for images in (grey, rgb):
        for name in ("a.npz", "deep/b.npy", "C.NPZ"):
            path = write(images, tmp_path / name, range(3))
            loaded = np.load(path)
            assert np.array_equal(loaded["arr_0"] if path.suffix.lower() == ".npz" else loaded, images)
        folder = write(images, tmp_path / f"folder{images.shape[-1]}", [3, 17, 99])
        assert sorted(p.name for p in folder.iterdir()) == ["000003.png", "000017.png", "000099.png"]
        assert np.array_equal(levels(folder / "000017.png").reshape(5, 4, -1), images[1])
        for name in ("grid.png", "GRID2.PNG"):
            assert levels(write(images, tmp_path / name, range(3))).shape[0] > 8
    points = rng.normal(size=(4, 2)).astype(np.float32)
    assert write(points, tmp_path / "points.npy", range(4), codec=Codec("points")) == tmp_path / "points.npy"
    assert np.array_equal(np.load(tmp_path / "points.npy"), points)
    for name in ("points.png", "points"):
        with pytest.raises(UserError, match="samples of points cannot be written as"):
            write(points, tmp_path / name, range(4), codec=Codec("points"))
    for name in ("x.jpg", "x.safetensors"):
        with pytest.raises(UserError, match="cannot be written as"):
            write(grey, tmp_path / name, range(3))
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file" / "x.png", tmp_path / "deep" / ".." / "file" / "y" / "z.npz"):
        with pytest.raises(UserError):
            write(grey, target, range(3))


def test_points_live_in_their_own_units(points_run: Path, points_file: Path) -> None:
    model = load(points_run)
    assert not model.spec.eight_bit
    assert model.bounded is model.denoiser, "points have no range to clip to"
    drawn = model.sample(600, steps=15)
    assert drawn.shape == (600, 2)
    assert drawn.dtype == np.float32
    assert drawn.mean(0) == pytest.approx([50, 50], abs=2.5)
    assert drawn.std(0) == pytest.approx([10, 10], abs=2.5)
    points = np.load(points_file)[:5]
    assert model.outside(model.inside(points)) == pytest.approx(points, rel=1e-5)
    assert float(model.inside(np.load(points_file)).std()) == pytest.approx(1, abs=0.05)


def test_pictures_are_clipped_after_guidance(model: Model) -> None:
    x = torch.randn(4, *model.spec.shape, generator=torch.Generator().manual_seed(0))
    label = Condition(torch.arange(4))
    w = 3000.0  # the model has hardly been trained: its classes differ by a thousandth
    with torch.no_grad():
        conditional, unconditional = model.denoiser.predict(x, 30.0, label).x0, model.denoiser.predict(x, 30.0).x0
        guided = model.walk(steps=3, guidance=w).denoiser.predict(x, 30.0, label).x0
        plain = model.walk(steps=3).denoiser.predict(x, 30.0, label).x0
    assert torch.equal(plain, conditional.clamp(-1, 1))
    stated = unconditional + w * (conditional - unconditional)
    too_early = unconditional.clamp(-1, 1) + w * (conditional.clamp(-1, 1) - unconditional.clamp(-1, 1))
    assert (stated.clamp(-1, 1) - too_early).abs().max() > 0.5, "clipping last and clipping first must differ here"
    torch.testing.assert_close(guided, stated.clamp(-1, 1), rtol=0, atol=1e-2)


def test_heldout_is_that_of_the_training_data(
    model: Model, points_run: Path, points_file: Path, tmp_path: Path
) -> None:
    assert len(heldout(model)) == 180
    with pytest.raises(UserError, match=r"the run is of pictures, and .*points\.npy holds points"):
        heldout(model, str(points_file))
    other = tmp_path / "wider.npy"
    np.save(other, np.zeros((60, 3), np.float32) + np.arange(60, dtype=np.float32)[:, None])
    with pytest.raises(UserError, match="has shape"):
        heldout(load(points_run), str(other))
    symbols = tmp_path / "symbols.npy"
    np.save(symbols, np.random.default_rng(9).integers(0, 5, (60, 2)))
    with pytest.raises(UserError, match=r"the run is of points, and .* holds symbols"):
        heldout(load(points_run), str(symbols))  # of the very same shape
    moved = load(points_run)
    np.save(points_file.parent / "other.npy", np.random.default_rng(9).normal(50, 10, (60, 2)).astype(np.float32))
    assert len(heldout(moved, str(points_file.parent / "other.npy"))) == 6


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.integers(0, 256, (30, 4, 4, 1), np.uint8))
    run = small.train(tmp_path / "run", str(path), 16)
    assert len(heldout(load(run.path))) == 3
    np.save(path, rng.integers(0, 256, (30, 4, 4, 1), np.uint8))
    with pytest.raises(UserError, match="not what this model was trained with"):
        heldout(load(run.path))


def test_other_classes_are_not_mistaken_for_ours(model: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", rng.integers(0, 256, (40, 8, 8), np.uint8), np.arange(40) % 20)
    split = heldout(model, str(tmp_path / "x.npz"))
    assert split.labels is None
    assert np.isfinite(model.bound(split.x, terms=3).total.numpy()).all()
