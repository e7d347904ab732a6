"""unstir: denoising diffusion models on your own data, exact and measured."""

__version__ = "0.1.0"
