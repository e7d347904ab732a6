"""Data: from what a user has to what a network sees, and back.

``load`` reads pictures, points, bits or symbols, or makes a toy; ``inspect`` says what is in them; ``DataSpec.inside`` and
``outside`` cross the border between what users hold and what a network sees, for pictures of levels by ``to_float`` and
``to_uint8``; ``contact_sheet`` shows pictures side by side. The toys' laws are in ``toys``.
"""

from __future__ import annotations

from unstir.data.convert import to_float, to_uint8
from unstir.data.inspection import Inspection, inspect
from unstir.data.loading import load
from unstir.data.sheet import contact_sheet
from unstir.data.spec import Dataset, DataSpec, Split

__all__ = ["DataSpec", "Dataset", "Inspection", "Split", "contact_sheet", "inspect", "load", "to_float", "to_uint8"]
