"""unstir inspect"""

from __future__ import annotations

import os
from collections.abc import Sized
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

SHOWN = 12  # of a long list


def inspect_(
    data: str,
    *,
    size: int = 0,
    mode: Literal["auto", "L", "RGB"] = "auto",
    background: str = "white",
    strict: bool = False,
    out: Path | None = None,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show what is in the data, what is wrong with it, and write a contact sheet of what the network will see.

    Examples:

        unstir inspect digits

        unstir inspect photos/ --size 64

    Parameters
    ----------
    data: str
        digits, a folder of images, a .zip of images, .npz, .npy, a .csv table, an idx .gz, or a toy: swiss-roll, moons,
        heartbeat, dead-leaves.
    size: int
        Side of the pictures in pixels; 0: their own when all are equal and at most 128, else at most 64.
    mode: str
        L (grey) or RGB; by default whichever the pictures need.
    background: str
        What transparent pictures are laid on: a colour by name, such as white, or #rrggbb.
    strict: bool
        A broken file is an error instead of being named and skipped.
    out: Path
        Where the contact sheet goes; by default inspect-NAME.png in this folder.
    json: bool
        Everything found, as JSON on stdout.
    """
    from unstir import data as room
    from unstir.cli import console
    from unstir.errors import UserError
    from unstir.runs.build import colour_of

    with console.bar("reading", "files") as update:
        found = room.inspect(
            data, size=size or None, mode=None if mode == "auto" else mode, background=colour_of(background),
            strict=strict, progress=update,
        )  # fmt: skip
    sheet = None
    if found.dataset.spec.kind == "image":
        sheet = out or Path(f"inspect-{Path(os.path.abspath(data)).stem}.png")  # "." has no name of its own
        try:
            with console.writing(sheet):
                found.sheet().save(sheet)
        except (OSError, ValueError) as error:
            raise UserError(f"the contact sheet could not be written to {sheet}: {error}") from None
    if json:
        console.give(found.to_json() | {"sheet": None if sheet is None else str(sheet)})
        return
    for line in _lines(found.to_json()):
        print(line)
    if sheet is not None:
        console.say(f"what the network will see: {sheet}")


def _lines(found: dict[str, Any]) -> list[str]:
    """What was found, as plain lines; findings that are empty are left out."""
    spec = found["data"]
    lines = [
        f"{spec['source']}: {found['train']:,} to learn from, {found['heldout']:,} held out, each {'×'.join(map(str, spec['shape']))}",
        spec["rules"],
    ]
    if found.get("activity") is not None:
        lines.append(f"mean activity {found['activity']:.4f}: the share of ones")
    for name in ("sizes", "modes", "classes", "alphabet"):
        counts = sorted(found.get(name, {}).items(), key=lambda item: -item[1])
        if counts:
            shown = ", ".join(f"{key} ({count:,})" for key, count in counts[:SHOWN])
            lines.append(f"{name}: {shown}{_more(counts)}")
    copies = found.get("duplicates", [])
    lines += [f"the same item {len(names)} times: {', '.join(names[:SHOWN])}{_more(names)}" for names in copies[:SHOWN]]
    if len(copies) > SHOWN:
        lines.append(f"and {len(copies) - SHOWN} more that come more than once")
    return [*lines, *found["log"]]


def _more(items: Sized) -> str:
    return f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
