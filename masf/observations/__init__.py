"""Measurements: operators H, noise R, and how the config describes them."""
