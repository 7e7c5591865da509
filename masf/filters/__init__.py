"""Filters, one file each; see :mod:`masf.filters.base` for what a filter does."""
