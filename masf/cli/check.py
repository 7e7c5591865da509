"""``masf check``: systems, filters and observations, of masf or of one's own, held to their
contract.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from masf.cli.run import Pairs

Check = tuple[str, Callable[[], None]]
"""What is checked, by its name, and what raises ContractFault where it is broken."""


class _NotMade(Exception):
    """A class of which there is no object that could be checked."""


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
    """Hold a system, a filter or observations to their contract.

    A NAME of masf list systems or filters, or a FILE.py, whose subclasses of masf.System,
    masf.Filter and masf.Observation are checked, one after the other: shapes, types, the same for
    the same seed and on numpy and torch, each state for itself, nothing changed that is handed in.
    Of an observation the objects are checked that the file makes, such as wind = Wind(3, noise,
    {}). What is broken, or cannot be checked, is said in one sentence each, and the exit code is 1.
    """
    from masf.faults import ContractFault

    broken = False
    for name, run in list(_checks(what, parameters, torch)):
        try:
            run()
        except _NotMade as error:
            broken = True
            click.echo(f"{name}: not checked\n  {error}")
        except ContractFault as fault:
            broken = True
            click.echo(f"{name}: broken\n  " + str(fault).replace("\n", "\n  "))
        else:
            click.echo(f"{name}: keeps the contract")
    sys.exit(int(broken))


def _checks(what: str, parameters: dict[str, Any], torch: bool) -> Iterator[Check]:
    """The checks of what is meant."""
    from masf.filters.registry import filter_class, filter_names
    from masf.plugins import suggestion
    from masf.study import defaults
    from masf.systems.registry import system_class, system_names

    if what.endswith(".py"):
        yield from _of_file(Path(what), parameters, torch)
    elif what in system_names():
        yield _of_class(system_class(what), {**defaults.parameters(what), **parameters}, torch)
    elif what in filter_names():
        yield _of_class(filter_class(what), parameters, torch)
    else:
        known = [*system_names(), *filter_names()]
        raise click.UsageError(f"unknown system or filter {what!r}{suggestion(what, known)}")


def _of_class(cls: type[Any], parameters: dict[str, Any], torch: bool) -> Check:
    """The check of a system or a filter. Raises UsageError for parameters that have to be said."""
    from masf.contract import check_filter, check_system
    from masf.filters.base import Filter

    needed = [
        key for key, field in _fields(cls).items() if field.is_required() and key not in parameters
    ]
    if needed:
        pairs = ",".join(f"{key}=VALUE" for key in needed)
        raise click.UsageError(
            f"{cls.__name__} has no default of {', '.join(needed)}: add --parameters {pairs}"
        )
    if issubclass(cls, Filter):
        return cls.__name__, partial(check_filter, cls, parameters, torch=torch)
    return cls.__name__, partial(check_system, cls, torch=torch, **parameters)


def _fields(cls: type[Any]) -> dict[str, Any]:
    """The parameters of a system or a filter, as far as its class says them."""
    return dict(getattr(getattr(cls, "Parameters", None), "model_fields", {}))


def _of_file(path: Path, parameters: dict[str, Any], torch: bool) -> Iterator[Check]:
    """The checks of the classes that a file of Python defines, in their order; a parameter is of
    the classes that have it.
    """
    import runpy

    from masf.filters.base import Filter
    from masf.observations.base import Observation
    from masf.systems.base import System

    if not path.is_file():
        raise click.UsageError(f"{path}: there is no such file")
    values = runpy.run_path(str(path), run_name=path.stem)
    found = [
        cls
        for cls in dict.fromkeys(filter(inspect.isclass, values.values()))
        if issubclass(cls, (System, Filter, Observation))
        and cls.__module__ == path.stem
        and not cls.__abstractmethods__
    ]
    if not found:
        raise click.UsageError(
            f"{path} defines no subclass of masf.System, masf.Filter or masf.Observation"
        )
    known = {key for cls in found for key in _fields(cls)}
    for cls in found:
        if issubclass(cls, Observation):
            yield from _of_observations(cls, values, torch)
        else:
            own = {k: v for k, v in parameters.items() if k in _fields(cls) or k not in known}
            yield _of_class(cls, own, torch)


def _of_observations(cls: type[Any], values: dict[str, Any], torch: bool) -> Iterator[Check]:
    """The checks of the objects of an observation's class among the ``values`` of a file, by their
    names there.
    """
    from masf.contract import check_observation

    made = {name: value for name, value in values.items() if type(value) is cls}
    for name, value in made.items():
        yield f"{cls.__name__} {name}", partial(check_observation, value, torch=torch)
    if not made:
        yield cls.__name__, partial(_not_made, cls.__name__)


def _not_made(name: str) -> None:
    raise _NotMade(
        f"the file makes no object of {name}: add a line such as {name.lower()} = "
        f"{name}(3, make_noise(0.5, 2), {{}}), with its dimension and noise"
    )
