"""unstir edit: each kind of edit in its own small file, loaded only when it is run."""

from __future__ import annotations

from cyclopts import App, Parameter

app = App(
    name="edit",
    help="Change pictures of your own, or other data, by what a run has learned.",
    default_parameter=Parameter(negative=()),
)
for _name, _help in (
    ("inpaint", "Draw what a mask hides: white is unknown, the rest comes back exactly."),
    ("denoise", "Draw the clean picture behind a noisy one."),
    ("vary", "Draw something like a picture: to noise and back."),
    ("interpolate", "Draw the way from one picture to another."),
    ("invert", "Find the noise that a picture is made of, and make it again."),
    ("super-resolve", "Draw the large picture behind a small one."),
    ("restore", "Draw the picture behind a blurred, coarse or grey one."),
    ("mix", "Draw the way from one class to another."),
):
    _module = _name.replace("-", "_")
    app.command(f"unstir.cli.edit.{_module}:{_module}_", name=_name, help=_help)
