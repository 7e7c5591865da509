"""What all sections of the config share: how keys are checked, and the types of names, seeds and
numbers.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from masf import places

Name = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]*$", description="Lower-case letters, digits and underscores."),
]

Folder = Annotated[str, AfterValidator(places.folder)]

Seed = Annotated[int, Field(ge=0, lt=2**31)]

Gap = Annotated[int, Field(ge=1, le=100_000)]

Axis = Annotated[list[float | int], Field(min_length=1)]

Size = Annotated[int, Field(ge=2, le=10_000_000)]

Saved = Annotated[int, Field(ge=0, le=10_000)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
