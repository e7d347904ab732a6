"""Shapes as types: what a signature says of a tensor, checked at every call while the tests run.

B is the batch and E the event's shape, (C, H, W) of images; within one call each name stands for one size. S and P are any
shape. To a type checker each of these is a plain tensor.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Float64, Int, Int64, Num, Shaped
from torch import Tensor

# --- a batch of data --------------------------------------------------------------------------------------------------

Data = Shaped[Tensor, "B *E"]
"""Any kind of data: real numbers, bits as 0 and 1, symbols as int64."""

Reals = Float[Tensor, "B *E"]
"""Real numbers, or bits as 0 and 1, or what a network says of either."""

Reals64 = Float64[Tensor, "B *E"]
"""Real numbers in float64."""

Symbols = Int64[Tensor, "B *E"]
"""Classes 0 … K-1."""

Logits = Float[Tensor, "B *E S"]
"""One number for each state of each element."""

States = Bool[Tensor, "B *E S"]
"""Which state each element has."""

Raw = Float[Tensor, "B *R"]
"""What a network says: real numbers as many as the data's, logits of symbols in more channels."""

Measurements = Float[Tensor, "B *Y"]
"""Real numbers that were measured of a batch, of a shape of their own."""

Meeting = Float[Tensor, "*#M"]
"""What broadcasts against a batch: a number, a column (B, 1, …, 1), or one number for each element."""

Column = Shaped[Tensor, "#B *_"]
"""One value for each sample, (B, 1, …, 1), or one for all, (1, …, 1), to meet a batch (B, *E)."""

Column64 = Float64[Tensor, "#B *_"]
"""One number for each sample, (B, 1, …, 1), or one for all, (1, …, 1): float64, to meet a batch (B, *E)."""

Stack = Shaped[Tensor, "N B *E"]
"""Several batches at once, such as the noise of all steps."""

LeadingB = Shaped[Tensor, "B ..."]
"""Anything with one entry for each sample."""

# --- one number for each sample ---------------------------------------------------------------------------------------

Rows = Float[Tensor, " B"]
"""In any precision."""

Rows64 = Float64[Tensor, " B"]
"""In float64: times and nats."""

RowMask = Bool[Tensor, " B"]
"""Yes or no."""

RowLabels = Int64[Tensor, " B"]
"""Whole numbers: classes, places on a chain."""

RowNumbers = Num[Tensor, " B"]
"""In any dtype: what a network is told of the time."""

RowTable = Num[Tensor, "B n"]
"""n numbers for each sample."""

RowTable64 = Float64[Tensor, "B n"]
"""n numbers for each sample in float64: the times of its walk."""

Picked = Bool[Tensor, " B"] | Int[Tensor, " n"] | Int[Tensor, ""]
"""Some rows of a batch: a mask over B, or indices."""

RowAbsences = Bool[Tensor, "B 3"]
"""Yes or no for each of label, vector and picture."""

RowScale = int | float | Rows | Float[Tensor, ""]
"""A number for each sample, (B,), or one for all: how strongly it is guided."""

RowTimes = int | float | Num[Tensor, ""] | Num[Tensor, "#B"]
"""A time for each sample, (B,), or one for all."""

RowSteps = int | Num[Tensor, ""] | Num[Tensor, "#B"]
"""Which step each sample stands at, (B,), or all do."""

# --- what networks see ------------------------------------------------------------------------------------------------

Points = Float[Tensor, "B D"]
"""A batch of vectors."""

Features = Float[Tensor, "B F"]
"""Another vector for each sample: hidden, or the answer."""

Images = Float[Tensor, "B C H W"]
"""A batch of images."""

ImagesOut = Float[Tensor, "B C_out H W"]
"""Images of the same size in other channels."""

ImagesResized = Float[Tensor, "B _ _ _"]
"""Images of another size."""

ImagesAnew = Float[Tensor, "B _ _ _"]
"""Images of other channels and, where a layer resizes, of another size."""

ImagesOfAnySize = Float[Tensor, "_ _ _ _"]
"""What a U-Net carries over from its way down."""

Heads = Float[Tensor, "B heads tokens width"]
"""Queries, keys, values."""

# --- any shape: elementwise -------------------------------------------------------------------------------------------

Elements = Shaped[Tensor, "*S"]
"""Elementwise functions take and give the same shape."""

Numbers = Float[Tensor, "*S"]
"""Floating-point numbers."""

Numbers64 = Float64[Tensor, "*S"]
"""Floating-point numbers in float64."""

Classes = Int64[Tensor, "*S"]
"""Classes 0 … K-1."""

Broadcast = Float[Tensor, "*#S"]
"""What broadcasts against an S."""

Mask = Bool[Tensor, "*#S"]
"""Yes or no, broadcasting against an S."""

Meets = Shaped[Tensor, "*#S"]
"""What broadcasts against an S, whatever it holds; a function that wants a mask refuses the rest with a sentence."""

WithStates = Float[Tensor, "*S K"]
"""K numbers for each element."""

Anything = Shaped[Tensor, "..."]
"""A tensor whose shape is looked at inside, and refused with a sentence."""

Words = Int64[Tensor, "*#W"]
"""32-bit words that broadcast together."""

Times = Num[Tensor, "*S"]
"""Times, of any shape; what is said of them has the same."""

# --- tables -----------------------------------------------------------------------------------------------------------

Scalar = Float[Tensor, ""]
"""One number."""

Scalar64 = Float64[Tensor, ""]
"""One number in float64."""

Vector = Float[Tensor, " n"]
"""n numbers."""

Vector64 = Float64[Tensor, " n"]
"""n numbers in float64."""

Instants = Num[Tensor, " n"]
"""n times."""

Table = Float64[Tensor, "m m"]
"""A number for each pair of m times, in float64."""

Dense = Float[Tensor, "_ _"]
"""A matrix of any size."""

Weights = Float[Tensor, " K"]
"""A number for each of K components."""

Means = Float[Tensor, "K D"]
"""Their means."""

Covariances = Float[Tensor, "K D D"]
"""Their covariances."""

OtherVector64 = Float64[Tensor, " m"]
"""m numbers in float64, beside n others."""

Bordered64 = Float64[Tensor, "n+1"]
"""A vector's table with its end included: n + 1 numbers in float64."""

Steps64 = Float64[Tensor, "{self.T}"]
"""One number for each of the chain's steps 1 … T, float64."""

Table64 = Float64[Tensor, "{self.T}+1"]
"""One number for each of the chain's times 0 … T, float64."""
