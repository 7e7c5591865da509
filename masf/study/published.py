"""Settings of the literature, config/settings/NAME.yaml: a cell, and filters whose scores there are
published.

A score is the root mean square error of the ensemble mean over components, averaged over analyses:
``rmse_analysis`` of scores.parquet.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from masf.files.cell import CellSettings
from masf.observations.settings import AnyObservation
from masf.study.sections import Gap, Name, Section, Size


class PublishedRun(Section):
    """A filter in a setting: one whose score is published, or one that is set beside them."""

    filter: Name | None = Field(
        None, description="What runs it here, as `masf list filters` says; none runs it without."
    )
    label: str | None = Field(
        None, min_length=1, max_length=24, description="What the source calls it, if otherwise."
    )
    members: Size = Field(description="Ensemble size N.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="Of the filter here, those of the source in this package's terms; the others "
        "are as in a study.",
    )
    published: float | None = Field(
        None, gt=0, description="Published RMSE at analyses; none of what only we run."
    )
    note: str | None = Field(None, description="Where its parameters come from, or differ.")

    @model_validator(mode="after")
    def _says_something(self) -> PublishedRun:
        if self.filter is None and (self.label is None or self.published is None):
            raise ValueError("without filter it needs label and published")
        if self.filter is None and self.parameters:
            raise ValueError("parameters are of a filter that runs here: name it by filter")
        return self

    @property
    def name(self) -> str:
        """What it is called."""
        return self.label or str(self.filter)


class PublishedSetting(Section):
    """A file config/settings/NAME.yaml."""

    title: str = Field(min_length=1, description="One line for lists.")
    source: str = Field(min_length=1, description="Who published the setting, and the scores.")
    chosen: str = Field(min_length=1, description="What of it is not the source's.")
    system: Name = Field(description="A system in masf/systems.")
    parameters: dict[str, float | int] = Field(description="Its parameters.")
    observation: AnyObservation = Field(description="What is measured.")
    gap: Gap = Field(description="Steps between two measurements, or a pattern that repeats.")
    initial_spread: float = Field(
        gt=0, description="Standard deviation of the initial distribution."
    )
    cycles: int = Field(ge=1, le=1_000_000, description="Measurements in a run.")
    spin_up_cycles: int = Field(ge=0, description="First cycles that the scores leave out.")
    members: Size = Field(description="Ensemble size of filters that runs do not list.")
    runs: list[PublishedRun] = Field(min_length=1, description="Filters, and their scores.")

    @model_validator(mode="after")
    def _some_cycles_left(self) -> PublishedSetting:
        if self.spin_up_cycles >= self.cycles:
            raise ValueError(
                f"spin_up_cycles {self.spin_up_cycles} leaves none of {self.cycles} cycles to score"
            )
        return self

    def cell(self, *, members: int, seed: int, cycles: int | None = None) -> CellSettings:
        """The cell of an ensemble size and seed; ``cycles`` are the setting's where none are
        given.
        """
        return CellSettings(
            system=self.system,
            parameters=dict(sorted(self.parameters.items())),
            observation=self.observation.written(),
            gap=self.gap,
            cycles=cycles or self.cycles,
            members=members,
            initial_spread=self.initial_spread,
            seed=seed,
        )
