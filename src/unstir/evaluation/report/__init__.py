"""The report: one self-contained page about a run."""

from unstir.evaluation.report.write import write

__all__ = ["write"]
