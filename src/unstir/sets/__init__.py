"""Two sets held against each other: of features, or of one number an item. Pure mathematics: torch and numpy, no models, no files."""
