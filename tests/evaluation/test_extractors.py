from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unstir.data import DataSpec, load, to_float
from unstir.errors import UserError
from unstir.evaluation.extractors import FITTED, Components, Extractor, RandomFilters, cached, find
from unstir.sets.distances import frechet_distance, moments
from unstir.sets.manifold import precision_recall


def _distance(features: Extractor, first: torch.Tensor, second: torch.Tensor) -> float:
    return frechet_distance(features(first), features(second))


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return to_float(load("digits").train.x)


def test_on_its_own_data_features_are_centred_with_mean_square_1(digits: torch.Tensor):
    features = RandomFilters.leading(digits)(digits)
    assert features.shape == (len(digits), 32)
    assert float(features.mean(0).abs().max()) < 1e-7
    assert float(features.var(0).sum()) == pytest.approx(1)


def test_each_axis_is_over_the_root_of_its_variance_and_their_mean(digits: torch.Tensor):
    """In float64, from the definition: variances l / (l + mean l), no two axes together."""
    features = RandomFilters.fitted(digits)(digits)
    assert features.shape == (len(digits), 256)
    plain = RandomFilters.leading(digits)
    own = torch.cat([F.relu(F.conv2d(p.double(), plain.weight, plain.bias, padding=1)) for p in digits.split(500)])
    variances = torch.linalg.eigvalsh(torch.cov(F.adaptive_avg_pool2d(own, 2).flatten(1).T))
    found = torch.cov(features.T)
    torch.testing.assert_close(found.diagonal(), variances / (variances + variances.mean()), rtol=1e-4, atol=1e-6)
    assert float((found - found.diagonal().diag()).abs().max()) < 1e-6


def test_noise_is_not_mistaken_for_data(digits: torch.Tensor):
    """Grey noise has much of what the leading components look for, and stands far off all others."""
    shuffled = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    first, second = shuffled[:600], shuffled[600:1200]
    noise = (0.3 * torch.randn(first.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)
    features = RandomFilters.fitted(digits)
    assert precision_recall(features(first), features(noise)).precision == 0
    assert precision_recall(features(first), features(second)).precision > 0.7


def test_it_sees_what_means_and_covariances_of_pixels_do_not(digits: torch.Tensor):
    mean, cov = moments(digits.flatten(1))
    values, vectors = torch.linalg.eigh(cov)
    normal = torch.from_numpy(np.random.default_rng(0).normal(size=(len(digits), 64)))
    fog = (mean + normal * values.clamp(min=0).sqrt() @ vectors.T).reshape(digits.shape)
    shuffled = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    features, (first, second) = RandomFilters.fitted(digits), shuffled.chunk(2)
    assert _distance(features, fog, digits) > 2 * _distance(features, first, second)
    # The halves are a half each, and yet the fog's pixels are nearer to all digits than one half's to the other's.
    assert frechet_distance(fog.flatten(1), digits.flatten(1)) < frechet_distance(first.flatten(1), second.flatten(1))


def test_noise_and_a_missing_kind_take_samples_further_away(digits: torch.Tensor):
    labels = torch.from_numpy(load("digits").train.labels)
    features = RandomFilters.fitted(digits)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=digits.shape)).float()
    distances = [_distance(features, (digits + s * noise).clamp(-1, 1), digits) for s in (0, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances)
    kinds = [_distance(features, digits[labels < k], digits) for k in (10, 9, 7, 4)]
    assert kinds == sorted(kinds)


def test_pictures_that_are_all_alike_have_no_distance():
    alike = torch.zeros(5, 1, 8, 8)
    for fit in FITTED.values():
        assert _distance(fit(alike), alike, alike) == pytest.approx(0)


@pytest.mark.parametrize("kind", [RandomFilters, Components])
def test_a_rows_features_are_its_own(digits: torch.Tensor, kind: type[RandomFilters] | type[Components]):
    """Trap 33: whatever stands beside it, and in whatever order."""
    features = kind.fitted(digits)
    together = features(digits[:600])
    torch.testing.assert_close(features(digits[577:578]), together[577:578], rtol=0, atol=1e-6)
    torch.testing.assert_close(features(digits[:600].flip(0)), together.flip(0), rtol=0, atol=1e-6)


def test_components_keep_what_numbers_say_up_to_one_scale():
    """Few coordinates lose nothing: distances between rows are those of the data, times one number."""
    x = torch.randn(200, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 6.0)
    seen = Components.fitted(x)(x)
    ratio = torch.cdist(seen, seen)[0, 1:] / torch.cdist(x, x)[0, 1:]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)
    assert float(seen.square().sum(1).mean()) == pytest.approx(1, rel=0.01)


def test_symbols_are_taken_one_hot():
    """Exchanging the names of two classes changes no distance."""
    x = torch.randint(0, 4, (300, 3), generator=torch.Generator().manual_seed(0))
    renamed = torch.tensor([2, 1, 0, 3])[x]
    a, b = Components.fitted(x)(x), Components.fitted(renamed)(renamed)
    torch.testing.assert_close(torch.cdist(a, a), torch.cdist(b, b), rtol=0, atol=1e-6)


def spec(kind: str, *shape: int, eight_bit: bool = True) -> DataSpec:
    return DataSpec(kind, shape, eight_bit, (), "x", "", "0")


PICTURES, POINTS = spec("image", 1, 8, 8), spec("points", 2, eight_bit=False)


def test_the_default_suits_the_data(digits: torch.Tensor):
    assert find(None, PICTURES)(digits).name == "random-filters-v2"
    assert find("random-filters-v1", PICTURES)(digits).name == "random-filters-v1"
    assert find("components", PICTURES)(digits).name == "components-v1"
    assert find(None, POINTS)(torch.randn(30, 2)).name == "components-v1"


