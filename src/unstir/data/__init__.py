"""Data: from what a user has to what a network sees, and back.

``load`` reads pictures or points, ``inspect`` says what is in them, ``to_float`` and ``to_uint8`` cross the border
between stored levels and numbers in [-1, 1], ``contact_sheet`` shows pictures side by side.
"""

from __future__ import annotations

from unstir.data.convert import to_float, to_uint8
from unstir.data.inspection import Inspection, inspect
from unstir.data.loading import load
from unstir.data.sheet import contact_sheet
from unstir.data.spec import Dataset, DataSpec, Split

__all__ = ["DataSpec", "Dataset", "Inspection", "Split", "contact_sheet", "inspect", "load", "to_float", "to_uint8"]
