"""Networks: plain torch modules that say nothing about diffusion, and their descriptions in JSON."""

from unstir.networks.mlp import MLP, MLPConfig
from unstir.networks.registry import build, config_of
from unstir.networks.unet import UNet, UNetConfig

__all__ = ["MLP", "MLPConfig", "UNet", "UNetConfig", "build", "config_of"]
