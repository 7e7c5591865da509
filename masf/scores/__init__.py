"""Scores of estimates, of fields and of whole runs, and the comparison of filters by them."""