@pytest.mark.parametrize(
    ("named", "data", "given", "said"),
    [
        ("inception", PICTURES, "-1,1", "there are no features called 'inception'; there are random-filters, "
         "random-filters-v1, components, and files"),
        ("inception.pth", PICTURES, "-1,1", "there is no file inception.pth"),
        ("random-filters", POINTS, "-1,1", "random-filters look at pictures, and this run is of points: use components"),
        ("components", PICTURES, "0,1", "an input range is for .onnx and .pt2 files"),
        ("components", PICTURES, "0,2", "an input range is one of -1,1; 0,1; 0,255; imagenet: not '0,2'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_line(named: str, data: DataSpec, given: str, said: str):
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as raised:
        find(named, data, input_range=given)
    assert len(str(raised.value).splitlines()) == 1


def test_another_kind_of_file_is_said(tmp_path: Path):
    (tmp_path / "features.txt").write_text("1 2 3")
    with pytest.raises(UserError, match=r"files: .*features\.txt is none of them"):
        find(str(tmp_path / "features.txt"), PICTURES)


@pytest.mark.parametrize("kind", [RandomFilters, Components])
def test_a_hash_is_that_of_what_decides_the_features(
    digits: torch.Tensor, kind: type[RandomFilters] | type[Components]
):
    first, again, other = kind.fitted(digits), kind.fitted(digits.clone()), kind.fitted(digits[:200])
    assert first.hash == again.hash != other.hash
    assert len(first.hash) == 64
    assert RandomFilters.fitted(digits).hash != Components.fitted(digits).hash


class _Counting:
    """The mean of each row and its square; counts the rows it looks at."""

    name = rule = "mean"

    def __init__(self, hashed: str = "a") -> None:
        self.hash, self.rows = hashed, 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        mean = x.double().flatten(1).mean(1)
        return torch.stack([mean, mean.square()], 1)


PROBED = 4  # rows that are looked at anew each time, to see that the features are still the same


def test_features_of_stored_data_are_computed_once(tmp_path: Path):
    x = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)
    eyes, seen = _Counting(), []
    first = cached(eyes, x, to_float, batch=10, cache=tmp_path, progress=lambda *done: seen.append(done))
    assert seen == [(10, 23), (20, 23), (23, 23)]
    again = cached(eyes, x.copy(), to_float, batch=7, cache=tmp_path, progress=lambda *done: seen.append(done))
    assert eyes.rows == 23 + 2 * PROBED
    assert seen[3:] == [(23, 23)]
    assert again.dtype == torch.float64
    assert torch.equal(first, again)
    assert torch.equal(first, eyes(to_float(x)))
    changed = x.copy()
    changed[5, 0, 0] ^= 1
    other = _Counting("b")
    for extractor, data in ((eyes, changed), (other, x)):
        before = extractor.rows
        cached(extractor, data, to_float, cache=tmp_path)
        assert extractor.rows == before + 23 + PROBED


def test_axes_that_came_out_otherwise_are_not_mixed_with_what_was_kept(tmp_path: Path):
    """Another version may find the same axes with other signs: the same features by hash, and not the same numbers."""
    x = np.random.default_rng(0).integers(0, 256, (23, 4, 4, 1), dtype=np.uint8)

    class Turned(_Counting):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return -super().__call__(x)

    kept = cached(_Counting(), x, to_float, cache=tmp_path)
    assert torch.equal(cached(Turned(), x, to_float, cache=tmp_path), -kept)


def test_a_float32_network_costs_half_and_comes_back_exactly(tmp_path: Path):
    """What float32 can hold is kept in it."""
    eyes, x = _Counting(), np.zeros((50, 4, 4, 1), np.uint8)
    x[:25] = 255
    kept = cached(eyes, x, to_float, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    assert np.load(entry).dtype == np.float32
    assert torch.equal(kept, cached(eyes, x, to_float, cache=tmp_path))
    assert eyes.rows == 50 + 2 * PROBED


@pytest.mark.parametrize("damage", ["short", "empty", "text", "rows", "columns", "numbers", "another's", "zip"])
def test_a_damaged_entry_costs_the_time_alone(tmp_path: Path, damage: str):
    eyes, x = _Counting(), np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
    whole = cached(eyes, x, to_float, cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    arrays = {"rows": whole[:8], "columns": whole[:, :1], "numbers": whole + 1}
    if damage in arrays:
        with entry.open("r+b") as file:  # what is behind the array stays
            np.save(file, arrays[damage].numpy())
    elif damage == "another's":
        cached(eyes, x[::-1].copy(), to_float, cache=tmp_path / "other")
        (other,) = (tmp_path / "other").iterdir()
        other.replace(entry)
        eyes.rows -= 9 + PROBED
    elif damage == "zip":
        with entry.open("wb") as file:
            np.savez(file, whole.numpy())
    else:
        entry.write_bytes({"short": entry.read_bytes()[:-40], "empty": b"", "text": b"no array at all"}[damage])
    assert torch.equal(cached(eyes, x, to_float, cache=tmp_path), whole)
    assert eyes.rows == 18 + 2 * PROBED
    assert torch.equal(cached(eyes, x, to_float, cache=tmp_path), whole)
    assert eyes.rows == 18 + 3 * PROBED


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    eyes, x = _Counting(), np.zeros((9, 4, 4, 1), np.uint8)
    assert len(cached(eyes, x, to_float, cache=tmp_path / "file" / "features")) == 9
