"""unstir demo"""

from __future__ import annotations

from pathlib import Path


def demo_(*, out: Path = Path("runs/demo"), minutes: float = 1.5) -> None:
    """Train on the 1,797 handwritten digits in the package, generate new ones, measure, and write a report.

    Parameters
    ----------
    out: Path
        The run's folder.
    minutes: float
        Training time.
    """
    from unstir.cli.report import report_
    from unstir.cli.train import train_

    train_("digits", out=out, minutes=minutes)
    report_(out)
