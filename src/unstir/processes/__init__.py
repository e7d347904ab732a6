"""Processes: the forward chain q, by its kernels between any two times."""

from unstir.processes.gaussian import Gaussian

__all__ = ["Gaussian"]
