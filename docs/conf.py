"""Sphinx configuration: the pages as they stand in docs/."""

project = "unstir"
author = "The unstir authors"
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
# A ```math fence is what GitHub shows as a formula; here it becomes the directive of that name.
myst_fence_as_directive = ["math"]
html_theme = "furo"
exclude_patterns = ["_build"]
# Links that leave the folder, such as ../CHANGELOG.md, are for readers of the repository.
suppress_warnings = ["myst.xref_missing"]
