"""What a file config/filters/NAME.yaml says of a filter."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from masf import places
from masf.study.search import Choice
from masf.study.sections import Distinct, Name, Section


class Resources(Section):
    """What one job of a filter asks of the machine; retries ask for more memory and time."""

    gpu: int = Field(0, ge=0, le=8, description="GPUs, where the study uses GPUs (key gpu).")
    threads: int = Field(1, ge=1, le=256, description="Processor cores.")
    mem_mb: int = Field(1500, ge=100, description="Memory in MB.")
    runtime: int = Field(30, ge=1, description="Minutes.")


class Setting(Section):
    """Parameters, and what is searched, for some situations only."""

    when: dict[str, Any] = Field(
        min_length=1,
        description="Conditions that must all hold: system, observation, gap, members or a "
        "system parameter; a value or a list.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters that replace the general ones there."
    )
    search: dict[str, Choice | None] = Field(
        default_factory=dict,
        description="What tuning tries there instead of the general search; null: nothing.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Setting:
        if not self.parameters and not self.search:
            raise ValueError("needs parameters or search")
        return self


Marker = Literal["o", "s", "D", "^", "v", "<", ">", "P", "X", "*", "p", "h", "d", "H", "8"]
"""Markers of Matplotlib that are filled."""


class FilterLook(Section):
    """How a filter looks in all figures."""

    colour: str = Field(
        pattern="^#[0-9A-Fa-f]{6}$",
        description="Colour of its lines, markers and bars, as #RRGGBB.",
    )
    marker: Marker = Field(description="Its marker, by Matplotlib's name.")
    line: Literal["solid", "dashed", "dotted", "dashdot"] = Field("solid", description="Its line.")


class FilterDefinition(Section):
    """A file config/filters/NAME.yaml: what the study calls NAME."""

    filter: Name | None = Field(
        None, description="Module in masf/filters; the file's own name without this key."
    )
    command: str | None = Field(
        None, description="Instead of a module, the command that runs a filter that is not ours."
    )
    install: str | None = Field(
        None, description="What to type where the command is missing; said in the error."
    )
    missing: bool = Field(
        False,
        description="For a command: whether it knows that NaN is a missing measurement; else it is "
        "not run where some are missing.",
    )
    label: str = Field(min_length=1, max_length=32, description="Name in tables and figures.")
    look: FilterLook | None = Field(
        None, description="How it looks in figures; without it, a look that follows from its name."
    )
    cite: Distinct[str] = Field(
        default_factory=list,
        description="Its sources, by their keys in masf/report/references.bib; see masf cite.",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the filter."
    )
    settings: list[Setting] = Field(
        default_factory=list, description="Parameters for some situations; later entries win."
    )
    search: dict[str, Choice] = Field(
        default_factory=dict,
        description="What tuning tries of each parameter: a list of values, or an interval.",
    )
    resources: Resources = Field(default_factory=Resources, description="What one job asks for.")

    @model_validator(mode="after")
    def _module_or_command(self) -> FilterDefinition:
        if self.command is None:
            if self.install is not None:
                raise ValueError(f"install {self.install!r} is for filters with a command")
            if self.missing:
                raise ValueError("missing is for filters with a command; a class says it itself")
            return self
        if self.filter is not None:
            raise ValueError(
                f"filter {self.filter!r} and command {self.command!r}: a filter is one or the other"
            )
        try:
            words = places.words(self.command)
        except ValueError as error:
            raise ValueError(
                f"command {self.command!r} cannot be read as a shell does: {error}"
            ) from None
        if not words:
            raise ValueError("command is empty")
        return self
