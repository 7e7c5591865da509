"""The systems by name: each is a module of this folder."""

from __future__ import annotations

from masf import plugins
from masf.systems.base import System


def system_names() -> list[str]:
    """The names of all systems, sorted."""
    return plugins.names("systems")


def system_class(name: str) -> type[System]:
    """The class of a system. Raises ValueError for an unknown name, or what is none."""
    if not isinstance(name, str):
        raise ValueError(f"system {name!r}: expected a name, one of {', '.join(system_names())}")
    return plugins.load("systems", name, System)


def is_ours(system: System) -> bool:
    """Whether a system is one of those here, and not a user's own."""
    return type(system).__module__.startswith("masf.systems.")


def has_name(system: System) -> bool:
    """Whether a system is found by its name: one of those here, or one that a package brings."""
    return is_ours(system) or _brought_as(system) is not None


def _brought_as(system: System) -> str | None:
    """The name under which a package brings a system; None where none does."""
    for name in plugins.brought("systems"):
        if system_class(name) is type(system):
            return name
    return None


def name_of(system: System) -> str:
    """What files call a system: its module of this folder; the name by which a package brings it;
    of a user's own, its class.

    A class that is called as one of ours is told apart by its module.
    """
    cls = type(system)
    if is_ours(system):
        return cls.__module__.rpartition(".")[2]
    if (name := _brought_as(system)) is not None:
        return name
    same = cls.__name__ in system_names()
    return f"{cls.__module__}.{cls.__qualname__}" if same else cls.__name__


def make_system(name: str, parameters: dict) -> System:
    """A system from its name and its parameters. Raises ValueError where they are wrong."""
    cls = system_class(name)
    return cls(cls.Parameters(**parameters))
