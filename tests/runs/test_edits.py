"""Edits of a user's own data: what must hold of any run, on runs that have hardly learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.test_chains import bits_model
from unstir import editing
from unstir.errors import UserError
from unstir.runs import Model, load

Edit = Callable[[Model, np.ndarray, dict[str, Any]], np.ndarray]
FEW: dict[str, Any] = {"steps": 4}
HALF = np.zeros((8, 8), bool)
HALF[:, 4:] = True

EDITS: dict[str, Edit] = {
    "repaint": lambda m, x, o: m.edit.inpaint(x, HALF, jump=2, resamplings=2, **o),
    "inpaint": lambda m, x, o: m.edit.inpaint(x, HALF, method="observed", **o),
    "denoise": lambda m, x, o: m.edit.denoise(x, 30.0, **o),
    "denoise each": lambda m, x, o: m.edit.denoise(x, **o),
    "denoise observed": lambda m, x, o: m.edit.denoise(x, method="observed", **o),
    "vary": lambda m, x, o: m.edit.vary(x, 0.5, **o),
    "vary by chance": lambda m, x, o: m.edit.vary(x, 0.5, sampler="ancestral", **o),
    "between": lambda m, x, o: m.edit.interpolate(x, x[:, ::-1], 2, **o),
    "between at t": lambda m, x, o: m.edit.interpolate(x, x[:, ::-1], 3, strength=0.5, **o),
    "there and back": lambda m, x, o: m.edit.decode(m.edit.invert(x, **FEW), **FEW),
    "larger": lambda m, x, o: m.edit.super_resolve(x[:, :4, :4], 2, **o),
    "sharper": lambda m, x, o: m.edit.restore(x, editing.blur(8, 8, 1.0), **o),
}


@pytest.fixture(scope="module")
def model(digits_run: Path) -> Model:
    return load(digits_run)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Grey noise in the middle of the range: what it is does not matter, and no edit meets a border."""
    return np.random.default_rng(1).integers(60, 190, (5, 8, 8, 1), np.uint8)


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to a level: batches of another size round otherwise."""
    return bool((np.abs(a.astype(int) - b.astype(int)) <= 1).all())


@pytest.mark.parametrize("name", EDITS)
def test_what_comes_back_is_data_and_does_not_hang_on_the_batch(name: str, model: Model, x: np.ndarray) -> None:
    kept = x.copy()
    whole, parts = (EDITS[name](model, x, {**FEW, "seed": 4, "batch": batch}) for batch in (64, 2))
    assert whole.dtype == np.uint8
    assert (whole.shape[0], *whole.shape[-3:]) == (5, 8, 8, 1)
    assert near(whole, parts)
    assert np.array_equal(x, kept)
    first = EDITS[name](model, x[:1], {**FEW, "seed": 4})
    assert near(whole[:1], first)
    if name != "there and back":
        assert not np.array_equal(whole, EDITS[name](model, x[::-1].copy(), {**FEW, "seed": 4}))


@pytest.mark.parametrize("method", [None, "repaint", "observed", "constant", "carried", "renoised"])
def test_known_pixels_come_back_to_the_level(method: str | None, model: Model, x: np.ndarray) -> None:
    masks = np.stack([HALF, ~HALF, HALF.T, HALF, HALF])
    out = model.edit.inpaint(x, masks, method=method, jump=2, resamplings=2, steps=6)
    assert np.array_equal(out[~masks], x[~masks])
    assert not np.array_equal(out[masks], x[masks])


def test_known_points_come_back_to_the_bit(points_run: Path) -> None:
    points = load(points_run)
    x = np.array([[51.3, 44.7], [60.1, 38.2]], np.float32)
    out = points.edit.inpaint(x, np.array([True, False]), steps=5)
    assert np.array_equal(out[:, 1], x[:, 1])
    assert (out[:, 0] != x[:, 0]).all()
    assert out.dtype == np.float32


def test_bits_are_inpainted_and_denoised() -> None:
    model = bits_model()
    x = np.random.default_rng(0).random((300, 4)) < 0.5
    out = model.edit.inpaint(x, np.array([True, False, False, True]), steps=12)
    assert out.dtype == np.bool_
    assert np.array_equal(out[:, 1:3], x[:, 1:3])
    assert 0.4 < out[:, [0, 3]].mean() < 0.6, "the network says that both are as likely"
    # p(x0 | y) of bits that say nothing of themselves is the channel's own: right with probability 1 - noise
    out = model.edit.denoise(x, 0.2, steps=12)
    assert float((out == x).mean()) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 1200))
    assert model.edit.vary(x, 0.3, steps=12).dtype == np.bool_


def test_a_small_picture_is_the_large_one_made_small(model: Model, x: np.ndarray) -> None:
    """``A x0 = y``, to the rounding of levels on both sides."""
    operator = model.edit.downscaling(2)
    small = model.edit.measured(x, operator)
    out = model.edit.super_resolve(small, 2, steps=4, clip="none")
    inside = ~((out == 0) | (out == 255)).reshape(5, 4, 2, 4, 2).any((2, 4))  # a level beyond white is cut off
    again = out.reshape(5, 4, 2, 4, 2).astype(float).mean((2, 4))
    assert inside.any()
    assert (np.abs(again - small[..., 0])[inside] <= 0.51).all()


def test_denoising_starts_at_the_noise_and_ends_the_sooner(model: Model, x: np.ndarray) -> None:
    """Without noise nothing changes; a little changes little; the estimate is per picture."""
    assert np.array_equal(model.edit.denoise(x, 0.0, steps=4), x)
    little, much = (model.edit.denoise(x, s, steps=4).astype(float) - x for s in (1.0, 80.0))
    assert np.abs(little).mean() < 3 < np.abs(much).mean()
    noisy = model.edit.measured(np.full((3, 8, 8, 1), 128, np.uint8), None, 25.0)
    assert model.edit.noise_of(noisy) == pytest.approx(25, rel=0.6)
    one_by_one = model.edit.denoise(x, [10.0, 20, 30, 40, 50], steps=4)
    assert near(one_by_one[2:3], model.edit.denoise(x[2:3], 30.0, steps=4)) is False, "its noise is that of sample 2"
    assert near(one_by_one[:1], model.edit.denoise(x[:1], 10.0, steps=4))


def test_a_class_is_asked_for_and_mixed(model: Model) -> None:
    """The ends of a way between two classes are samples of these classes, of the same noise."""
    way = model.edit.mix(3, 8, 3, n=2, seed=6, steps=4)
    assert way.shape == (2, 3, 8, 8, 1)
    for place, label in ((0, 3), (2, 8)):
        assert near(way[:, place], model.sample(2, label=label, seed=6, steps=4))
    guided = model.edit.mix(3, 8, [0.0, 1.0], n=2, seed=6, steps=4, guidance=2.0)
    assert near(guided[:, 1], model.sample(2, label=8, seed=6, steps=4, guidance=2.0))
    x = way[:, 0]
    assert not np.array_equal(model.edit.vary(x, 0.9, label=1, **FEW), model.edit.vary(x, 0.9, label=2, **FEW))


def test_progress_counts_network_calls_and_ends_at_all(model: Model, x: np.ndarray) -> None:
    for edit in (
        lambda told: model.edit.inpaint(x, HALF, jump=2, resamplings=3, steps=5, batch=2, progress=told),
        lambda told: model.edit.denoise(x, steps=3, progress=told),
        lambda told: model.edit.interpolate(x[:2], x[2:4], 3, steps=4, progress=told),
        lambda told: model.edit.invert(x, steps=4, sampler="ddim", progress=told),
    ):
        seen: list[tuple[int, int]] = []
        edit(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] >= 4


REFUSED: dict[str, tuple[Callable[[Model, np.ndarray], Any], str]] = {
    "a mask of another size": (lambda m, x: m.edit.inpaint(x, np.ones((7, 8), bool)), "mask is bool"),
    "a mask of numbers": (lambda m, x: m.edit.inpaint(x, HALF.astype(float)), "mask is bool"),
    "a mask that hides nothing": (lambda m, x: m.edit.inpaint(x, np.zeros((8, 8), bool)), "hides nothing"),
    "pictures of another size": (lambda m, x: m.edit.vary(x[:, :7]), "shape"),
    "no pictures": (lambda m, x: m.edit.vary(x[:0]), "at least one"),
    "an unknown way": (lambda m, x: m.edit.inpaint(x, HALF, method="best"), "'best'"),
    "an unknown way of denoising": (lambda m, x: m.edit.denoise(x, 3.0, method="best"), "'best'"),
    "no jumps": (lambda m, x: m.edit.inpaint(x, HALF, jump=0), "from 1 on"),
    "repainting without steps": (lambda m, x: m.edit.inpaint(x, HALF, sampler="ddim"), "ancestral"),
    "negative noise": (lambda m, x: m.edit.denoise(x, -1.0), "0 or above"),
    "noise for others": (lambda m, x: m.edit.denoise(x, [1.0, 2.0]), "one for each"),
    "noise beyond the chain": (lambda m, x: m.edit.denoise(x, 1e9), "noisier"),
    "no strength": (lambda m, x: m.edit.vary(x, 0.0), "strength"),
    "too much strength": (lambda m, x: m.edit.vary(x, 1.5), "strength"),
    "a sampler with chance": (lambda m, x: m.edit.invert(x, sampler="ancestral"), "noise"),
    "a sampler that is none": (lambda m, x: m.edit.vary(x, sampler="hopping"), "hopping"),
    "too many steps": (lambda m, x: m.edit.vary(x, steps=51), "50"),
    "ends that are no pairs": (lambda m, x: m.edit.interpolate(x, x[:2]), "pairs"),
    "a way of one place": (lambda m, x: m.edit.interpolate(x, x, 1), "two ends"),
    "a strange factor": (lambda m, x: m.edit.super_resolve(x, 3), "blocks"),
    "a small picture of another size": (lambda m, x: m.edit.super_resolve(x, 2), "measured"),
    "no such class": (lambda m, x: m.edit.mix(3, 12), "12"),
    "guidance to nothing": (lambda m, x: m.edit.vary(x, guidance=2.0), "label"),
    "a bad seed": (lambda m, x: m.edit.vary(x, seed=-1), "seed"),
    "noise of another shape": (lambda m, x: m.edit.decode(x), "noise to decode"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_one_line(case: str, model: Model, x: np.ndarray) -> None:
    call, said = REFUSED[case]
    with pytest.raises(UserError, match=said) as error:
        call(model, x)
    assert "\n" not in str(error.value)


def test_bits_have_no_noise_to_invert_and_nothing_between_them() -> None:
    model, x = bits_model(), np.zeros((2, 4), bool)
    for call in (
        lambda: model.edit.invert(x),
        lambda: model.edit.interpolate(x, x),
        lambda: model.edit.restore(x, editing.Identity()),
        lambda: model.edit.denoise(x),
        lambda: model.edit.downscaling(2),
        lambda: model.edit.decode(np.zeros((2, 4), np.float32)),
        lambda: model.edit.mix(0, 1),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert "\n" not in str(error.value)


def test_the_denoiser_is_left_as_it_was(model: Model, x: np.ndarray) -> None:
    """No gradient is left on weights by edits that go through them."""
    model.edit.restore(x, editing.blur(8, 8, 1.0), steps=2)
    assert all(p.grad is None for p in model.denoiser.parameters())
    assert torch.is_grad_enabled()
