"""Finds systems and filters by name: one module a name, found on disk, imported only when asked
for.

Other packages bring more: what their metadata list under the entry points ``masf.systems``,
``masf.filters`` and ``masf.observations`` is found by name as what is here.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from masf.faults import Refused

HELPERS = {
    "base",
    "climate",
    "counting",
    "flow",
    "input_files",
    "integrators",
    "learned",
    "passes",
    "process_filter",
    "registry",
    "requirements",
    "serial",
}
"""Modules among the systems and filters that are none themselves."""


@cache
def own_names(kind: str) -> list[str]:
    """The names of masf's own ``systems`` or ``filters``, sorted."""
    folder = Path(__file__).parent / kind
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.name not in HELPERS)


@cache
def brought(kind: str) -> dict[str, EntryPoint]:
    """The ``systems``, ``filters`` or ``observations`` that installed packages bring, by name.

    Raises:
        Refused: where two are called the same, or one as one of masf's own.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"masf.{kind}"):
        other = "masf" if point.name in own_names(kind) else None
        if point.name in found and found[point.name].value != point.value:
            other = _package(found[point.name])
        if other is not None:
            raise Refused(
                f"package {_package(point)} brings {kind[:-1]} {point.name!r}, which {other} has, "
                "too: rename one, or uninstall it"
            )
        found[point.name] = point
    return found


def bring(kind: str, name: str, base: type) -> Any:
    """The class that a package brings under a name. Raises Refused where it cannot be loaded, or is
    no subclass of ``base``.
    """
    point = brought(kind)[name]
    where = f"{kind[:-1]} {name!r} of package {_package(point)} ({point.value})"
    try:
        found = point.load()
    except Exception as error:  # whatever code of others raises
        raise Refused(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise Refused(f"{where} is {found!r:.80}: expected a subclass of {base.__name__}")
    return found


def source_of(kind: str, name: str) -> list[Path]:
    """The Python files of the package that brings something, for a fingerprint of its code."""
    top = brought(kind)[name].module.partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)] if spec.origin else []
    return sorted(
        path for folder in spec.submodule_search_locations for path in Path(folder).rglob("*.py")
    )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


def names(kind: str) -> list[str]:
    """The names of all ``systems`` or ``filters``, sorted."""
    return sorted({*own_names(kind), *brought(kind)})


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name where another is close: that it may have been meant."""
    close = difflib.get_close_matches(name, sorted(known), n=5)
    if not close:
        return ""
    # Of the same letters in another order before one with other letters: lektf is letkf, not lnetf.
    meant = max(close, key=lambda other: sorted(other) == sorted(name))
    return f" (did you mean {meant!r}?)"


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: what may have been meant, and what there is."""
    known = sorted(known)
    return f"{did_you_mean(name, known)}: choose one of {', '.join(known)}"


def load(kind: str, name: str, base: type) -> Any:
    """The class of a system or a filter, a subclass of ``base``. Raises ValueError for an unknown
    name.
    """
    if name not in names(kind):
        raise ValueError(f"unknown {kind[:-1]} {name!r}{suggestion(name, names(kind))}")
    if name in brought(kind):
        return bring(kind, name, base)
    return getattr(importlib.import_module(f"masf.{kind}.{name}"), kind[:-1])
