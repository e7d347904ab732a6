"""The variational bound and what follows from it."""

from unstir.bound.entropy import entropy_bounds, upper_bound_holds
from unstir.bound.interval import mean_interval
from unstir.bound.rate import RateDistortion, rate_distortion
from unstir.bound.subchain import best_times, bound_terms, shortest_chain
from unstir.bound.terms import decoder_nats, step_nats
from unstir.bound.variational import Bound, bits_per_dim, variational_bound

__all__ = [
    "Bound",
    "RateDistortion",
    "best_times",
    "bits_per_dim",
    "bound_terms",
    "decoder_nats",
    "entropy_bounds",
    "mean_interval",
    "rate_distortion",
    "shortest_chain",
    "step_nats",
    "upper_bound_holds",
    "variational_bound",
]
