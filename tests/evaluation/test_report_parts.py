"""The report's numbers are those of the measures, its curves stand where their axes say, and its receipt can be checked."""

from __future__ import annotations

import html
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import small
from unstir.bound.interval import within
from unstir.evaluation import receipt, report
from unstir.evaluation.asked import silent
from unstir.evaluation.report import axes, bits, films
from unstir.evaluation.report.measured import LENGTHS, measure
from unstir.runs import Run, dataset, load

Command = Callable[..., Any]
SYMBOLS = (
    '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 60\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'
)


@pytest.fixture(scope="module")
def run(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of pictures with its report, everything in it."""
    run = Run(Path(shutil.copytree(digits_run, tmp_path_factory.mktemp("report") / "run")))
    model = load(run.path)
    report.write(run, model, dataset(model), images=4, samples=24)
    return run


@pytest.fixture(scope="module")
def text(run: Run) -> str:
    return run.report.read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    (found,) = re.findall(rf"<section[^>]*><h2[^>]*>{re.escape(title)}</h2>.*?</section>", text, re.DOTALL)
    return found


def commands(part: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r'<code class="command">(.*?)</code>', part)]


def rows(part: str) -> dict[str, list[str]]:
    """The cells of its tables' rows, by their heading."""
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part)
    return {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in found}


