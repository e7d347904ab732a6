"""Sphinx configuration: the pages as they stand in docs/."""

project = "unstir"
author = "The unstir authors"
extensions = ["myst_parser"]
html_theme = "furo"
exclude_patterns = ["_build"]
# Links that leave the folder, such as ../CHANGELOG.md, are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
