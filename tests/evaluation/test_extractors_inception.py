"""The network that the FID is defined by: its published names and shapes, its way of preparing pictures, its rows' independence.

``inception_keys.txt`` was written down from the reference implementations, convolution by convolution.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.evaluation.test_extractors import PICTURES, POINTS, spec
from unstir.data import to_float
from unstir.errors import UserError
from unstir.evaluation.extractors import find, inception
from unstir.evaluation.extractors.inception import Inception, is_fid
from unstir.evaluation.extractors.pictures import levels, resize_as_in_2015

KEYS = Path(__file__).with_name("inception_keys.txt")


@pytest.fixture(scope="module")
def network() -> Inception:
    """Random weights of the size that keeps what they see at its scale, so that every part shows in the features."""
    generator = torch.Generator().manual_seed(0)
    network = Inception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan = module.weight[0].numel()
            module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 4)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return network


@pytest.fixture(scope="module")
def weights(network: Inception) -> dict[str, torch.Tensor]:
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def file(weights: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return to_float(np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8))


def test_names_and_shapes_are_the_published_ones(weights: dict[str, torch.Tensor]):
    published = {name: tuple(map(int, shape)) for name, *shape in map(str.split, KEYS.read_text().splitlines())}
    ours = {name: tuple(value.shape) for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert ours == published
    assert len(published) == 94 * 5 + 2


def test_it_has_as_many_parameters_as_published(network: Inception):
    """torchvision states 27,161,264 for its own, with 1,000 classes and a second classifier of two convolutions."""
    second = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + (768 * 1000 + 1000)
    ours = sum(parameter.numel() for parameter in network.parameters())
    assert ours == 27_161_264 - second + 8 * (2048 + 1)


def test_a_part_is_what_the_reference_computes(network: Inception):
    """The three kinds of pooling, written out: averages without the padding, a maximum at the end, halves between."""
    generator = torch.Generator().manual_seed(1)
    for name, channels, side in (
        ("Mixed_5b", 192, 9),
        ("Mixed_6a", 288, 9),
        ("Mixed_7b", 1280, 5),
        ("Mixed_7c", 2048, 5),
    ):
        x, block = torch.rand(2, channels, side, side, generator=generator), network.get_submodule(name)
        found = block(x)
        if name == "Mixed_6a":
            wanted = x.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))
            assert torch.equal(found[:, -channels:], wanted)
            assert found.shape == (2, 768, 4, 4)
            continue
        fill = -float("inf") if name == "Mixed_7c" else float("nan")
        around = nn.functional.pad(x, (1, 1, 1, 1), value=fill).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
        pooled = around.amax(4) if name == "Mixed_7c" else around.nanmean(4)
        wanted = block.get_submodule("branch_pool")(pooled)
        torch.testing.assert_close(found[:, -wanted.shape[1] :], wanted, rtol=1e-4, atol=1e-5)


def test_pictures_shrink_as_in_the_paper():
    """Szegedy et al. 2016, table 1: 35×35 of 288, 17×17 of 768, 8×8 of 2,048 channels, from 299×299; and its first rows."""
    sizes = {}
    with torch.device("meta"):
        network, x = Inception(), torch.zeros(1, 3, 299, 299)
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, y, name=name: sizes.update({name: tuple(y.shape[1:])}))
    network(x)
    assert [sizes[f"Conv2d_{name}"] for name in ("1a_3x3", "2a_3x3", "2b_3x3")] == [
        (32, 149, 149), (32, 147, 147), (64, 147, 147)
    ]  # fmt: skip
    assert [sizes[f"Conv2d_{name}"] for name in ("3b_1x1", "4a_3x3")] == [(80, 73, 73), (192, 71, 71)]
    assert sizes["Mixed_5d"] == (288, 35, 35)
    assert sizes["Mixed_6e"] == (768, 17, 17)
    assert sizes["Mixed_7a"] == (1280, 8, 8)
    assert sizes["Mixed_7c"] == (2048, 8, 8)


def test_side_by_side_means_along_rows_first(network: Inception):
    """The order of channels, and that both halves of a fork see the same input."""
    x = torch.rand(1, 2048, 4, 4, generator=torch.Generator().manual_seed(2))
    part = network.get_submodule("Mixed_7c")
    stem = part.get_submodule("branch3x3_1")(x)
    rows, columns = (part.get_submodule(f"branch3x3_2{letter}") for letter in "ab")
    assert (rows.conv.kernel_size, columns.conv.kernel_size) == ((1, 3), (3, 1))
    found = part(x)[:, 320 : 320 + 768]
    torch.testing.assert_close(found, torch.cat([rows(stem), columns(stem)], 1), rtol=1e-5, atol=1e-6)


def test_a_rows_features_are_its_own(file: Path, pictures: torch.Tensor):
    """Trap 33: in no mode, beside no mates, in no batch."""
    extractor = find(str(file), spec("image", 3, 24, 24))(pictures)
    extractor.network.train()
    together = extractor(pictures)
    assert together.shape == (3, 2048)
    assert together.dtype == torch.float64
    scale = float(together.abs().max())
    assert float(together.std(0).mean()) > 1e-3 * scale, "pictures look different"
    torch.testing.assert_close(extractor(pictures[1:2]), together[1:2], rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(extractor(pictures.flip(0)), together.flip(0), rtol=0, atol=1e-5 * scale)
    assert not any(module.training for module in extractor.network.modules())


def test_it_is_given_levels_less_128_over_128_at_299(monkeypatch: pytest.MonkeyPatch, file: Path):
    given = []
    extractor = find(str(file), PICTURES)(torch.zeros(1, 1, 8, 8))
    monkeypatch.setattr(Inception, "forward", lambda _, x: given.append(x) or x.mean((2, 3)))
    x = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8, 1) * 4
    extractor(to_float(x))
    assert given[0].shape == (1, 3, 299, 299)
    assert torch.equal(given[0][:, 0], given[0][:, 1])
    assert torch.equal(given[0][:, 0], given[0][:, 2])
    assert float(given[0][0, 0, 0, 0]) == -1
    assert float(given[0][0, 0, -1, -1]) == (252 - 128) / 128, "beyond the last pixel there is the last pixel"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 17), (299, 299), (600, 411), (1, 3)])
def test_resizing_is_that_of_tensorflow_1(height: int, width: int):
    """Against the formula in float64, point by point: position i H / 299 without half a pixel, the last pixel repeated."""
    x = np.random.default_rng(0).integers(0, 256, (1, 2, height, width)).astype(np.float32)
    found = resize_as_in_2015(torch.from_numpy(x), 299)
    i, j = np.arange(299) * height / 299, np.arange(299) * width / 299
    top, left = np.floor(i).astype(int), np.floor(j).astype(int)
    below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    v, u = (i - top)[:, None], j - left
    z = x.astype(np.float64)
    wanted = (1 - v) * ((1 - u) * z[..., top, :][..., left] + u * z[..., top, :][..., right]) + v * (
        (1 - u) * z[..., below, :][..., left] + u * z[..., below, :][..., right]
    )
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-3)


def test_levels_are_whole_numbers():
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    assert torch.equal(levels(to_float(x)).flatten(), torch.arange(256.0))


def test_only_the_ports_own_file_gives_the_fid(
    file: Path,
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pictures: torch.Tensor,
):
    hashed = hashlib.sha256(file.read_bytes()).hexdigest()
    extractor = find(str(file), PICTURES)(pictures)
    assert extractor.name == f"inception-{hashed[:8]}"
    assert not is_fid(extractor.name)
    monkeypatch.setattr(inception, "_PUBLISHED", hashed[:8])
    published = find(str(file), PICTURES)(pictures)
    assert published.name == "inception-2015-12-05"
    assert is_fid(published.name)
    bare = {key: value for key, value in weights.items() if "num_batches" not in key}
    save_file(bare, tmp_path / "x.safetensors")
    other = find(str(tmp_path / "x.safetensors"), PICTURES)(pictures)
    assert not is_fid(other.name)
    assert len({extractor.hash, published.hash, other.hash}) == 3
    for name, value in other.network.state_dict().items():
        assert torch.equal(value, weights[name])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("Mixed_6c.branch7x7dbl_4.conv.weight"), "Mixed_6c.branch7x7dbl_4.conv.weight missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra missing, unknown"),
        (lambda w: w.update({"fc.bias": torch.zeros(1000)}), "fc.bias missing, unknown or of another shape"),
        (lambda w: w.update({"fc.bias": "text"}), "does not hold a network's weights by name"),
    ],
)
def test_other_weights_are_refused(change, said: str, weights: dict[str, torch.Tensor], tmp_path: Path):
    changed = dict(weights)
    change(changed)
    small = {k: v.to(torch.float16) if isinstance(v, torch.Tensor) else v for k, v in changed.items()}
    torch.save(small, tmp_path / "w.pth")
    with pytest.raises(UserError, match=said) as raised:
        find(str(tmp_path / "w.pth"), PICTURES)
    assert len(str(raised.value).splitlines()) == 1


def test_a_file_that_would_run_code_is_not_read(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"x": Evil()}, tmp_path / "w.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("w.pth", "text.pth"):
        with pytest.raises(UserError, match="cannot be read as a file of weights"):
            find(str(tmp_path / name), PICTURES)
    assert not (tmp_path / "ran").exists()


def test_it_looks_at_pictures_of_levels_alone(file: Path):
    with pytest.raises(UserError, match="this run is of points"):
        find(str(file), POINTS)
    with pytest.raises(UserError, match="pictures are of real numbers"):
        find(str(file), spec("image", 1, 8, 8, eight_bit=False))
