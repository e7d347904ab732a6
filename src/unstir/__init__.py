"""unstir: denoising diffusion models on your own data, exact and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstir.runs import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # Importing unstir must not import torch, which takes seconds: names that need it are fetched on first use.
    if name in ("Model", "load"):
        from unstir import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'unstir' has no attribute {name!r}")
