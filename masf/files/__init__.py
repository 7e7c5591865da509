"""The files that pass between stages, and what they record of what made them."""
