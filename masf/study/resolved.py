"""study.json: a config as it was used, with what the files of its filters said then, so that it
needs no other file.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masf.study.config import StudyConfig
from masf.study.filter_files import FilterDefinition
from masf.study.published import PublishedSetting
from masf.study.sections import Name, Section
from masf.study.tuned_values import TunedValues

STUDY_FORMAT: Literal["masf-study-1"] = "masf-study-1"


class ResolvedStudy(Section):
    """A config, and what it refers to."""

    format: Literal["masf-study-1"] = Field(description="Version of this layout.")
    config: StudyConfig = Field(description="The config.")
    filters: dict[Name, FilterDefinition] = Field(description="What config/filters says of each.")
    tuned: dict[Name, TunedValues] = Field(
        description="What config/tuned says of those that have a file there."
    )
    settings: dict[Name, PublishedSetting] = Field(
        default_factory=dict,
        description="What config/settings says of those that the study runs.",
    )
