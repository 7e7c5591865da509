"""What all sections of the config share: how keys are checked, and the types of names, seeds and
numbers.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from masf import places
from masf.gaps import LONGEST, as_gap

Item = TypeVar("Item")


def _each_once(values: list[Item]) -> list[Item]:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ValueError(f"names {value!r} twice: name it once")
    return values


Distinct = Annotated[
    list[Item], AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})
]
"""A list that names nothing twice."""

Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]*$", description="Lower-case letters, digits and underscores."),
]

Folder = Annotated[str, AfterValidator(places.folder)]

Seed = Annotated[int, Field(ge=0, lt=2**31)]

Gap = Annotated[
    int | str,
    BeforeValidator(as_gap),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": LONGEST},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "integer", "minimum": 1, "maximum": LONGEST},
                },
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)*$"},
            ]
        }
    ),
]
"""Steps between two measurements, or a pattern of them that repeats: see masf.gaps."""

Axis = Annotated[Distinct[float | int], Field(min_length=1)]

Size = Annotated[int, Field(ge=2, le=10_000_000)]

Saved = Annotated[int, Field(ge=0, le=10_000)]
SavedSteps = Annotated[int, Field(ge=0, le=1_000_000)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
