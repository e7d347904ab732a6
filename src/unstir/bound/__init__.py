"""The variational bound and what follows from it."""

from unstir.bound.terms import decoder_nats, step_nats
from unstir.bound.variational import Bound, bits_per_dim, variational_bound

__all__ = ["Bound", "bits_per_dim", "decoder_nats", "step_nats", "variational_bound"]
