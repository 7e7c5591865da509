"""Finds systems and filters by name: one module a name, found on disk, imported only when asked
for.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

HELPERS = {
    "base",
    "counting",
    "flow",
    "input_files",
    "integrators",
    "learned",
    "passes",
    "process_filter",
    "registry",
    "requirements",
}
"""Modules among the systems and filters that are none themselves."""


@cache
def names(kind: str) -> list[str]:
    """The names of all ``systems`` or ``filters``, sorted."""
    folder = Path(__file__).parent / kind
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.name not in HELPERS)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name where another is close: that it may have been meant."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: what may have been meant, and what there is."""
    known = sorted(known)
    return f"{did_you_mean(name, known)}: choose one of {', '.join(known)}"


def load(kind: str, name: str) -> Any:
    """The class of a system or a filter. Raises ValueError for an unknown name."""
    if name not in names(kind):
        raise ValueError(f"unknown {kind[:-1]} {name!r}{suggestion(name, names(kind))}")
    return getattr(importlib.import_module(f"masf.{kind}.{name}"), kind[:-1])
