"""The page around sections: title, key figures, contents; everything in one file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from unstir.evaluation.report.markup import Section


def page(title: str, lead: str, key: Sequence[tuple[str, str, str]], sections: Sequence[Section]) -> str:
    """A self-contained page.

    Args:
        title, lead: plain text. key: what is said of it, the figure (HTML), and what to hold it against.
    """
    here = files("unstir.evaluation.report")
    figures = "".join(
        f"<div><dt>{escape(what)}</dt><dd>{value}<small>{escape(beside)}</small></dd></div>"
        for what, value, beside in key
    )
    return Template(here.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        lead=escape(lead),
        key=figures,
        contents="".join(f'<li><a href="#{each.anchor}">{escape(each.title)}</a></li>' for each in sections),
        sections="\n".join(each.html() for each in sections),
    )
