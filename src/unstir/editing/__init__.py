"""Editing: a trained model multiplied by a second distribution, or by any function r(x) [SD15 §2.5]."""

from unstir.editing.channels import likelihood, matched
from unstir.editing.observe import Observe
from unstir.editing.steps import Guide, Multiply, Renoise, StepEdit
from unstir.editing.tasks import DENOISE, INPAINT, denoise, inpaint

__all__ = [
    "DENOISE",
    "INPAINT",
    "Guide",
    "Multiply",
    "Observe",
    "Renoise",
    "StepEdit",
    "denoise",
    "inpaint",
    "likelihood",
    "matched",
]
