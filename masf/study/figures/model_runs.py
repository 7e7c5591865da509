"""Error against cost: what each filter reaches for how often it runs the model, or for its time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from masf.scores.run import SCORES
from masf.study import paths
from masf.study.figures.base import PointOfExperiment
from masf.study.figures.scores import ScoreFigure, score_faults

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study


class ModelRunsFigure(ScoreFigure):
    """A score against what a cycle costs, one panel a point of an experiment, whose ensemble sizes
    make a filter's line.
    """

    kind: Literal["model_runs"] = Field(
        description="model_runs: a score against model runs a cycle, or another cost; a line or "
        "point a filter."
    )
    cost: Literal["model_runs", "cpu_seconds", "seconds"] = Field(
        "model_runs",
        description="The horizontal axis: model runs, processor seconds or seconds a cycle.",
    )
    panels: list[PointOfExperiment] = Field(
        min_length=1,
        description="Panels in reading order, lettered (a), (b), ...; where chooses all that the "
        "experiment varies but members.",
    )

    shows = (
        "Filters are to be compared at equal cost, that is, above each other; the points of a line "
        "are ensemble sizes. Points and bars "
        "are mean and standard deviation over test seeds; filters stand a little side by side, "
        "so that bars can be told apart. Runs that diverged or lost track are left out of "
        "the mean (the tables count them): hollow points are runs that lost track, and a cross at "
        "the top stands for a filter of which some run diverged. Filters "
        "whose cost is unknown have no point, and are named in the panel."
    )
    costs: ClassVar[dict[str, str]] = {
        "model_runs": " Model runs are forecasts of one member from one measurement to the next, "
        "mean over cycles and test seeds; a filter that runs the model more "
        "than once a cycle stands further to the right than others of its size.",
        "cpu_seconds": " Processor seconds are means over all cycles but the first and over test "
        "seeds, of forecast and analysis together, on the machines that the study ran on.",
        "seconds": " Seconds are means over all cycles but the first and over test seeds, of "
        "forecast and analysis together, on the machines that the study ran on.",
    }
    """What the caption says of each cost."""

    @property
    def explanation(self) -> str:
        return super().explanation + self.costs[self.cost]

    def score_of(self, panel: PointOfExperiment) -> str:
        return self.score

    @property
    def in_words(self) -> str:
        return f"Points of {SCORES[self.score]} against {self.cost.replace('_', ' ')} a cycle"

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
