"""The study: its config, checked in full, the cells that it expands to, and what its jobs cost."""
