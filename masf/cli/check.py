"""``masf check``: systems and filters, of masf or of one's own, held to their contract."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from masf.cli.run import Pairs


@click.command("check")
@click.argument("what", metavar="NAME|FILE.py")
@click.option(
    "--parameters",
    type=Pairs(),
    default={},
    help="Parameters of the system or the filter; others are its defaults.",
)
@click.option(
    "--torch/--no-torch", default=True, show_default=True, help="Ask for the same on torch, too."
)
def check(what: str, parameters: dict[str, Any], torch: bool) -> None:
    """Hold a system or a filter to its contract.

    A NAME of masf list, or a FILE.py, whose subclasses of masf.System and masf.Filter are checked,
    one after the other: shapes, types, the same for the same seed and on numpy and torch, each
    state for itself, nothing changed that is handed in. What is broken is said in one sentence
    each, and the exit code is 1.
    """
    from masf.contract import check_filter, check_system
    from masf.faults import ContractFault
    from masf.filters.base import Filter

    broken = False
    for cls, usual in _classes(what):
        try:
            if issubclass(cls, Filter):
                check_filter(cls, parameters, torch=torch)
            else:
                check_system(cls, torch=torch, **{**usual, **parameters})
        except ContractFault as fault:
            broken = True
            click.echo(f"{cls.__name__}: broken\n  " + str(fault).replace("\n", "\n  "))
        else:
            click.echo(f"{cls.__name__}: keeps the contract")
    sys.exit(int(broken))


def _classes(what: str) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """The classes that are meant, each with parameters that are taken where nothing is said."""
    from masf.filters.registry import filter_class, filter_names
    from masf.plugins import suggestion
    from masf.study.defaults import parameters
    from masf.systems.registry import system_class, system_names

    if what.endswith(".py"):
        yield from ((cls, {}) for cls in _of_file(Path(what)))
    elif what in system_names():
        yield system_class(what), parameters(what)
    elif what in filter_names():
        yield filter_class(what), {}
    else:
        known = [*system_names(), *filter_names()]
        raise click.UsageError(f"unknown system or filter {what!r}{suggestion(what, known)}")


def _of_file(path: Path) -> list[type[Any]]:
    """The systems and filters that a file of Python defines, in their order."""
    import runpy

    from masf.filters.base import Filter
    from masf.systems.base import System

    if not path.is_file():
        raise click.UsageError(f"{path}: there is no such file")
    found = [
        cls
        for cls in runpy.run_path(str(path), run_name=path.stem).values()
        if inspect.isclass(cls)
        and issubclass(cls, (System, Filter))
        and cls.__module__ == path.stem
        and not cls.__abstractmethods__
    ]
    if not found:
        raise click.UsageError(f"{path} defines no subclass of masf.System or masf.Filter")
    return list(dict.fromkeys(found))
