"""The report is one file that needs nothing else, and its commands are real."""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import small
from unstir.cli import app
from unstir.evaluation import likelihood, report
from unstir.evaluation.report import axes, films, training, watched
from unstir.runs import Run, dataset, heldout, load
from unstir.training.verdict import looks

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Collects tags, checks that they nest, and keeps text by the class of its element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.commands: list[str] = []
        self.headings: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.stack, f"left open: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if ("class", "command") in attrs:
            self.commands.append("")
        if tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.stack and self.stack[-1] == "code":
            self.commands[-1] += data
        if self.stack and self.stack[-1] == "h2":
            self.headings[-1] += data


def written(run: Path, images: int = 4, samples: int = 0) -> tuple[str, Page]:
    model = load(run)
    report.write(Run(run), model, dataset(model), images=images, samples=samples)
    text = (run / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path, str], Path]:
    def make(run: Path, name: str) -> Path:
        return Path(shutil.copytree(run, tmp_path / name))

    return make


def pictures_of(page: Page) -> list[Image.Image]:
    pictures = []
    for tag, attributes in page.tags:
        if tag == "img":
            kind, _, data = str(attributes["src"]).partition(",")
            assert kind == "data:image/png;base64"
            picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
            picture.load()
            pictures.append(picture)
            assert attributes["alt"]
    return pictures


@pytest.mark.parametrize("kind", ["digits", "points"])
def test_it_needs_nothing_outside_itself(
    kind: str, digits_run: Path, points_run: Path, copy: Callable[[Path, str], Path]
) -> None:
    text, page = written(copy(digits_run if kind == "digits" else points_run, kind))
    assert text.startswith("<!doctype html>")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "data", "xlink:href"):
            assert str(attributes.get(name, "data:")).startswith(("data:", "#"))
    assert len(pictures_of(page)) == (5 if kind == "digits" else 0)
    assert "nan" not in " ".join(page.text).lower().split()
    assert {"How training went", "Loss", "Likelihood", "What this is"} <= set(page.headings)
    assert ("bits/dim" if kind == "digits" else "bits/item") in text
    assert "$" not in " ".join(page.text)


@pytest.mark.parametrize("kind", ["digits", "points"])
def test_its_parts_are_worded_as_evaluate_words_them(
    kind: str, digits_run: Path, points_run: Path, copy: Callable[[Path, str], Path]
) -> None:
    """Points have neither grey levels nor, with other processes, a normal prior."""
    _, page = written(copy(digits_run if kind == "digits" else points_run, kind))
    said = "".join(page.text).replace("−", "-")
    for what in likelihood.PARTS.values():
        assert what.replace("x_", "x") in said
    assert ("whole levels" in said) == (kind == "digits")
    assert "standard normal" not in said


def test_its_pictures_are_those_of_its_commands(
    digits_run: Path, copy: Callable[[Path, str], Path], unstir: Callable[..., Any]
) -> None:
    run = copy(digits_run, "digits")
    _, page = written(run)
    (command,) = (c for c in page.commands if c.startswith("unstir sample"))
    assert unstir(*shlex.split(command)[1:], "--out", run / "again.png").code == 0
    with Image.open(run / "again.png") as again:
        generated = np.asarray(pictures_of(page)[0])
        # Drawn in other batches here and there, so to one grey level.
        assert generated.shape == np.asarray(again).shape
        assert np.abs(generated.astype(int) - np.asarray(again)).max() <= 1


