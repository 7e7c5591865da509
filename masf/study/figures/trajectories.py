"""Trajectories: truth and estimate over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from masf.study.figures.base import FigureSection, seed_faults
from masf.study.sections import Name, Seed
from masf.systems.base import System

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study

LEAST_COMPONENTS = 3
"""Components of a state that are shown."""


class TrajectoryFigure(FigureSection):
    """Figure 3: truth and estimate, one panel a filter."""

    kind: Literal["trajectories"] = Field(description="trajectories: truth and estimate over time.")
    experiment: Name = Field(
        description="An experiment with one cell a seed, of three or more components."
    )
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(10, ge=1, description="How many of the last cycles are shown over time.")

    most_filters: int = Field(
        6,
        ge=1,
        le=30,
        description="Filters in a figure: of more, the best are in it and the others in a second "
        "one, NAME_others; all are in it where `filters` names them.",
    )

    best_by = "RMSE in this run"
    shows = (
        "The attractor and the three components over time of one test seed, one row a filter: "
        "truth (grey), ensemble mean "
        "(colour) and measurements (circles) over the last cycles. The RMSE is that of the "
        "whole run."
    )
    reads_truth = True
    every_step = True

    @property
    def most(self) -> int | None:
        return self.most_filters

    @property
    def experiments(self) -> list[str]:
        return [self.experiment]

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        """The one cell that is shown."""
        return [
            (self.experiment, cell)
            for cell in study.cells.values()
            if self.experiment in cell.experiments and cell.settings.seed == self.seed
        ]

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        experiment = study.config.experiments[self.experiment]
        if experiment.varied or len(experiment.observations) > 1:
            yield (
                f"{key}.experiment = {self.experiment!r}: a trajectory figure needs an experiment "
                "with one cell for each seed"
            )
        yield from seed_faults(study, key, self.experiment, self.seed)

    def system_faults(self, key: str, system: System) -> Iterator[str]:
        if system.dimension < LEAST_COMPONENTS:
            yield (
                f"{key}.experiment = {self.experiment!r}: has {system.dimension} components, not "
                f"{LEAST_COMPONENTS}"
            )
