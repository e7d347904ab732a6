"""Pictures are moved as it is said that they are, the network is told, and samples show none of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tests import small
from unstir.data import Dataset, Split
from unstir.denoisers import Condition
from unstir.errors import UserError
from unstir.networks import UNet, UNetConfig
from unstir.noise import NoiseSource
from unstir.runs import Model, Run
from unstir.training.augment import NUMBERS, augmented, moved
from unstir.training.resolve import resolve


def pictures(number: int, height: int = 8, width: int = 8) -> Tensor:
    return torch.rand(number, 2, height, width, generator=torch.Generator().manual_seed(number)) * 2 - 1


def linear_of(told: Tensor) -> tuple[Tensor, Tensor]:
    told = told.double()
    return told[:, :4].reshape(-1, 2, 2) + torch.eye(2, dtype=torch.float64), told[:, 4:]


def test_nothing_is_done_to_most_and_they_stay_bit_for_bit() -> None:
    x0 = pictures(64)
    same, told = augmented(x0, 0.0, NoiseSource(0, range(64)))
    assert torch.equal(same, x0)
    assert torch.equal(told, torch.zeros(64, NUMBERS))
    some, told = augmented(x0, 0.1, NoiseSource(0, range(64)))
    untouched = (told == 0).all(1)
    assert 0 < int(untouched.sum()) < 64
    assert torch.equal(some[untouched], x0[untouched])
    assert not any(torch.equal(some[i], x0[i]) for i in (~untouched).nonzero().flatten())


@pytest.mark.parametrize(("height", "width"), [(24, 24), (20, 28)])
def test_a_ramp_goes_where_the_map_says(height: int, width: int) -> None:
    """``a·u + b`` becomes ``a·M^-1 (u - s) + b`` wherever that lies inside, but for a tenth of a pixel.

    torch's cubic kernel (A = -0.75) does not quite keep linear functions.
    """
    u = torch.stack(
        torch.meshgrid(torch.arange(width) + 0.5 - width / 2, torch.arange(height) + 0.5 - height / 2, indexing="xy"),
        -1,
    ).double()
    a, b = torch.tensor([0.013, -0.021], dtype=torch.float64), 0.1
    x0 = (u @ a + b).float().expand(40, 1, height, width)
    found, told = augmented(x0, 0.8, NoiseSource(1, range(40)))
    m, s = linear_of(told)
    compared = 0
    for i in range(40):
        source = (u - s[i] * torch.tensor([width, height])) @ torch.linalg.inv(m[i]).T
        inside = (source[..., 0].abs() < width / 2 - 2.5) & (source[..., 1].abs() < height / 2 - 2.5)
        compared += int(inside.sum())
        torch.testing.assert_close(
            found[i, 0].double()[inside], (source @ a + b)[inside], rtol=0, atol=float(a.abs().sum()) / 10
        )
    assert compared > 5_000


def test_mirrored_and_turned_by_quarters_no_pixel_is_lost() -> None:
    x = pictures(3)
    none = torch.zeros(3, 2, dtype=torch.float64)

    def by(rows: list[list[float]]) -> Tensor:
        return moved(x, torch.tensor([rows] * 3, dtype=torch.float64), none)

    torch.testing.assert_close(by([[-1, 0], [0, 1]]), x.flip(-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(by([[1, 0], [0, -1]]), x.flip(-2), rtol=0, atol=1e-5)
    # W runs to the right and H downwards, so this turn is clockwise.
    torch.testing.assert_close(by([[0, -1], [1, 0]]), torch.rot90(x, -1, (-2, -1)), rtol=0, atol=1e-5)
    shifted = moved(x, torch.eye(2, dtype=torch.float64).expand(3, 2, 2), none + torch.tensor([1 / 8, -2 / 8]))
    torch.testing.assert_close(shifted[..., :6, 1:], x[..., 2:, :7], rtol=0, atol=1e-5)


def test_each_picture_is_moved_by_its_own_key() -> None:
    x0 = pictures(9)
    together, told = augmented(x0, 0.6, NoiseSource(3, range(100, 109)))
    for i in range(9):
        alone, word = augmented(x0[i : i + 1], 0.6, NoiseSource(3, [100 + i]))
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(word[0], told[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [0.12, 0.5])
def test_how_often_is_the_share(share: float) -> None:
    n = 4_000
    _, told = augmented(torch.zeros(n, 1, 2, 2), share, NoiseSource(5, range(n)))
    m, s = linear_of(told)
    # A mirroring happens half of the times that it might, and a turn by quarters may be by none.
    nothing = (1 - share / 2) * (1 - share * 3 / 4) * (1 - share) ** 4
    assert stats.binomtest(int((told == 0).all(1).sum()), n, nothing).pvalue > 1e-3
    assert stats.binomtest(int((torch.linalg.det(m) < 0).sum()), n, share / 2).pvalue > 1e-3
    shifts = s[(s != 0).any(1)].flatten().numpy()
    assert stats.kstest(shifts / 0.125, "norm").pvalue > 1e-3
    assert stats.binomtest(len(shifts) // 2, n, share).pvalue > 1e-3


def test_word_of_no_change_is_no_word() -> None:
    config = UNetConfig(1, 1, channels=8, multipliers=(1,), blocks=1, groups=4, middle_attention=False, augment=NUMBERS)
    network = UNet(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(3, 1, 4, 4), torch.tensor([3.0, 50.0, 900.0])
    assert torch.equal(network(x, t, Condition(augment=torch.zeros(3, NUMBERS))), network(x, t, None))
    assert not torch.allclose(network(x, t, Condition(augment=torch.ones(3, NUMBERS))), network(x, t, None))


def test_samples_show_none_of_it() -> None:
    """Pictures that are bright on the left, half of them learned mirrored: not one sample is, and without the word half are."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (64, 4, 4, 1)).astype(np.uint8)
    x[:, :, :2] += 180
    base = small.pictures(classes=0)
    dataset = Dataset(base.spec, Split(x, None), Split(x[:4], None), [])

    def mirrored(told: bool) -> int:
        network = {"classes": 0, "dropout": 0.0, "channels": 16} | ({"augment": NUMBERS} if told else {})
        settings = small.config(
            data={"augment": 0.9}, network=network, optimiser={"batch": 64, "learning_rate": 5e-3}, budget={"images": 64 * 250},
        )  # fmt: skip
        made = small.trainer(settings, dataset)
        for _ in made.steps():
            pass
        with made.averaged():
            drawn = Model(made.denoiser, dataset.spec, settings).sample(100, steps=10)[..., 0].astype(float)
        return int((drawn[:, :, :2].mean((1, 2)) < drawn[:, :, 2:].mean((1, 2))).sum())

    assert mirrored(told=True) <= 5
    assert 20 <= mirrored(told=False) <= 80