def test_real_pictures_stand_under_their_class(digits_run: Path, copy: Callable[[Path, str], Path]) -> None:
    run = copy(digits_run, "digits")
    _, page = written(run)
    split = heldout(load(run))
    assert split.labels is not None
    real = np.asarray(pictures_of(page)[1])
    of = {picture.tobytes(): label for picture, label in zip(split.x, split.labels)}
    cell = 64 + 2
    for row in range((real.shape[0] - 2) // cell):
        for column in range(10):
            place = real[2 + row * cell : row * cell + cell, 2 + column * cell : column * cell + cell]
            assert of[np.ascontiguousarray(place[::8, ::8]).tobytes()] == column


@pytest.mark.parametrize("name", ["run", "my run; & <its> $HOME 'folder'"])
def test_its_commands_are_real(name: str, digits_run: Path, copy: Callable[[Path, str], Path]) -> None:
    run = copy(digits_run, name)
    _, page = written(run)
    assert len(page.commands) >= 5
    for command in page.commands:
        words = shlex.split(command)
        assert words[0] == "unstir"
        _, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert bound.arguments["run"] == run
    assert any(command.startswith("unstir evaluate") and "--images 4" in command for command in page.commands)


def test_the_stated_command_gives_the_stated_number(
    digits_run: Path, copy: Callable[[Path, str], Path], unstir: Callable[..., Any]
) -> None:
    text, page = written(copy(digits_run, "digits"))
    (command,) = {c for c in page.commands if "--metrics bound,yardsticks" in c and "--check" not in c}
    ended = unstir(*shlex.split(command)[1:], "--json")
    assert ended.code == 0
    assert f"{json.loads(ended.out)['total']:.4f}" in text


def test_what_a_kill_lost_is_not_drawn_twice(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for images, loss in ((10, 3.0), (20, 2.0), (30, 1.5)):
        run.record(images=images, loss=loss)
    run.record(event="resume", images=15)
    run.record(images=25, loss=1.8)
    run.record(images=35, loss=None)
    run.record(**small.look(35, loss=[1.0, 2.0]))
    with run.metrics.open("a") as file:
        file.write('{"images": 40, "lo')
    losses = training.losses(run)
    assert losses["training"] == [(10, 3.0), (25, 1.8)]
    assert losses[training.HELDOUT] == [(35, 1.5)]


def test_how_training_went_is_drawn_from_the_looks_that_hold(tmp_path: Path, digits_run: Path) -> None:
    run, model = Run(tmp_path), load(digits_run)
    assert "not looked at" in watched.section(run, model).body
    assert watched.verdict_of(run) is None
    rng = np.random.default_rng(0)
    own = rng.normal(0, 1, (2, 30))
    for images, mean in ((100, 3.0), (200, 9.0)):
        run.record(**small.look(images, mean + own[0], mean + own[1], p=0.5, loss=[4.0, 2.0, 1.0]))
    run.record(event="resume", images=150)
    run.record(**small.look(200, 2.49 + own[0] + rng.normal(0, 0.01, 30), 2.4 + own[1], p=0.5, loss=[3.0, 1.5, 0.5]))
    found = looks(run.records())
    curves = watched.bound(found)
    assert [x for x, _ in curves["held out"].points] == [100, 200]
    assert curves["held out"].points[1][1] == pytest.approx(2.49 + own[0].mean(), abs=0.01)
    assert curves["learned from"].half[0] == pytest.approx(2.045 * own[1].std(ddof=1) / 30**0.5, rel=1e-3)
    assert watched.by_level(found)["t = 3"].points == [(100, 1.0), (200, 0.5)]
    shown = watched.section(run, model)
    Page(shown.html())
    for words in (
        "end: improving; the held-out bound changed by −0.5",
        "30 held-out items",
        "90.0 ± 3.9",
        "40 of 64 samples",
    ):
        assert words in shown.body, words
    names = list(training.by_time(run, "images"))
    assert names == ["held out, after 100 images", "held out, after 200 images", "learned from, after 200 images"]
    run.record(**small.look(300, 3.0 + own[0] + rng.normal(0, 0.01, 30), 1.0 + own[1]))
    assert "WARNING, memorising" in watched.section(run, model).body


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1.0, 1.0)],
        [(1.0, 2.0), (2.0, 2.0)],
        [(1.0, -1.0), (2.0, 3.0)],
        [(1.0, 0.0), (2.0, 3.0)],
        [(1.0, float("nan")), (2.0, 3.0)],
        [(1.0, float("inf"))],
    ],
    ids=str,
)
@pytest.mark.parametrize("log_y", [False, True])
def test_any_curve_can_be_drawn(points: list[tuple[float, float]], log_y: bool) -> None:
    page = axes.plot(
        {"a <b>": axes.Curve(points), "none": axes.Curve([])}, axes.Axis("x & y"), axes.Axis("loss", log=log_y)
    )
    assert "nan" not in page
    assert "inf" not in page
    assert page.startswith("<svg") == any(np.isfinite(y) for _, y in points)
    Page(page)


def test_a_forward_film_goes_from_picture_to_noise(digits_run: Path) -> None:
    model = load(digits_run)
    split = heldout(model)
    film = np.asarray(films.forward_film(model, split, rows=2, frames=5))
    first = film[2 : 2 + 64, 2 : 2 + 64][::8, ::8]
    assert np.array_equal(first, split.x[0][..., 0])
