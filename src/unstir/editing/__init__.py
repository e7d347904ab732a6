"""Editing: a trained model multiplied by a second distribution, or by any function r(x) [SD15 §2.5]; and walks to noise and back."""

from unstir.editing.channels import likelihood, matched
from unstir.editing.estimation import noise_level
from unstir.editing.inversion import encoding, invert
from unstir.editing.measure import Measure
from unstir.editing.mixing import Mixed
from unstir.editing.observe import Observe
from unstir.editing.operators import Grey, Identity, Masking, Matrix, Operator, Separable, blur, downscale
from unstir.editing.resampling import moves, repaint, rewalk
from unstir.editing.steps import Guide, Multiply, Renoise, StepEdit
from unstir.editing.tasks import DENOISE, INPAINT, denoise, inpaint, restore
from unstir.editing.variations import below, interpolate, noised, slerp, vary

__all__ = [
    "DENOISE",
    "INPAINT",
    "Grey",
    "Guide",
    "Identity",
    "Masking",
    "Matrix",
    "Measure",
    "Mixed",
    "Multiply",
    "Observe",
    "Operator",
    "Renoise",
    "Separable",
    "StepEdit",
    "below",
    "blur",
    "denoise",
    "downscale",
    "encoding",
    "inpaint",
    "interpolate",
    "invert",
    "likelihood",
    "matched",
    "moves",
    "noise_level",
    "noised",
    "repaint",
    "restore",
    "rewalk",
    "slerp",
    "vary",
]
