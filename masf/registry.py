"""Finds systems and filters by name: one module a name, found on disk, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masf.filters.base import Filter
    from masf.systems.base import System

_HELPERS = {"base", "integrators"}


@cache
def names(kind: str) -> list[str]:
    """The names of all ``systems`` or ``filters``, sorted."""
    folder = Path(__file__).parent / kind
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.name not in _HELPERS)


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: what may have been meant, and what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"{f' (did you mean {close[0]!r}?)' if close else ''}: choose one of {', '.join(known)}"


def _load(kind: str, name: str) -> type:
    if name not in names(kind):
        raise ValueError(f"unknown {kind[:-1]} {name!r}{suggestion(name, names(kind))}")
    return getattr(importlib.import_module(f"masf.{kind}.{name}"), kind[:-1])


def system_class(name: str) -> type[System]:
    """The class of a system. Raises ValueError for an unknown name."""
    return _load("systems", name)


def filter_class(name: str) -> type[Filter]:
    """The class of a filter. Raises ValueError for an unknown name."""
    return _load("filters", name)


def make_system(name: str, parameters: dict) -> System:
    """A system from its name and its parameters. Raises ValueError where they are wrong."""
    cls = system_class(name)
    return cls(cls.Parameters(**parameters))
