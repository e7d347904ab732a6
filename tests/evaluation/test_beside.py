"""What is no picture is drawn where it is: dots at points' places, patches of symbols' colours; real and generated alike."""

from __future__ import annotations

import base64
import io
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.evaluation import report
from unstir.evaluation.report import beside
from unstir.runs import Run, dataset, heldout, load

SEQUENCES = (
    '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'
)


def dots(svg: str) -> np.ndarray:
    """The places of a scatter's dots, in the drawing's units, upwards."""
    return np.array([(float(x), -float(y)) for x, y in re.findall(r'<path d="M(\S+) (\S+)h0"/>', svg)]).reshape(-1, 2)


def pair_of(run: Path) -> tuple[str, str]:
    """The report's generated and real, beside each other."""
    model = load(run)
    report.write(Run(run), model, dataset(model), images=2, samples=0)
    text = (run / "report.html").read_text(encoding="utf-8")
    left, right = re.findall(r"<figure>.*?</figure>", text.split('<div class="pair">')[1].split("</div>")[0], re.DOTALL)
    return left, right


def values_in(figure: str, shape: tuple[int, int], symbols: int | None) -> np.ndarray:
    """What a raster says: the value of each patch by its colour."""
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', figure)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        seen = np.asarray(image)
    high, wide = seen.shape[0] // shape[0], seen.shape[1] // shape[1]
    middles = seen[high // 3 :: high, wide // 2 :: wide].astype(int)
    assert middles.shape[:2] == shape
    return np.abs(middles[:, :, None] - beside.colours(symbols).astype(int)).sum(-1).argmin(-1)


def test_points_are_drawn_where_they_are_and_both_clouds_on_the_same_axes(points_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(points_run, tmp_path / "run"))
    model = load(run)
    split = heldout(model)
    left, right = pair_of(run)
    real, drawn = np.asarray(split.x, np.float64), model.sample(len(split))
    # One map, the same both ways, takes real points to their dots: so shapes are kept.
    spread = real - real.mean(0)
    places = dots(right) - dots(right).mean(0)
    scale = float((spread * places).sum() / (spread**2).sum())
    assert scale > 0
    assert places == pytest.approx(scale * spread, abs=0.11)
    # It is the map of what was generated too; what would lie outside is counted.
    low, high = beside.window(real)
    inside = ((drawn >= low) & (drawn <= high)).all(1)
    expected = dots(right).mean(0) + scale * (drawn[inside] - real.mean(0))
    assert dots(left) == pytest.approx(expected, abs=0.2)
    assert (f"; {(~inside).sum()} of {len(drawn)} lie outside" in left) == (not inside.all())
    assert re.findall(r"<text.*?</text>", left) == re.findall(r"<text.*?</text>", right)


@pytest.mark.parametrize("kind", ["bits", "symbols"])
def test_rows_can_be_read_off_their_colours_and_drawn_again(
    kind: str, cache_elsewhere: None, tmp_path: Path, unstir: Callable[..., Any]
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2 if kind == "bits" else 7, (400, 9), np.uint8))
    run = small.train(tmp_path / "run", str(tmp_path / "x.npy"), 32, SEQUENCES).path
    model = load(run)
    assert model.spec.kind == kind
    split = heldout(model)
    left, right = pair_of(run)
    real = np.asarray(split.x[split.spread(32)]).astype(int)
    assert np.array_equal(values_in(right, real.shape, model.spec.symbols), real)
    (command,) = re.findall(r'<code class="command">(unstir sample.*?)</code>', left)
    ended = unstir(*shlex.split(command)[1:], "--out", tmp_path / "again.npy")
    assert ended.code == 0, ended.err
    again = np.load(tmp_path / "again.npy").astype(int)
    assert np.array_equal(values_in(left, again.shape, model.spec.symbols), again)
    assert left.count("■") == right.count("■") == (2 if kind == "bits" else 7)


def test_one_coordinate_is_drawn_as_the_share_up_to_each_value() -> None:
    x = np.array([[3.0], [-1.0], [3.0], [0.5]], np.float32)
    assert beside.plane(x).tolist() == [[-1, 0.25], [0.5, 0.5], [3, 0.75], [3, 1]]
    low, high = beside.window(x)
    assert low[0] < -1 < 3 < high[0]
    assert (low[1], high[1]) == (0, 1)
    svg, outside = beside.cloud(x, (low, high), "values & <shares>", "a")
    assert outside == 0
    assert len(dots(svg)) == 4
    assert "values &amp; &lt;shares&gt;" in svg


def test_what_is_outside_or_no_number_is_counted_and_not_drawn() -> None:
    points = np.array([[0, 0], [1, 1], [9, 0], [0, -9], [np.nan, 0], [0, np.inf]], np.float32)
    svg, outside = beside.cloud(points, (np.array([-2.0, -2.0]), np.array([2.0, 2.0])), "few", "b")
    assert outside == 4
    assert len(dots(svg)) == 2
    assert "nan" not in svg


@pytest.mark.parametrize("points", [np.zeros((3, 2)), np.zeros((1, 1)), np.ones((2, 5))], ids=str)
def test_a_single_place_can_be_drawn(points: np.ndarray) -> None:
    svg, outside = beside.cloud(points, beside.window(points), "one place", "a")
    assert outside == 0
    assert len(dots(svg)) == len(points)
    assert "nan" not in svg


def test_each_symbol_has_its_own_colour_and_what_is_unknown_is_black() -> None:
    for symbols in (1, 2, 5, 20, 32):
        colours = beside.colours(symbols)
        assert len({tuple(c) for c in colours.tolist()}) == symbols + 1
        assert colours[-1].tolist() == [0, 0, 0]
    assert beside.key(21) == ""
    assert beside.key(20).count("■") == 20
    assert beside.raster(np.array([[2]]), symbols=2).getpixel((0, 0)) == (0, 0, 0)
    assert beside.raster(np.zeros((500, 700), bool)).size == (700, 500)
