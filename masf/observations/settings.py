"""All observations that a config can name, by the key ``operator``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field

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
from masf.plugins import suggestion

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

OPERATORS: dict[str, type[ObservationSettings]] = {
    get_args(cls.model_fields["operator"].annotation)[0]: cls for cls in get_args(Operator)
}
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


AnyObservation = Annotated[
    Operator,
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