def test_distances_are_those_that_their_command_measures(text: str, unstir: Command) -> None:
    part = section(text, "Distances against steps and seconds")
    found = rows(part)
    (command,) = set(commands(part))
    assert list(found) == [f"{n} steps" for n in LENGTHS[True]] + ["held-out data", "two halves of the training data"]
    ended = unstir(*shlex.split(command)[1:], "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)["quality"]["values"]
    seconds, frechet, kernel = found["50 steps"]
    assert float(seconds) > 0
    assert frechet == within(values["frechet"], values["frechet_half"])
    assert kernel == within(values["kernel"], 1.96 * values["kernel_error"])
    assert float(found["held-out data"][1]) == pytest.approx(values["frechet_heldout"], abs=1e-4)


def test_the_receipt_in_it_is_the_one_beside_it_and_both_are_confirmed(run: Run, text: str, unstir: Command) -> None:
    part = section(text, "Receipt")
    inside = json.loads(html.unescape(re.findall(r"<details>.*?<pre>(.*?)</pre>", part, re.DOTALL)[0]))
    whole, check = commands(part)
    assert inside == receipt.read(Path(shlex.split(check)[-1]))
    ended = unstir(*shlex.split(check)[1:])
    assert ended.code == 0, ended.out
    ended = unstir(*shlex.split(whole)[1:], "--json")
    said = json.loads(ended.out)
    assert said["total"] == pytest.approx(inside["results"]["bound"]["total"])
    assert said["memorising"]["verdict"] == inside["results"]["memorising"]["verdict"]
    assert said["memorising"]["verdict"] in section(text, "Copies of training data")


def test_an_interrupt_leaves_the_old_report_whole(run: Run, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(run.path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for where, name in ((films, "reverse_frames"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                report.write(run, model, dataset(model), images=2, samples=0)
    now = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert now[run.report] == before[run.report]
    assert [path for path in now if path.suffix == ".html"] == [run.report]


@pytest.mark.parametrize("terms", [None, 7, 100])
def test_the_area_under_the_bits_of_each_step_is_their_sum(terms: int | None, digits_run: Path) -> None:
    from unstir.evaluation import likelihood

    model = load(digits_run)
    bound = likelihood.measure(model, dataset(model).heldout, images=2, terms=terms)
    points = bits.per_step(bound)
    ends = [t for t, _ in points[1:-1]] + [bound.chain + 1]
    area = sum((end - t) * value for (t, value), end in zip(points, ends))
    assert area == pytest.approx(bound.steps)
    assert points[0][0] == 2
    assert points[-1][0] == bound.chain


def test_too_little_data_and_too_short_chains_are_said_or_left_out(tmp_path: Path, points_run: Path) -> None:
    few = np.random.default_rng(0).integers(0, 5, (40, 9), np.uint8)
    np.save(tmp_path / "x.npy", few)
    run = small.train(tmp_path / "run", str(tmp_path / "x.npy"), 16, SYMBOLS)
    model = load(run.path)
    report.write(run, model, dataset(model), images=2, samples=20)
    said = section(run.report.read_text(encoding="utf-8"), "Distances against steps and seconds")
    assert "Not measured: sample quality takes 20 items at least" in said
    # A chain of 50 steps has no 50-step shortcut to compare beside the whole: each number of steps once, none above T.
    model = load(points_run)
    found = measure(Run(points_run), model, dataset(model), data=None, images=2, samples=20, bar=silent)
    assert [each.steps for each in found.lengths] == [5, 10, 20, 50]
    assert model.denoiser.process.T == 50


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("ends", [(1, 1000), (0.013, 0.017), (3e-7, 2e-2), (0.9, 1.1), (5, 50)], ids=str)
def test_ticks_are_round_and_stand_where_they_say(ends: tuple[float, float], log: bool) -> None:
    scale = axes.Scale(ends, log)
    ticks = scale.ticks(5)
    assert 2 <= len(ticks) <= 6
    along = np.log10 if log else np.asarray
    low, high = along(ends)
    for tick in ticks:
        assert ends[0] * (1 - 1e-6) <= tick <= ends[1] * (1 + 1e-6)
        assert scale.share(tick) == pytest.approx((float(along(tick)) - low) / (high - low))
        digits = f"{tick:.6e}".split("e")[0].rstrip("0").rstrip(".")
        assert len(digits.replace(".", "")) <= 4  # nothing left over from a division


def test_a_curve_passes_through_its_points(tmp_path: Path) -> None:
    points = [(1.0, 0.001), (10.0, 0.1), (100.0, 10.0)]
    svg = axes.plot({"line": axes.Curve(points, marks=True)}, axes.Axis("x", log=True), axes.Axis("y", log=True))
    marks = np.array([[float(v) for v in mark] for mark in re.findall(r'cx="(\S+)" cy="(\S+)"', svg)])
    assert marks[1] == pytest.approx((marks[0] + marks[2]) / 2, abs=0.1)
    assert marks[0, 0] < marks[2, 0]
    assert marks[0, 1] > marks[2, 1]


def test_an_interval_down_to_zero_and_a_floor_far_below_stay_inside_the_drawing() -> None:
    curve = axes.Curve([(5.0, 0.1), (10.0, 0.01)], half=(0.05, 0.02), marks=True)
    svg = axes.plot({"samples": curve}, axes.Axis("steps"), axes.Axis("y", log=True), {"floor": 1e-4, "none": -1.0})
    heights = [float(v) for v in re.findall(r"(?<=V)[\d.]+|(?<=cy=\")[\d.]+", svg)]
    assert len(heights) >= 4
    assert min(heights) >= 20
    assert max(heights) <= 200
    assert ">floor<" in svg
    assert ">none<" not in svg


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.02, "0.02"), (1500, "1,500"), (50_000, "50k"), (2e6, "2M"), (1e-5, "10⁻⁵"), (2e-5, "2·10⁻⁵"), (-3, "−3")],
)  # fmt: skip
def test_labels_are_short(value: float, said: str) -> None:
    assert axes.label(value) == said


def test_an_interval_decides_how_many_digits_are_said() -> None:
    assert within(4.76158, 0.0753) == "4.762 ± 0.075"
    assert within(-0.0000042, 0.00041) == "0.00000 ± 0.00041"
    assert within(1234.5, 321.0) == "1,234 ± 321"
    assert within(1.5, math.inf) == "1.5000 ± inf"


def test_films_go_from_data_to_noise_and_back(points_run: Path) -> None:
    model = load(points_run)
    split = dataset(model).heldout
    times, seen = films.forward_frames(model, split, 100, 5)
    assert times == [0, 12.5, 25, 37.5, 50]
    assert np.allclose(seen[0], split.x[:100], atol=1e-3)
    spread = np.asarray(split.x[:100]) - np.asarray(split.x[:100]).mean(0)
    kept = [np.corrcoef(spread[:, 0], x[:, 0])[0, 1] for x in seen]
    assert kept == sorted(kept, reverse=True)
    assert abs(kept[-1]) < 0.3
    (reached, walked), (_, predicted) = films.reverse_frames(model, 10, None, 6)
    assert reached == sorted(reached, reverse=True)
    assert reached[-1] == 0
    assert np.array_equal(walked[-1], model.sample(10, sampler="ddim"))
    assert predicted[0].shape == walked[0].shape
