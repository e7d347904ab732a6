"""HTML of the report's parts: figures with captions, tables, the command beneath."""

from __future__ import annotations

import base64
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

from unstir.runs import Run


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """What links to it name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def html(self) -> str:
        anchor = self.anchor
        return (
            f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{escape(self.title)}</h2>\n{self.body}\n</section>'
        )


def embedded(image: Image.Image, alt: str) -> str:
    """An image inside the page itself."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = image.size
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


def figure(body: str, caption: str, command: str = "") -> str:
    """A drawing, what is said of it (HTML), and the line that makes it."""
    line = typed(command) if command else ""
    return f"<figure>{body}<figcaption>{caption}{line}</figcaption></figure>"


def beside(*figures: str) -> str:
    """Figures side by side where the page is wide enough."""
    return f'<div class="pair">{"".join(figures)}</div>'


def typed(command: str) -> str:
    """A line to type."""
    return f'<code class="command">{escape(command)}</code>'


def said(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(
    label: str, head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = (), *, words: bool = False
) -> str:
    """A table of HTML cells that scrolls by itself where it is wider than the page; the first cell of a row is its heading.

    Args:
        label: what it is a table of. head: the columns' headings, none for a table of facts. numbers: columns set to the right.
        words: whether the last column is prose, which goes beneath the others on a narrow page.
    """

    def cells(row: Sequence[str], tag: str, scope: str) -> str:
        parts = []
        for i, cell in enumerate(row):
            name = tag if i else "th"
            scoped = f' scope="{scope if i == 0 or tag == "th" else ""}"' if name == "th" and cell else ""
            parts.append(f"<{name}{scoped}{' class=number' if i in numbers else ''}>{cell}</{name}>")
        return f"<tr>{''.join(parts)}</tr>"

    top = f"<thead>{cells(head, 'th', 'col')}</thead>" if head else ""
    body = "".join(cells(row, "td", "row") for row in rows)
    return (
        f'<div class="wide" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"<table{' class=words' if words else ''}>{top}<tbody>{body}</tbody></table></div>"
    )


def line(name: str, run: Run, *options: str | int) -> str:
    """A command about a run, as it is typed."""
    return shlex.join(["unstir", name, str(run.path), *map(str, options)])


def subscripts(text: str) -> str:
    """``x0``, ``x_1`` and ``x_T`` as they are printed, and a minus sign for a hyphen before a word; the rest escaped."""
    return re.sub(r"\bx_?([0-9T])\b", r"x<sub>\1</sub>", escape(text)).replace("-log", "−log")
