"""Denoisers: networks read as predictions about x0, wrappers around them, and exact solutions."""

from unstir.denoisers.analytic import AnalyticVariance, analytic_variance, fit_variance, score_error
from unstir.denoisers.base import Around, Denoiser, DenoiserBase
from unstir.denoisers.classifier import ClassifierGuided
from unstir.denoisers.clipping import CLIPS, Bounded, Clipped, Thresholded, clipped
from unstir.denoisers.condition import Condition
from unstir.denoisers.discrete import DiscretePrediction
from unstir.denoisers.guidance import Autoguided, Extrapolated, Guided
from unstir.denoisers.oracles import EmpiricalDenoiser, FiniteDenoiser, GaussianMixtureDenoiser
from unstir.denoisers.precision import Autocast
from unstir.denoisers.prediction import Prediction, PredictionBase

__all__ = [
    "CLIPS",
    "AnalyticVariance",
    "Around",
    "Autocast",
    "Autoguided",
    "Bounded",
    "ClassifierGuided",
    "Clipped",
    "Condition",
    "Denoiser",
    "DenoiserBase",
    "DiscretePrediction",
    "EmpiricalDenoiser",
    "Extrapolated",
    "FiniteDenoiser",
    "GaussianMixtureDenoiser",
    "Guided",
    "Prediction",
    "PredictionBase",
    "Thresholded",
    "analytic_variance",
    "clipped",
    "fit_variance",
    "score_error",
]
