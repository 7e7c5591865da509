"""All observations that a config can name, by the key ``operator``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import BeforeValidator, Field

from masf.faults import Refused
from masf.observations.base import ObservationSettings
from masf.observations.mask import (
    CentreSettings,
    ComponentsSettings,
    GridSettings,
    HoleSettings,
    IdentitySettings,
    RandomSettings,
    StrideSettings,
)
from masf.observations.matrix import MatrixSettings
from masf.observations.pooling import AveragePoolingSettings
from masf.plugins import bring, brought, suggestion

Operator = (
    IdentitySettings
    | StrideSettings
    | ComponentsSettings
    | GridSettings
    | CentreSettings
    | HoleSettings
    | RandomSettings
    | AveragePoolingSettings
    | MatrixSettings
)


def operator_name(cls: type[ObservationSettings]) -> str:
    """What the key ``operator`` says of these settings."""
    return str(get_args(cls.model_fields["operator"].annotation)[0])


def _brought() -> Iterator[type[ObservationSettings]]:
    """The settings that packages bring. Raises Refused for one that is called otherwise than its
    operator, or as one of masf's.
    """
    own = {operator_name(cls) for cls in get_args(Operator)}
    for name in brought("observations"):
        cls = bring("observations", name, ObservationSettings)
        if (called := operator_name(cls)) != name or name in own:
            raise Refused(
                f"observation {name!r}, which a package brings, has the operator {called!r}: "
                "expected the name of its entry point, and none of masf's"
            )
        yield cls


_SETTINGS = (*get_args(Operator), *_brought())

OPERATORS: dict[str, type[ObservationSettings]] = {operator_name(cls): cls for cls in _SETTINGS}
"""The settings of each operator, by its name."""


def _keys_of_its_own(content: Any) -> Any:
    """What was given. Raises ValueError where it has a key that is another operator's."""
    if not isinstance(content, Mapping) or content.get("operator") not in [*OPERATORS]:
        return content  # pydantic says what is wrong
    operator = content["operator"]
    for key in sorted(content.keys() - OPERATORS[operator].model_fields.keys(), key=str):
        others = [repr(name) for name, cls in OPERATORS.items() if key in cls.model_fields]
        if others:
            hint = f"did you mean operator {', '.join(others)}?"
            raise ValueError(f"observation operator {operator!r} takes no key {key!r}; {hint}")
    return content


if TYPE_CHECKING:
    AnyOperator = Operator
else:
    AnyOperator = Union[_SETTINGS]  # noqa: UP007 (of a tuple)

AnyObservation = Annotated[
    AnyOperator,
    Field(discriminator="operator"),
    BeforeValidator(_keys_of_its_own),
]
"""An observation in a config."""


def observation_settings(keys: Mapping[str, Any]) -> ObservationSettings:
    """The settings that a config would write as ``keys``.

    Raises:
        ValueError: for an unknown operator, or keys that are unknown, missing or out of range.
    """
    if "operator" not in keys:
        raise ValueError(f"an observation needs the key 'operator'{suggestion('', OPERATORS)}")
    operator = keys["operator"]
    if operator not in [*OPERATORS]:
        known = suggestion(str(operator), OPERATORS)
        raise ValueError(f"unknown observation operator {operator!r}{known}")
    _keys_of_its_own(keys)
    return OPERATORS[operator].model_validate(keys)
