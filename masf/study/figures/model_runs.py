"""Error against model runs: what each filter reaches for how often it runs the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from masf.scores.run import SCORES
from masf.study import paths
from masf.study.figures.base import FigureSection, PointOfExperiment
from masf.study.figures.sweep import Score, score_faults

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study


class ModelRunsFigure(FigureSection):
    """A score against model runs a cycle, one panel a point of an experiment, whose ensemble sizes
    make a filter's line.
    """

    kind: Literal["model_runs"] = Field(
        description="model_runs: a score against model runs a cycle, a line or point a filter."
    )
    score: Score = Field("rmse", description="The vertical axis.")
    panels: list[PointOfExperiment] = Field(
        min_length=1,
        description="Panels in reading order, lettered (a), (b), ...; where chooses all that the "
        "experiment varies but members.",
    )
    columns: int = Field(2, ge=1, le=6, description="Panels in a row.")

    shows = (
        "Model runs are forecasts of one member from one measurement to the next, mean over "
        "cycles and test seeds: filters are to be compared at equal model runs, that is, above "
        "each other. The points of a line are ensemble sizes; a filter that runs the model more "
        "than once a cycle stands further to the right than others of its size. Points and bars "
        "are mean and standard deviation over test seeds; filters stand a little side by side, "
        "so that bars can be told apart. Runs that diverged or lost track are left out of "
        "the mean (the tables count them); hollow points are runs that lost track. Filters that "
        "do not count their model runs have no point, and are named in the panel."
    )

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(panel.experiment for panel in self.panels))

    @property
    def scores(self) -> list[str]:
        return [self.score]

    @property
    def in_words(self) -> str:
        return f"Points of {SCORES[self.score]} against model runs a cycle"

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        """None: scores.parquet and costs.parquet have all that is shown."""
        return []

    def files(self, study: Study) -> list[str]:
        return [paths.COSTS]

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        for i, panel in enumerate(self.panels):
            at = f"{key}.panels.{i}"
            yield from panel.point_faults(study, at, but="members")
            yield from score_faults(study, at, panel.experiment, self.score)
