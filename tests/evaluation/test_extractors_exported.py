"""Networks from files, ONNX and exported by torch: the same features as the network itself, however the file takes its rows."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from tests.evaluation import mobilenet
from tests.evaluation.test_extractors import POINTS, spec
from unstir.data import load, to_float
from unstir.errors import UserError
from unstir.evaluation.extractors import find

BITS, COLOURS = spec("bits", 6, eight_bit=False), spec("image", 3, 10, 12)


class Net(nn.Module):
    """A convolution and a rectifier: (N, C, H, W) to (N, 5, H', W')."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


def network(channels: int = 3) -> Net:
    net = Net(channels).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net


def export(net: nn.Module, x: Tensor, path: Path, *free: int, training: bool = False) -> Path:
    """Written by torch, with these dimensions free."""
    net.train(training)
    shapes = (dict.fromkeys(free, Dim.DYNAMIC),) if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".onnx":
            torch.onnx.export(net, (x,), path, dynamic_shapes=shapes, verbose=False)
        else:
            torch.export.save(torch.export.export(net, (x,), dynamic_shapes=shapes), path)
    return path


def graph(
    path: Path, op: str, shape: list[int | str | None], kind: int = TensorProto.FLOAT, **attributes: object
) -> Path:
    """An ONNX file of one operation on one input, written without torch."""
    given = helper.make_tensor_value_info("x", kind, shape)
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    taken = helper.make_graph([node], "one", [given], [helper.make_tensor_value_info("y", kind, None)])
    onnx.save(helper.make_model(taken, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def colours() -> Tensor:
    return to_float(np.random.default_rng(0).integers(0, 256, (9, 10, 12, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("free", [(0,), (), (0, 2, 3)])
def test_a_file_gives_what_its_network_gives(tmp_path: Path, colours: Tensor, suffix: str, free: tuple[int, ...]):
    """Whether it takes any number of rows, any size, or four rows of one size."""
    net = network()
    path = export(net, torch.zeros(4, 3, 10, 12), tmp_path / f"net{suffix}", *free)
    extractor = find(str(path), COLOURS)(colours)
    found = extractor(colours)
    assert (found.shape, found.dtype) == ((9, 5), torch.float64)
    torch.testing.assert_close(found, net(colours).double().mean((2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(extractor(colours[3:4]), found[3:4], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(extractor(colours.flip(0)), found.flip(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("-1,1", lambda k: k / 127.5 - 1),
        ("0,1", lambda k: k / 255),
        ("0,255", lambda k: k),
        ("imagenet", lambda k: (k / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])),
    ],
)
def test_levels_reach_the_network_in_the_range_it_was_made_for(tmp_path: Path, given: str, wanted):
    path = graph(tmp_path / "mean.onnx", "Identity", [None, 3, None, None])
    levels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    extractor = find(str(path), spec("image", 3, 4, 4), input_range=given)(to_float(levels))
    np.testing.assert_allclose(
        extractor(to_float(levels)), wanted(levels.astype(float)).mean((1, 2)), rtol=1e-4, atol=1e-5
    )
    grey = find(str(path), spec("image", 1, 4, 4), input_range=given)(to_float(levels[..., :1]))
    copied = wanted(levels[..., :1].repeat(3, -1).astype(float)).mean((1, 2))
    np.testing.assert_allclose(grey(to_float(levels[..., :1])), copied, rtol=1e-4, atol=1e-5)
    assert extractor.name.endswith(f"[{given}]") == (given != "-1,1")
    assert ("grey copied" in grey.rule) > ("grey copied" in extractor.rule)
    assert extractor.hash != grey.hash


def test_pictures_are_resized_only_where_the_file_fixes_their_size(tmp_path: Path, colours: Tensor):
    fixed = find(str(graph(tmp_path / "fixed.onnx", "Flatten", [None, 3, 5, 5])), COLOURS)(colours)
    small = F.interpolate(colours, (5, 5), mode="bilinear", antialias=True)
    torch.testing.assert_close(fixed(colours), small.flatten(1).double())
    assert "resized to 5×5" in fixed.rule
    free = find(str(graph(tmp_path / "free.onnx", "Flatten", ["n", 3, "h", "w"])), COLOURS)(colours)
    assert torch.equal(free(colours), colours.flatten(1).double())
    assert "resized" not in free.rule


def test_vectors_go_in_as_the_run_sees_them(tmp_path: Path):
    path = graph(tmp_path / "twice.onnx", "Concat", ["n", "d"], axis=1)
    for data, x in ((BITS, torch.eye(6)), (POINTS, torch.randn(70, 2))):
        extractor = find(str(path), data)(x)
        assert torch.equal(extractor(x), x.double())
    with pytest.raises(UserError, match="an input range is for pictures"):
        find(str(path), BITS, input_range="0,1")


def test_a_name_says_which_file(tmp_path: Path, colours: Tensor):
    """And the hash changes with a weight, also where weights lie in a second file."""
    net = network()
    path = export(net, torch.zeros(4, 3, 10, 12), tmp_path / "eyes.pt2", 0)
    hashed = hashlib.sha256(path.read_bytes()).hexdigest()
    assert find(str(path), COLOURS)(colours).name == f"pt2-eyes-{hashed[:8]}"
    for one in (path, graph(tmp_path / "mean.onnx", "Identity", ["n", 3, 10, 12])):
        other = tmp_path / f"called-otherwise{one.suffix}"
        other.write_bytes(one.read_bytes())
        first, second = find(str(one), COLOURS)(colours), find(str(other), COLOURS)(colours)
        assert first.hash == second.hash != find(str(one), COLOURS, input_range="0,1")(colours).hash
        assert first.name != second.name
    path = export(net, torch.zeros(4, 3, 10, 12), tmp_path / "eyes.onnx", 0)
    beside = tmp_path / "eyes.onnx.data"
    assert beside.exists()
    first = find(str(path), COLOURS)(colours)
    beside.write_bytes(bytes(len(beside.read_bytes())))
    second = find(str(path), COLOURS)(colours)
    assert first.name != second.name
    assert first.hash != second.hash
    whole = graph(tmp_path / "all.onnx", "Identity", ["n", 3, 10, 12])
    hashed = hashlib.sha256(whole.read_bytes()).hexdigest()
    assert find(str(whole), COLOURS)(colours).name == f"onnx-all-{hashed[:8]}"


@pytest.mark.parametrize(
    ("data", "shape", "kind", "said"),
    [
        (COLOURS, ["n", 1, 10, 12], TensorProto.FLOAT, r"takes \(any, 1, 10, 12\), and these pictures are \(N, 3, 10, 12\)"),
        (COLOURS, ["n", 10, 12, 3], TensorProto.FLOAT, r"takes \(any, 10, 12, 3\), and these pictures are \(N, 3, 10, 12\)"),
        (COLOURS, ["n", 3], TensorProto.FLOAT, r"takes \(any, 3\), and these pictures are"),
        (POINTS, ["n", 3], TensorProto.FLOAT, r"takes \(any, 3\), and these points are \(N, 2\)"),
        (POINTS, ["n", 3, 4, 4], TensorProto.FLOAT, r"takes \(any, 3, 4, 4\), and these points are \(N, 2\)"),
        (spec("symbols", 4), ["n", 4], TensorProto.FLOAT, "numbers, and this run is of symbols"),
        (COLOURS, ["n", 3, 10, 12], TensorProto.UINT8, r"takes tensor\(uint8\): features come from networks of one input in float32"),
    ],
)  # fmt: skip
def test_a_network_for_other_data_is_refused(tmp_path: Path, data, shape, kind: int, said: str):
    with pytest.raises(UserError, match=said) as raised:
        find(str(graph(tmp_path / "net.onnx", "Identity", shape, kind)), data)
    assert len(str(raised.value).splitlines()) == 1


def test_what_gives_no_features_is_refused(tmp_path: Path, colours: Tensor):
    with pytest.raises(UserError, match=r"first output .* has shape \(1, 1, 1, 1\) for 3 rows|shape \(1, 1\)"):
        find(str(graph(tmp_path / "one.onnx", "ReduceMean", ["n", 3, 10, 12])), COLOURS)
    with pytest.raises(UserError, match="not finite"):
        find(str(graph(tmp_path / "log.onnx", "Log", ["n", 3, 10, 12])), COLOURS)
    with pytest.raises(UserError, match="does not take these pictures"):
        find(str(graph(tmp_path / "large.onnx", "MaxPool", ["n", 3, "h", "w"], kernel_shape=[30, 30])), COLOURS)


def test_a_network_in_train_mode_is_refused(tmp_path: Path):
    """Trap 33: its rows would depend on their mates."""
    net = nn.Sequential(network(), nn.BatchNorm2d(5, track_running_stats=False))
    path = export(net, torch.zeros(4, 3, 10, 12), tmp_path / "net.pt2", 0)
    with pytest.raises(UserError, match="depend on what else is in the batch: export the network in eval mode"):
        find(str(path), COLOURS)


def test_files_that_are_no_networks_are_refused(tmp_path: Path):
    for name, said in (
        ("text.onnx", "cannot be read as an ONNX network"),
        ("text.pt2", "as a network exported by torch"),
    ):
        (tmp_path / name).write_text("no network")
        with pytest.raises(UserError, match=said) as raised:
            find(str(tmp_path / name), COLOURS)
        assert len(str(raised.value).splitlines()) == 1


class _Evil:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


@pytest.mark.parametrize(
    "where", ["data/sample_inputs/model.pt", "data/constants/opaque_obj_0", "data/weights/weight_0"]
)
def test_a_file_that_would_run_code_is_not_read(tmp_path: Path, where: str):
    """torch's own reader would unpickle such parts."""
    whole = export(network(), torch.zeros(4, 3, 10, 12), tmp_path / "net.pt2", 0)
    torch.save(_Evil(tmp_path / "ran"), tmp_path / "evil")
    evil, changed = (tmp_path / "evil").read_bytes(), tmp_path / "changed.pt2"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(changed, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("weights_config.json") and "weights" in where:
                content = json.dumps(_pickled(json.loads(content))).encode()
            new.writestr(name, evil if name == f"{root}/{where}" else content)
        if f"{root}/{where}" not in old.namelist():
            new.writestr(f"{root}/{where}", evil)
    with pytest.raises(UserError, match=r"cannot be read as a network exported by torch|holds code"):
        find(str(changed), COLOURS)
    assert not (tmp_path / "ran").exists()


def _pickled(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: True if key == "use_pickle" else _pickled(value) for key, value in tree.items()}
    return tree


def test_without_onnxruntime_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = graph(tmp_path / "net.onnx", "Identity", ["n", 3, 10, 12])
    for name in ("onnxruntime", "onnx"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(UserError, match=r"takes " + name + r": pip install 'unstir\[export\]'"):
                find(str(path), COLOURS)


@pytest.mark.skipif(not mobilenet.FILE.exists(), reason="its weights lie outside the repository")
def test_a_network_trained_elsewhere_knows_a_picture_again(tmp_path: Path):
    """MobileNetV1 on emoji: with a little noise each is still nearest to itself."""
    emoji = load(mobilenet.FILE.parents[1] / "noto-emoji" / "emoji64.npz")
    x = to_float(emoji.heldout.x[:12])
    path = export(mobilenet.MobileNet(), torch.zeros(2, 3, 224, 224), tmp_path / "mobilenet.pt2", 0)
    extractor = find(str(path), emoji.spec)(x)
    features = extractor(x)
    assert features.shape == (12, 1024)
    assert extractor.name.startswith("pt2-mobilenet-")
    near = extractor((x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1))
    assert torch.cdist(near, features).argmin(1).tolist() == list(range(12))
