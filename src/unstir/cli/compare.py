"""unstir compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare_(
    *receipts: Path,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Receipts of unstir evaluate side by side; those that do not compare are refused, with what differs.

    Examples:

        unstir compare runs/a/receipts/bound-3f1c02.json runs/b/receipts/bound-3f1c02.json

    Parameters
    ----------
    receipts: Path
        Two or more files that unstir evaluate wrote, as a run keeps them under receipts/: runs, weights, samplers and steps
        may differ, but not data, features and counts.
    json: bool
        The values as JSON on stdout.
    """
    from unstir.cli import console
    from unstir.evaluation import comparison, receipt

    found = comparison.compared([(str(path), receipt.read(path)) for path in receipts])
    if json:
        console.give(found.to_json())
    else:
        print(found.table())
