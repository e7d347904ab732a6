"""What one epoch visits, which times are drawn, and what happens when a loss is not finite."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests import small
from unstir.data import to_uint8
from unstir.denoisers import Condition
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs import Model
from unstir.runs.config import TimesConfig
from unstir.training import batches, watch
from unstir.training.batches import draw_times
from unstir.training.loop import Trainer


class Seen:
    """An objective that notes what it is called with, and whose loss touches every parameter."""

    whole_times = False

    def __init__(self) -> None:
        self.x0: list[Tensor] = []
        self.t: list[Tensor] = []
        self.null: list[Tensor] = []
        self.labels: list[Tensor] = []

    def __call__(self, denoiser: Any, x0: Tensor, t: Tensor, eps: Tensor, condition: Condition | None) -> Tensor:
        self.x0.append(x0.clone())
        self.t.append(t)
        if condition is not None:
            assert condition.label is not None
            assert condition.null is not None
            self.labels.append(condition.label)
            self.null.append(condition.null)
        total = sum((p.sum() for p in denoiser.network.parameters()), start=torch.zeros(()))
        return total * torch.ones(len(x0))


def watched(**kwargs: Any) -> tuple[Trainer, Seen]:
    made, seen = small.trainer(**kwargs), Seen()
    made.objective = seen  # type: ignore[assignment]
    return made, seen


@pytest.mark.parametrize(("number", "batch"), [(22, 4), (7, 7), (5, 8), (3, 10), (1, 2)])
def test_every_epoch_visits_every_picture_once(number: int, batch: int) -> None:
    dataset = small.pictures(number)
    made, seen = watched(settings=small.config(optimiser={"batch": batch}), dataset=dataset)
    epochs = 5
    for _ in range(math.ceil(epochs * number / batch)):
        made.update()
    rows = [row.tobytes() for row in to_uint8(torch.cat(seen.x0))]
    everything = sorted(row.tobytes() for row in dataset.train.x)
    orders = [rows[e * number : (e + 1) * number] for e in range(epochs)]
    assert all(sorted(order) == everything for order in orders)
    if number > 5:
        assert any(order != orders[0] for order in orders), "every epoch has its own order"


def test_labels_stay_with_their_pictures() -> None:
    dataset = small.pictures(9)
    made, seen = watched(dataset=dataset)
    for _ in range(6):
        made.update()
    assert dataset.train.labels is not None
    label_of = {x.tobytes(): label for x, label in zip(dataset.train.x, dataset.train.labels)}
    for x, label in zip(to_uint8(torch.cat(seen.x0)), torch.cat(seen.labels).tolist()):
        assert label_of[x.tobytes()] == label


def test_the_order_follows_the_seed() -> None:
    images = np.arange(100)
    first, second = batches._order(images, 100, 0), batches._order(images, 100, 1)
    assert sorted(first) == sorted(second) == list(range(100))
    assert (first != second).any()
    assert (first == batches._order(images, 100, 0)).all()


def test_uniform_times_cover_1_to_T_alike() -> None:
    denoiser = small.trainer().denoiser
    T = denoiser.process.T
    u = NoiseSource(3, range(50_000)).uniform((), "time")
    t = draw_times(TimesConfig("uniform"), denoiser, u, whole=True)
    assert t.dtype == torch.float64
    counts = np.bincount(t.long().numpy(), minlength=T + 1)
    assert counts[0] == 0
    assert len(counts) == T + 1
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_the_first_and_last_draws_give_the_first_and_last_times() -> None:
    denoiser = small.trainer().denoiser
    ends = torch.tensor([0.5, 2**32 - 0.5], dtype=torch.float64) / 2**32
    t = draw_times(TimesConfig("uniform"), denoiser, ends, whole=True)
    assert t.tolist() == [1, denoiser.process.T]
    t = draw_times(TimesConfig("log-normal", mean=-1.0, std=1.0), denoiser, ends, whole=False)
    assert torch.isfinite(t).all()
    assert 0 < t[0] < t[1] <= denoiser.process.T


def test_log_normal_times_have_the_stated_noise_levels() -> None:
    denoiser = small.trainer(small.config(schedule={"T": 1000})).denoiser
    schedule = denoiser.process.schedule
    u = NoiseSource(5, range(20_000)).uniform((), "time")
    t = draw_times(TimesConfig("log-normal", mean=-0.8, std=0.7), denoiser, u, whole=False)
    level = torch.log(schedule.sigma(t) / schedule.alpha(t)).numpy()
    assert stats.kstest(level, stats.norm(-0.8, 0.7).cdf).pvalue > 1e-3


def test_times_are_drawn_per_picture_in_training() -> None:
    made, seen = watched(settings=small.config(optimiser={"batch": 64}))
    made.update()
    assert seen.t[0].shape == (64,)
    assert len(seen.t[0].unique()) > 20


def test_times_that_do_not_suit_are_refused() -> None:
    denoiser, u = small.trainer().denoiser, torch.tensor([0.5], dtype=torch.float64)
    with pytest.raises(UserError, match="whole times"):
        draw_times(TimesConfig("log-normal"), denoiser, u, whole=True)
    with pytest.raises(UserError, match="'cosmic'"):
        draw_times(TimesConfig("cosmic"), denoiser, u, whole=False)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_that_share_of_labels_is_hidden(share: float) -> None:
    made, seen = watched(settings=small.config(label_dropout=share, optimiser={"batch": 500}))
    for _ in range(4):
        made.update()
    hidden = int(torch.cat(seen.null).sum())
    if share in (0.0, 1.0):
        assert hidden == share * 2000
    else:
        assert stats.binomtest(hidden, 2000, share).pvalue > 1e-3


def half_lit(number: int = 40) -> Any:
    """Pictures that are dark on the left and bright on the right."""
    dataset = small.pictures(number)
    dataset.train.x[:, :, :2] //= 4
    dataset.train.x[:, :, 2:] = 255 - dataset.train.x[:, :, 2:] // 4
    return dataset


def test_nothing_is_flipped_unless_asked() -> None:
    made, seen = watched(dataset=half_lit())
    for _ in range(20):
        made.update()
    x0 = torch.cat(seen.x0)
    assert (x0[..., :2] < x0[..., 2:]).all()


def test_asked_to_flip_it_flips_every_other_picture_whole() -> None:
    dataset = half_lit()
    made, seen = watched(settings=small.config(data={"flip": True}, optimiser={"batch": 100}), dataset=dataset)
    for _ in range(10):
        made.update()
    x0 = torch.cat(seen.x0)
    mirrored = (x0[..., :2] > x0[..., 2:]).all(dim=(1, 2, 3))
    straight = (x0[..., :2] < x0[..., 2:]).all(dim=(1, 2, 3))
    assert (mirrored | straight).all()
    assert stats.binomtest(int(mirrored.sum()), len(x0), 0.5).pvalue > 1e-3
    held = {row.tobytes() for row in dataset.train.x}
    assert {row.tobytes() for row in to_uint8(torch.where(mirrored[:, None, None, None], x0.flip(-1), x0))} == held


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = small.config(optimiser={"learning_rate": 0.5, "warmup_images": 40, "batch": 4}, budget={"images": 400})
    made = small.trainer(settings)

    def rate(images: int) -> float:
        made.progress.images = images
        return made.learning_rate()

    assert 0 < rate(0) <= 0.5 * 4 / 40
    rising = [rate(i) for i in range(0, 40, 4)]
    assert rising == sorted(rising)
    assert rate(40) == pytest.approx(0.25 * (1 + math.cos(math.pi * 0.1)))
    assert rate(200) == pytest.approx(0.25)
    assert rate(400) == pytest.approx(0, abs=1e-15)
    falling = [rate(i) for i in range(40, 401, 4)]
    assert falling == sorted(falling, reverse=True)
    assert rate(200) == rate(200), "of the image count alone"


def test_the_optimizer_is_given_that_rate() -> None:
    made = small.trainer()
    for _ in range(5):
        expected = made.learning_rate()
        assert made.update().learning_rate == expected
        assert all(group["lr"] == expected for group in made.optimizer.param_groups)


def test_the_budget_is_kept() -> None:
    made = small.trainer(small.config(budget={"images": 30}))
    steps = list(made.steps())
    assert len(steps) == 8, "whole batches of 4"
    assert made.progress.images == 32


def test_the_average_is_lent_and_given_back() -> None:
    made = small.trainer()
    for _ in range(3):
        made.update()
    raw = [p.detach().clone() for p in made.parameters]
    with made.averaged():
        assert all(torch.equal(p, e) for p, e in zip(made.parameters, made.ema.values))
        assert not made.denoiser.training
    assert all(torch.equal(p, r) for p, r in zip(made.parameters, raw))


def test_no_two_uses_share_their_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample i of seed 0 must not begin from the noise that training picture i of seed 0 was learned with."""
    keys: list[tuple[str, tuple[int, ...]]] = []
    words = NoiseSource._words

    def noted(self: NoiseSource, size: int, purpose: str, step: Any) -> Tensor:
        keys.append((purpose, tuple(torch.as_tensor(step).flatten().tolist())))
        return words(self, size, purpose, step)

    monkeypatch.setattr(NoiseSource, "_words", noted)
    dataset = small.pictures()
    made = small.trainer(small.config(data={"flip": True}), dataset)
    model = Model(made.denoiser, dataset.spec, made.config)
    made.loss(0, 4)
    watch.loss_by_time(made, dataset.heldout, 4)
    model.sample(1, sampler="ancestral", steps=3)
    model.bound(dataset.heldout.x[:1], terms=3)
    assert len(keys) == 4 + watch.BINS + (1 + 3) + 2 * (1 + 3)
    assert len(set(keys)) == len(keys)
    purposes = {purpose for purpose, _ in keys}
    assert len({zlib.crc32(p.encode()) & 0xFFFF for p in purposes}) == len(purposes)


def test_one_seed_has_the_same_loss_whatever_the_batch() -> None:
    """Image i has its own time, noise and flip, alone or beside others."""
    made = small.trainer(small.config(network={"dropout": 0.0}))
    made.denoiser.train()
    alone = [float(made.loss(i, 1).detach()) for i in range(6)]
    assert float(made.loss(0, 6).detach()) == pytest.approx(sum(alone) / 6, rel=1e-5)
