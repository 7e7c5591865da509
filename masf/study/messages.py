"""What is said of a config that cannot be used: the key, its value, and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from masf.faults import Refused
from masf.observations.base import ObservationSettings
from masf.observations.settings import OPERATORS, observation_settings
from masf.plugins import did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class ConfigFault(Refused):
    """A config that cannot be used; the message names every key at fault, its value and what is
    allowed.
    """


def faults_of(
    error: ValidationError, model: type[BaseModel] | None = None, content: Any = None
) -> list[str]:
    """One line for each key at fault: the key, its value, and what is allowed. ``content`` is what
    was validated.
    """
    schema = model.model_json_schema() if model is not None else {}
    found: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False):
        missing = fault["type"] == "missing"
        location, value = _place(fault["loc"], content, fault["input"], schema, missing)
        key = ".".join(map(str, location)) or "config"
        if fault["type"] == "extra_forbidden":
            found[key] = [f"unknown key{_known_keys(schema, fault['loc'])}"]
        elif missing:
            found[key] = ["this key is missing"]
        elif fault["type"] == "union_tag_not_found":
            found[f"{key}.{_discriminator(fault)}"] = ["this key is missing"]
        elif fault["type"] == "union_tag_invalid":
            tag, known = fault["ctx"]["tag"], fault["ctx"]["expected_tags"]
            meant = did_you_mean(tag, known.replace("'", "").split(", "))
            of = f"{key}.{_discriminator(fault)} = {json.dumps(tag)}"
            found[of] = [f"choose one of {known}{meant}"]
        else:
            message = fault["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(value, dict) else f" = {json.dumps(value, default=str)[:120]}"
            found.setdefault(key + shown, []).append(message[0].lower() + message[1:])
    return [f"{key}: {', or '.join(dict.fromkeys(messages))}" for key, messages in found.items()]


def validated(model: type[Model], content: Mapping[str, Any], what: str) -> Model:
    """The settings ``content`` of ``what``, such as "system 'lorenz96'", checked.

    Raises:
        Refused: with every key at fault.
    """
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        raise Refused(f"{what}: {'; '.join(faults_of(error, model, dict(content)))}") from None


def validated_observation(keys: Mapping[str, Any], what: str) -> ObservationSettings:
    """The settings of an observation that is written as ``keys``, checked.

    Args:
        keys: as a config would say them, ``operator`` among them.
        what: said it, such as "--observation".

    Raises:
        ValueError: for an unknown operator, or with every key at fault.
    """
    try:
        return observation_settings(keys)
    except ValidationError as error:
        operator = keys["operator"]
        faults = "; ".join(faults_of(error, OPERATORS[operator], dict(keys)))
        raise Refused(f"{what} {operator!r}: {faults}") from None


def _discriminator(fault: ErrorDetails) -> str:
    """The key whose value says which alternative is meant."""
    return str(fault["ctx"]["discriminator"]).strip("'")


def _place(
    location: tuple[Any, ...],
    content: Any,
    value: Any,
    schema: dict[str, Any],
    missing: bool,
) -> tuple[list[Any], Any]:
    """The key that a fault is about and the value there, without pydantic's names for alternatives.

    A key that is ``missing`` is in the location, and not in the content. The name of an alternative
    may be a key too (operator ``stride`` has a key ``stride``): the schema says which it is.
    """
    if content is None:
        return list(location), value
    key: list[Any] = []
    node = schema
    for part in location:
        node = _resolve(node, schema)
        names_alternative = "discriminator" in node
        node = _child(node, part)
        if names_alternative:
            continue
        if isinstance(content, dict):
            if part in content:
                content = content[part]
            elif not missing or part != location[-1]:
                continue  # the name of an alternative, not a key
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
        else:
            break  # an alternative of a value: what follows is about that alternative
        key.append(part)
    return key, content


def _known_keys(schema: dict[str, Any], location: tuple[Any, ...]) -> str:
    """The keys allowed where an unknown one stands, as far as the schema tells."""
    node = schema
    for part in location[:-1]:
        node = _child(_resolve(node, schema), part)
    keys = sorted(_resolve(node, schema).get("properties", {}))
    return f"{did_you_mean(str(location[-1]), keys)}; allowed are {', '.join(keys)}" if keys else ""


def _child(node: dict[str, Any], part: Any) -> dict[str, Any]:
    """What a JSON schema says of one part of a location, as far as it does."""
    if "discriminator" in node:
        return {"$ref": node["discriminator"]["mapping"][part]}
    by_pattern = [*node.get("patternProperties", {}).values(), node.get("items"), {}]
    child = node.get("properties", {}).get(part, by_pattern[0])
    return child if isinstance(child, dict) else {}


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def unknown(key: str, value: str, kind: str, known: Any) -> str:
    """What to say of a name where nothing of its kind is called so."""
    known = sorted(known)
    return (
        f"{key} = {value!r}: unknown {kind}{did_you_mean(value, known)}; choose one of "
        f"{', '.join(known) or 'none'}"
    )
