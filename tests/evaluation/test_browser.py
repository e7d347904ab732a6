"""The report in a real browser: it asks for nothing, fits a phone, can be read in both colour schemes, and prints."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests import small
from unstir.evaluation import report
from unstir.runs import Run, dataset, load

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser on PATH: none of {', '.join(NAMES)}")

WIDTHS, SCHEMES, KINDS = (360, 1280), ("light", "dark"), ("pictures", "bits")
BITS = '[network]\nwidth = 8\ndepth = 1\n[schedule]\nT = 10\n[optimiser]\nbatch = 8\n[hardware]\nprecision = "fp32"\n'

# Every text that is seen, with the contrast between its colour and what is painted behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
  const numbers = c => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
    if (!text || !e.checkVisibility() || text === "■") continue;
    const style = getComputedStyle(e), ink = numbers(e.closest("svg") ? style.fill : style.color);
    const [low, high] = [light(ink), light(behind(e))].sort((a, b) => a - b);
    found.push([text.slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all of them."""
    from playwright.sync_api import sync_playwright

    # Its sandbox does not work for root, who runs containers.
    safe = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=safe)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a tiny run of pictures and of one of bits, everything in them."""
    import numpy as np

    folder = tmp_path_factory.mktemp("browser")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 2, (400, 9), np.uint8))
    runs = {
        "pictures": Run(Path(shutil.copytree(digits_run, folder / "pictures"))),
        "bits": small.train(folder / "bits", str(folder / "x.npy"), 64, BITS),
    }
    for run in runs.values():
        model = load(run.path)
        report.write(run, model, dataset(model), images=4, samples=20)
    return {kind: run.report for kind, run in runs.items()}


class Seen:
    """A page as the browser shows it, with all that it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri(), wait_until="networkidle")

    def asked(self) -> list[str]:
        """What was asked for beside the file itself and what is inside it."""
        return [url for url in self.requests[1:] if not url.startswith("data:")]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)


@pytest.fixture
def see(browser: Any) -> Iterator[Callable[..., Seen]]:
    seen: list[Seen] = []

    def look(*args: Any) -> Seen:
        seen.append(Seen(browser, *args))
        return seen[-1]

    yield look
    for page in seen:
        page.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_asks_for_nothing_complains_of_nothing_and_fits(
    kind: str, width: int, reports: dict[str, Path], see: Callable[..., Seen]
) -> None:
    page = see(reports[kind], width)
    assert page.requests[0] == reports[kind].as_uri()
    assert page.asked() == []
    assert page.complaints == []
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 0)")
    sizes = page.evaluate(
        "[...document.querySelectorAll('figure, figure img, figure svg:not(.swatch)')]"
        ".map(each => each.checkVisibility() ? each.getBoundingClientRect() : {width: 0}).map(r => [r.width, r.height])"
    )
    assert len(sizes) > 20
    assert min(side for size in sizes for side in size) > 30
    # Labels inside drawings shrink with them: they are still read on a phone.
    letters = page.evaluate(
        "[...document.querySelectorAll('svg text')].map(e => parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a)"
    )
    assert min(letters) > 9


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_word_can_be_read(
    kind: str, scheme: str, width: int, reports: dict[str, Path], see: Callable[..., Seen]
) -> None:
    page = see(reports[kind], width, scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(level) for level in paper.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (min(levels) > 230) if scheme == "light" else (max(levels) < 40)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_prints_black_on_white_though_the_screen_is_dark(
    kind: str, reports: dict[str, Path], see: Callable[..., Seen]
) -> None:
    page = see(reports[kind], 1280, "dark")
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert all(ratio >= 4.5 for _, ratio in page.evaluate(CONTRASTS))


def test_headings_follow_one_another_and_links_lead_somewhere(
    reports: dict[str, Path], see: Callable[..., Seen]
) -> None:
    page = see(reports["pictures"])
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    links = page.evaluate("[...document.querySelectorAll('nav a')].map(each => each.hash)")
    assert links == page.evaluate("[...document.querySelectorAll('h2')].map(each => '#' + each.id)")
    assert len(set(links)) == len(links)


def test_these_checks_can_fail(tmp_path: Path, see: Callable[..., Seen]) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        '<body style="background: #fff; color: #999"><p>pale</p><div style="width: 2000px">wide</div>'
        '<img src="http://127.0.0.1:9/x.png"><script>console.log("said")</script>',
        encoding="utf-8",
    )
    page = see(path, 360)
    assert page.asked() == ["http://127.0.0.1:9/x.png"]
    assert "said" in page.complaints
    assert not page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert not page.evaluate("[...document.images].every(each => each.naturalWidth > 0)")
    assert {text: ratio < 4.5 for text, ratio in page.evaluate(CONTRASTS)} == {"pale": True, "wide": True}


def test_the_page_itself_forbids_what_it_does_not_do(
    reports: dict[str, Path], tmp_path: Path, see: Callable[..., Seen]
) -> None:
    """Whatever data's names might bring in: the page's own policy stops a request before it leaves."""
    text = reports["bits"].read_text(encoding="utf-8")
    path = tmp_path / "page.html"
    path.write_text(text.replace("</body>", '<img src="http://127.0.0.1:9/x.png"></body>'), encoding="utf-8")
    page = see(path)
    assert any("Content Security Policy" in each for each in page.complaints)
