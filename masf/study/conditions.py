"""Conditions of settings, ``when``: in which situations they hold, and what is wrong with those
that never do.

A condition names ``system``, ``observation``, ``gap``, ``members``, ``model`` (what filters
forecast with, in words, where it is not the truth's system) or a parameter of the system, and has
one value or a list of which one must be there. A parameter that an experiment does not list has
its default. Files of filters serve many studies, so that a condition on what this study does not
have is no fault; one that no study can fulfil is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from masf.plugins import did_you_mean
from masf.study.messages import unknown
from masf.study.sections import Gap, Size
from masf.systems.registry import system_class, system_names

OF_CELLS: dict[str, Any] = {"gap": Gap, "members": Size}
"""The conditions on numbers that every system has, and their types."""

OF_TEXT = ("system", "observation", "model")
"""The conditions on names."""


def holds(when: Mapping[str, Any], situation: Mapping[str, Any]) -> bool:
    """Whether all conditions hold in a situation, see ``Cell.conditions``."""
    return all(situation.get(key) in alternatives(value) for key, value in when.items())


def alternatives(value: Any) -> list[Any]:
    """The values of which a condition wants one."""
    return value if isinstance(value, list) else [value]


def known_conditions() -> set[str]:
    """What conditions can name."""
    of_systems = {key for name in system_names() for key in _fields(name)}
    return {*OF_TEXT, *OF_CELLS, *of_systems}


def defaults(system: str) -> dict[str, Any]:
    """The parameters that a system has where none are given."""
    return {k: f.default for k, f in _fields(system).items() if not f.is_required()}


def condition_faults(when: Mapping[str, Any], key: str) -> Iterator[str]:
    """What keeps conditions from ever holding, in any study; ``key`` is their place."""
    systems = _systems(when)
    for name, value in when.items():
        place = f"{key}.{name}"
        if name not in known_conditions():
            yield unknown(key, name, "condition", known_conditions())
            continue
        if isinstance(value, Mapping):
            yield f"{place} = {_shown(value)}: expected a value or a list of values, not a mapping"
            continue
        if value == []:
            yield f"{place} = []: names no value, so that it never holds; give one, or leave it out"
            continue
        if name == "system":
            for said in alternatives(value):
                if said not in system_names():
                    yield unknown(place, str(said), "system", system_names())
            continue
        types = _types(name, systems)
        if not types:
            listed = ", ".join(map(repr, systems))
            of_these = {key for system in systems for key in _fields(system)}
            known = sorted({*OF_CELLS, "observation", "model", *of_these})
            yield (
                f"{place}: no parameter of {listed}{did_you_mean(name, known)}, so that the "
                f"condition never holds; choose from {', '.join(known)}"
            )
            continue
        for said in alternatives(value):
            if fault := _value_fault(said, types):
                yield f"{place} = {_shown(said)}: {fault}"


def condition_doubts(
    conditions: Iterable[Mapping[str, Any]], key: str, observations: Iterable[str]
) -> Iterator[str]:
    """What may be meant otherwise, where conditions without faults hold in part, or in another
    study: each doubt once, at the first of the ``conditions`` of a file, whose places are
    ``key.0.when`` and so on.
    """
    places: dict[str, list[str]] = {}
    for i, when in enumerate(conditions):
        for doubt in _doubts_of(when, list(observations)):
            places.setdefault(doubt, []).append(f"{key}.{i}.when")
    for doubt, (first, *others) in places.items():
        yield f"{first}.{doubt}{f' (and {len(others)} times more)' if others else ''}"


def _doubts_of(when: Mapping[str, Any], observations: list[str]) -> Iterator[str]:
    systems = [system for system in _systems(when) if system in system_names()]
    for name, value in when.items():
        without = [s for s in systems if not _types(name, [s])]
        if "system" in when and without and name in known_conditions():
            listed = ", ".join(map(repr, without))
            yield f"{name}: no parameter of {listed}, where the setting never holds"
        if name == "observation":
            for said in alternatives(value):
                meant = "" if said in observations else did_you_mean(str(said), observations)
                if meant:
                    yield f"observation = {said!r}: no observation of this study{meant}"


def _fields(system: str) -> dict[str, FieldInfo]:
    return system_class(system).Parameters.model_fields


def _systems(when: Mapping[str, Any]) -> list[str]:
    """The systems that conditions leave: those that are named and known, or else all."""
    named = [s for s in alternatives(when.get("system", [])) if s in system_names()]
    return named or system_names()


def _types(name: str, systems: Iterable[str]) -> list[Any]:
    """The types that a condition's values may have on some of these systems."""
    if name in OF_TEXT:
        return [str]
    if name in OF_CELLS:
        return [OF_CELLS[name]]
    fields = [_fields(system)[name] for system in systems if name in _fields(system)]
    return [Annotated[field.annotation, field] for field in fields]


def _value_fault(value: Any, types: Iterable[Any]) -> str:
    """Why a value is of none of the types; empty where it is of one."""
    # Whole numbers are equal to integers, and so may be written for them.
    whole = isinstance(value, float) and value.is_integer()
    fault = ""
    for kind in types:
        adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
        try:
            adapter.validate_python(int(value) if whole else value)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        else:
            return ""
    if isinstance(value, str) and (number := _number(value)) is not None:
        written = yaml.safe_dump(number).splitlines()[0]
        return f"is text to YAML, which no number is equal to: write {written}"
    return fault[0].lower() + fault[1:]


def _number(text: str) -> int | float | None:
    """The number that a text was meant for, if any."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:120]
