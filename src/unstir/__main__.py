"""``python -m unstir``: the command line, also under ``torchrun -m``."""

from unstir.cli import main

main()
