"""Networks: plain torch modules that say nothing about diffusion, and their descriptions in JSON."""

from unstir.networks.conditioning import takes
from unstir.networks.mlp import MLP, MLPConfig
from unstir.networks.multiscale import MultiScale, MultiScaleConfig
from unstir.networks.rbf import RBF, RBFConfig
from unstir.networks.registry import build, config_of
from unstir.networks.step_mlp import StepMLP, StepMLPConfig
from unstir.networks.unet import UNet, UNetConfig

__all__ = [
    "MLP",
    "RBF",
    "MLPConfig",
    "MultiScale",
    "MultiScaleConfig",
    "RBFConfig",
    "StepMLP",
    "StepMLPConfig",
    "UNet",
    "UNetConfig",
    "build",
    "config_of",
    "takes",
]