def test_stopping_and_going_on_changes_no_bit() -> None:
    settings = small.config(data={"augment": 0.5}, network={"augment": NUMBERS})
    whole, first, again = (small.trainer(settings) for _ in range(3))
    for _ in range(5):
        whole.update()
    for _ in range(2):
        first.update()
    again.restore(first.checkpoint())
    for _ in range(3):
        again.update()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, again.parameters))
    plain, moving = small.trainer(small.config(network={"augment": NUMBERS})), small.trainer(settings)
    plain.update()
    moving.update()
    assert not all(torch.equal(a, b) for a, b in zip(plain.parameters, moving.parameters))


def test_the_preset_for_few_pictures_has_it_on(tmp_path: Path) -> None:
    settings, _ = resolve({"preset": "few", "data": {"source": "digits"}}, None, Run(tmp_path / "run"))
    assert settings.data.augment > 0
    assert settings.network["augment"] == NUMBERS
    assert settings.network["dropout"] > 0
    off, _ = resolve({"preset": "few", "data": {"source": "digits", "augment": 0.0}}, None, Run(tmp_path / "run"))
    assert "augment" not in off.network
    on, _ = resolve({"data": {"source": "digits", "augment": 0.3}}, None, Run(tmp_path / "run"))
    assert on.network["augment"] == NUMBERS
    with pytest.raises(UserError, match="moves pictures about, and this data is points"):
        resolve({"data": {"source": "moons", "augment": 0.3}}, None, Run(tmp_path / "run"))
    for share in (-0.1, 1.5, math.nan):
        with pytest.raises(UserError, match="--augment must be a share from 0 to 1"):
            resolve({"data": {"source": "digits", "augment": share}}, None, Run(tmp_path / "run"))
