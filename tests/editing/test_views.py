"""What a network is shown of pictures, and that it comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unstir.denoisers import Condition, Denoiser, clipped
from unstir.editing import views
from unstir.editing.views import Grayscale, Held, LowResolution, Masked, View
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.samplers import DDIM, Ancestral, Grid, sample
from unstir.schedules import Cosine

G = torch.Generator().manual_seed(0)
X = torch.rand(3, 3, 8, 12, generator=G, dtype=torch.float64) * 2 - 1
OTHER = torch.rand(3, 3, 8, 12, generator=G, dtype=torch.float64) * 2 - 1
SOURCE = NoiseSource(7, range(3))
NAMES = ("super-resolution:4", "colouring", "mask")


def test_the_three_are_what_they_say() -> None:
    small = LowResolution(4)(X, SOURCE)
    block = X[1, 2, 4:8, 8:12].mean()
    assert torch.allclose(small[1, 2, 4:8, 8:12], block.expand(4, 4))
    grey = Grayscale()(X, SOURCE)
    torch.testing.assert_close(grey[:, 0], 0.299 * X[:, 0] + 0.587 * X[:, 1] + 0.114 * X[:, 2])
    shown = Masked()(X, SOURCE)
    known = shown[:, -1:] == 1
    assert torch.equal(shown[:, :-1], torch.where(known, X, 0))
    assert set(shown[:, -1].unique().tolist()) == {0.0, 1.0}
    enlarged = LowResolution(4).enlarged(small[:, :, ::4, ::4])
    torch.testing.assert_close(enlarged, small)


@pytest.mark.parametrize("name", NAMES)
def test_held_pictures_show_exactly_that_and_change_no_more_than_they_must(name: str) -> None:
    view = views.get(name)
    image = view(X, SOURCE)
    assert image.shape[1] == view.channels((3, 8, 12))
    held = view.hold(OTHER, image)
    torch.testing.assert_close(view(held, SOURCE), image)
    torch.testing.assert_close(view.hold(X, image), X)
    # The nearest such picture: what was changed is orthogonal to what may still be changed freely.
    torch.testing.assert_close(
        ((held - OTHER) * (held - X)).flatten(1).sum(1), torch.zeros(3, dtype=X.dtype), atol=1e-9, rtol=0
    )


def test_masks_are_each_samples_own_and_of_every_kind() -> None:
    many = views.known(NoiseSource(3, range(400)), 16, 16)
    some = views.known(NoiseSource(3, [250, 17]), 16, 16)
    assert torch.equal(some, many[[250, 17]])
    assert not torch.equal(views.known(NoiseSource(4, range(400)), 16, 16), many)
    share = many.flatten(1).mean(1)
    assert (share < 1).all()
    assert (share > 0).all()
    rows, columns = ((m.amin(d) == m.amax(d)).all(1) for m, d in ((many[:, 0], 2), (many[:, 0], 1)))
    half = (share == 0.5) & (rows | columns)
    assert 60 < int(half.sum()) < 150  # about a quarter are halves
    assert 0.45 < float(share.mean()) < 0.75


@pytest.mark.parametrize(
    "name", ["", "mask:3", "colouring:2", "super-resolution", "super-resolution:1", "super-resolution:x", "blur"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"super-resolution"):
        views.get(name)


def test_pictures_that_do_not_suit_are_refused() -> None:
    with pytest.raises(ValueError, match="in colour"):
        Grayscale().channels((1, 8, 8))
    with pytest.raises(ValueError, match="blocks"):
        LowResolution(4).channels((3, 8, 10))


class Blind(nn.Module):
    """Says the same whatever it sees: nothing of what comes back is its doing."""

    def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
        return 0.3 * torch.ones_like(x)


SOLVERS: dict[str, Any] = {"ddim": DDIM(), "ancestral": Ancestral()}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("clip", ["none", "dynamic"])
@pytest.mark.parametrize("name", NAMES)
def test_a_walk_ends_at_a_picture_of_which_the_same_is_shown(name: str, clip: str, solver: str) -> None:
    process = Gaussian(Cosine(T=50))
    view: View = views.get(name)
    image = view(X.float(), SOURCE)
    null = torch.tensor([False, True, False])
    walk: dict[str, Any] = {"seed": 0, "condition": Condition(image=image, null=null)}
    denoiser = clipped(Denoiser(Blind(), process, "x0"), clip)
    grid = Grid.uniform(process.schedule, 4)
    held = sample(Held(denoiser, view), SOLVERS[solver], grid, X.shape, **walk)
    free = sample(denoiser, SOLVERS[solver], grid, X.shape, **walk)
    again = view(held, SOURCE)
    torch.testing.assert_close(again[[0, 2]], image[[0, 2]], atol=1e-5, rtol=0)
    torch.testing.assert_close(held[1], free[1])
    assert not np.allclose(held[0], free[0])
    if name == "mask":
        known = (image[:, -1:] == 1).expand_as(X) & ~null.reshape(-1, 1, 1, 1)
        torch.testing.assert_close(held[known], X.float()[known], atol=1e-6, rtol=0)
    nothing = sample(Held(denoiser, view), SOLVERS[solver], grid, X.shape, seed=0)
    torch.testing.assert_close(nothing, free)
