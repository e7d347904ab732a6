"""unstir demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

SAMPLES = 300  # of each number of steps: a demonstration should not keep one waiting


def demo_(
    *,
    out: Path = Path("runs/demo"),
    minutes: float = 1.5,
    json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Train on the 1,797 handwritten digits in the package, generate new ones, measure, and write a report.

    Parameters
    ----------
    out: Path
        The run's folder.
    minutes: float
        Training time.
    json: bool
        A summary as JSON on stdout.
    """
    from unstir.cli.report import report_
    from unstir.cli.train import train_

    train_("digits", out=out, minutes=minutes)
    report_(out, samples=SAMPLES, json=json)
