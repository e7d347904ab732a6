"""Processes: the forward chain q, by its kernels between any two times."""

from unstir.processes.base import Process
from unstir.processes.gaussian import Gaussian

__all__ = ["Gaussian", "Process"]
