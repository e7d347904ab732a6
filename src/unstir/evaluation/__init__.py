"""Evaluation: likelihood, the quality of samples, copies of training data, and receipts for all of them."""

from unstir.evaluation.sets.distances import frechet_distance, kernel_distance
from unstir.evaluation.sets.manifold import precision_recall

__all__ = ["frechet_distance", "kernel_distance", "precision_recall"]
