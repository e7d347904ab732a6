"""Evaluation: likelihood, the quality of samples, copies of training data, and receipts for all of them."""

from unstir.sets.distances import frechet_distance, kernel_distance
from unstir.sets.manifold import precision_recall

__all__ = ["frechet_distance", "kernel_distance", "precision_recall"]
