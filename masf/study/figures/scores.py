"""What figures have in common that plot scores, one line a filter: sweeps, and error against cost.

A figure of this kind in the config may be drawn as several: more lines than can be told apart go to
a second figure, and a companion shows the same over the score of a chosen filter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from masf.study.figures.base import FigureSection, PointOfExperiment, may_flow
from masf.study.messages import unknown

if TYPE_CHECKING:
    from masf.study.study import Study

Distance = Literal[
    "mean_distance",
    "covariance_distance",
    "energy_distance",
    "rmse_ratio",
    "rmse_analysis_ratio",
    "spread_ratio",
]

FlowScore = Literal["ssim", "csi"]

ScoreOverTime = Literal["rmse", "spread_skill", "rmse_forecast", "crps", "crps_forecast", FlowScore]
"""Scores that have a value at each step or measurement: {filter}.nc holds it, but for those of
flows.
"""

Score = Literal[ScoreOverTime, "rmse_analysis", "spread_skill_forecast", Distance]

RATIOS: frozenset[str] = frozenset(
    {"rmse", "rmse_analysis", "rmse_forecast", "crps", "crps_forecast", *get_args(Distance)}
)
"""Scores that are errors: of these, one filter's over another's says how much is gained."""


class ScoreFigure(FigureSection):
    """A figure of scores: one line a filter, panels in a grid."""

    score: Score = Field("rmse", description="The vertical axis.")
    panels: Sequence[PointOfExperiment]
    columns: int = Field(2, ge=1, le=6, description="Panels in a row.")
    most_lines: int = Field(
        8,
        ge=1,
        le=50,
        description="Filters in a figure: of more, the best are in it and the others in a second "
        "one, NAME_others; all are in it where `filters` names them.",
    )

    of_scores = True

    best_by = "mean rank over the points of the panels"

    @property
    def most(self) -> int | None:
        return self.most_lines

    @abstractmethod
    def score_of(self, panel: PointOfExperiment) -> str:
        """The vertical axis of a panel."""

    @property
    def experiments(self) -> list[str]:
        return list(dict.fromkeys(panel.experiment for panel in self.panels))

    @property
    def scores(self) -> list[str]:
        return list(dict.fromkeys(map(self.score_of, self.panels)))


def score_faults(study: Study, key: str, name: str, score: str) -> Iterator[str]:
    """A score that the experiment ``name`` does not have."""
    experiment = study.config.experiments[name]
    if score in get_args(Distance) and experiment.reference is None:
        yield f"{key}: score {score!r} needs a reference, and experiment {name!r} names none"
    if score in get_args(FlowScore) and not may_flow(experiment.system):
        yield f"{key}: score {score!r} is for flows, and system {experiment.system!r} is none"


def relative_faults(study: Study, key: str, figure: ScoreFigure, other: str) -> Iterator[str]:
    """Why no figure can show scores over those of the filter ``other``."""
    run = {
        f
        for panel in figure.panels
        if figure.score_of(panel) in RATIOS
        for f in study.shown_filters(panel.experiment)
    }
    if not run:
        yield (
            f"{key}.relative_to = {other!r}: no panel shows an error; take the key out, or choose "
            f"a score of {', '.join(sorted(RATIOS))}"
        )
    elif other not in run:
        yield unknown(f"{key}.relative_to", other, "filter of its experiments", run)
