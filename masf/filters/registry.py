"""The filters by name: each is a module of this folder."""

from __future__ import annotations

from masf import plugins
from masf.filters.base import Filter

FREE_RUN = "free_run"
"""The module of a run without measurements."""


def filter_names() -> list[str]:
    """The names of all filters, sorted."""
    return plugins.names("filters")


def filter_class(name: str) -> type[Filter]:
    """The class of a filter. Raises ValueError for an unknown name."""
    return plugins.load("filters", name, Filter)
