"""Features: what samples and data are compared in.

An extractor is fitted to real data once and then holds still, so that every set is seen through the same eyes. A number is
always named with its extractor (``frechet@random-filters-v2``): distances in unlike features do not compare.
"""

from unstir.evaluation.extractors.base import Extractor, Fit
from unstir.evaluation.extractors.builtin import FITTED, Components, RandomFilters
from unstir.evaluation.extractors.cache import cached
from unstir.evaluation.extractors.choice import default, find
from unstir.evaluation.extractors.inception import is_fid

__all__ = [
    "FITTED",
    "Components",
    "Extractor",
    "Fit",
    "RandomFilters",
    "cached",
    "default",
    "find",
    "is_fid",
]
