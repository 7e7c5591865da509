"""Sweeps: a score against an axis of an experiment, or over the time of one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from masf.scores.run import SCORES
from masf.study.figures.base import FigureSection, PointOfExperiment, seed_faults
from masf.study.figures.scores import (
    RATIOS,
    FlowScore,
    Score,
    ScoreFigure,
    ScoreOverTime,
    relative_faults,
    score_faults,
)
from masf.study.messages import unknown
from masf.study.sections import Name, Seed

if TYPE_CHECKING:
    from masf.study.cells import Cell
    from masf.study.study import Study

TIME = "time"
"""The axis of a panel that follows one run over model time, where others compare runs."""


class Panel(PointOfExperiment):
    """One panel of a sweep figure."""

    axis: str = Field(
        min_length=1,
        description="The horizontal axis: gap, members or a parameter of the system; or time, "
        "for a single run. "
        "What else the experiment varies is fixed by where.",
    )
    seed: Seed | None = Field(None, description="For axis time: the test seed that is shown.")
    score: Score | None = Field(None, description="The vertical axis, instead of the figure's.")
    guide: float | None = Field(
        None, description="Power of the axis that a grey guide line follows, such as -0.5."
    )

    @model_validator(mode="after")
    def _keys_of_the_axis(self) -> Panel:
        if self.axis == TIME and self.seed is None:
            raise ValueError("axis 'time' shows a single run: it needs a seed")
        if self.axis == TIME and self.guide is not None:
            raise ValueError(f"guide {self.guide} is for axes other than 'time'")
        if self.axis != TIME and self.seed is not None:
            raise ValueError(f"seed {self.seed} is for axis 'time'; other axes show all test seeds")
        return self

    def faults(self, study: Study, key: str, score: str) -> Iterator[str]:
        """What is wrong with it in a study, whose experiments have its own; ``score`` is its
        vertical axis.
        """
        experiment = study.config.experiments[self.experiment]
        if self.axis != TIME and self.axis not in experiment.axes:
            yield unknown(f"{key}.axis", self.axis, "axis", [*experiment.axes, TIME])
        if self.axis == "gap" and (patterns := [g for g in experiment.gaps if isinstance(g, str)]):
            yield (
                f"{key}.axis = 'gap': {', '.join(patterns)} of experiment {self.experiment!r} is "
                "no number; give what is irregular an experiment of its own"
            )
        yield from self.point_faults(study, key, but=self.axis)
        if self.seed is not None:
            yield from seed_faults(study, key, self.experiment, self.seed)
        if self.axis == TIME and score not in get_args(ScoreOverTime):
            allowed = ", ".join(get_args(ScoreOverTime))
            yield (
                f"{key}: score {score!r} is one number for a run; for axis 'time' choose one of "
                f"{allowed}"
            )
        yield from score_faults(study, key, self.experiment, score)


class SweepFigure(ScoreFigure):
    """Figures 4 and 5: a score against an axis, one line a filter, one panel an experiment,
    observation and score.
    """

    kind: Literal["sweep"] = Field(description="sweep: a score against an axis.")
    panels: list[Panel] = Field(
        min_length=1, description="Panels in reading order, lettered (a), (b), ..."
    )
    relative_to: Name | None = Field(
        None,
        description="A filter: a companion, NAME_relative, shows each filter's score over that of "
        "this one, paired by seed, so that small gains can be seen.",
    )

    shows = (
        "Points and bars are mean and standard deviation over test seeds; filters stand a "
        "little side by side, so that bars can "
        "be told apart. Runs that diverged or lost track are left out of the mean (the tables "
        "count them): hollow points are runs that lost track, and a cross at the top stands for "
        "a filter of which some run diverged. An arrow at the bottom is the end of a bar that "
        "goes on below. A broad grey line, where there is one, has the slope of Monte-Carlo "
        "error. Panels over time show one run: "
        "circles are analyses, shading is spin-up, and the numbers are the scores of the run."
    )
    compares: ClassVar[str] = (
        "Points are the score of each filter over that of the filter at 1, run by run on the same "
        "truths: the geometric mean over test seeds, with its 95% confidence interval (Student's t "
        "of the logarithms, paired by seed, no correction for multiple comparisons). A filter "
        "whose interval is below 1 has the lower error beyond chance. Pairs in which a run "
        "diverged or lost track are left out; a point is hollow where there are such. Filters that "
        "are nowhere within a factor of two are not shown, and named below."
    )

    def score_of(self, panel: PointOfExperiment) -> str:
        own = panel.score if isinstance(panel, Panel) else None
        return own or self.score

    def scores_fields(self, panel: Panel) -> bool:
        """Whether a panel's score is of fields, which over time is computed from the truth and the
        estimates.
        """
        return self.score_of(panel) in get_args(FlowScore)

    @property
    def explanation(self) -> str:
        return self.compares if self.part == "relative" else super().explanation

    def parts(self, study: Study, name: str) -> dict[str, FigureSection]:
        found = super().parts(study, name)
        if (other := self.relative_to) is not None:
            panels = [
                panel
                for panel in self.panels
                if panel.axis != TIME
                and self.score_of(panel) in RATIOS
                and other in study.shown_filters(panel.experiment)
            ]
            title = f"{self.title}: over that of {study.filters[other].label}"
            found[f"{name}_relative"] = self.as_part("relative", title, panels=panels)
        return found

    @property
    def in_words(self) -> str:
        scores = ", ".join(SCORES[score] for score in self.scores)
        over = f" over that of {self.relative_to}" if self.part == "relative" else ""
        return (
            f"Lines of {scores}{over} against "
            f"{', '.join(dict.fromkeys(panel.axis for panel in self.panels))}"
        )

    def cells(self, study: Study) -> list[tuple[str, Cell]]:
        """Those of panels over time; the others show what scores.parquet has."""
        return [(panel.experiment, cell) for panel, cell in self._runs(study)]

    def _runs(self, study: Study) -> list[tuple[Panel, Cell]]:
        over_time = [panel for panel in self.panels if panel.axis == TIME]
        return [
            (panel, cell) for panel in over_time for cell in study.point_cells(panel, panel.seed)
        ]

    def files(self, study: Study) -> list[str]:
        """Estimates of panels over time, and the truth where their score is of fields."""
        truths = [cell.truth for panel, cell in self._runs(study) if self.scores_fields(panel)]
        return list(dict.fromkeys([*super().files(study), *truths]))

    def faults_of_kind(self, study: Study, key: str) -> Iterator[str]:
        for i, panel in enumerate(self.panels):
            yield from panel.faults(study, f"{key}.panels.{i}", self.score_of(panel))
        if self.relative_to is not None:
            over_seeds = [panel for panel in self.panels if panel.axis != TIME]
            yield from relative_faults(
                study, key, self.model_copy(update={"panels": over_seeds}), self.relative_to
            )
