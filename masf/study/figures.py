"""The figures that a config asks for: one class a kind."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from masf.study.sections import Name, Section, Seed

Distance = Literal["mean_distance", "covariance_distance", "energy_distance"]

FlowScore = Literal["ssim", "csi"]

ScoreOverTime = Literal["rmse", "spread_skill", "rmse_forecast", "crps", "crps_forecast", FlowScore]
"""Scores that have a value at each step or measurement: {filter}.nc holds it, but for those of flows."""

Score = Literal[ScoreOverTime, "rmse_analysis", "spread_skill_forecast", Distance]

TIME = "time"
"""The axis of a panel that follows one run over model time, where others compare runs."""


class FigureSection(Section):
    """What figures of all kinds have."""

    title: str = Field(min_length=1, description="Caption's first words.")
    filters: list[Name] | None = Field(
        None, min_length=1, description="Which filters of the experiment are shown, in the study's order; all without this."
    )


class PointOfExperiment(Section):
    """One point of an experiment: all that it varies is chosen, but for the seeds."""

    experiment: Name = Field(description="The experiment whose cells are shown.")
    observation: Name = Field(description="Which of the experiment's observations.")
    where: dict[str, float | int] = Field(
        default_factory=dict, description="One value of each axis of the experiment: gap, members or a parameter of the system."
    )


class TrajectoryFigure(FigureSection):
    """Figure 3: truth and estimate, one panel a filter."""

    kind: Literal["trajectories"] = Field(description="trajectories: truth and estimate over time.")
    experiment: Name = Field(description="An experiment with one cell a seed, of three or more components.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(10, ge=1, description="How many of the last cycles are shown over time.")


class Panel(PointOfExperiment):
    """One panel of a sweep figure."""

    axis: str = Field(
        min_length=1,
        description="The horizontal axis: gap, members or a parameter of the system; or time, for a single run. "
        "What else the experiment varies is fixed by where.",
    )
    seed: Seed | None = Field(None, description="For axis time: the test seed that is shown.")
    score: Score | None = Field(None, description="The vertical axis, instead of the figure's.")
    guide: float | None = Field(None, description="Power of the axis that a grey guide line follows, such as -0.5.")

    @model_validator(mode="after")
    def _keys_of_the_axis(self) -> Panel:
        if self.axis == TIME and self.seed is None:
            raise ValueError("axis 'time' shows a single run: it needs a seed")
        if self.axis == TIME and self.guide is not None:
            raise ValueError(f"guide {self.guide} is for axes other than 'time'")
        if self.axis != TIME and self.seed is not None:
            raise ValueError(f"seed {self.seed} is for axis 'time'; other axes show all test seeds")
        return self


class SweepFigure(FigureSection):
    """Figures 4 and 5: a score against an axis, one line a filter, one panel an experiment, observation and score."""

    kind: Literal["sweep"] = Field(description="sweep: a score against an axis.")
    score: Score = Field("rmse", description="The vertical axis.")
    panels: list[Panel] = Field(min_length=1, description="Panels in reading order, lettered (a), (b), ...")
    columns: int = Field(2, ge=1, le=6, description="Panels in a row.")

    def score_of(self, panel: Panel) -> str:
        """The vertical axis of a panel."""
        return panel.score or self.score

    def scores_fields(self, panel: Panel) -> bool:
        """Whether a panel's score is of fields, which over time is computed from the truth and the estimates."""
        return self.score_of(panel) in get_args(FlowScore)


class RankFigure(FigureSection, PointOfExperiment):
    """Rank histograms of the truth in the ensembles of one point of an experiment, one panel a filter."""

    kind: Literal["rank_histograms"] = Field(description="rank_histograms: how often the truth has each rank among the members.")
    ensemble: Literal["forecast", "analysis"] = Field("forecast", description="The ensemble that the truth is ranked in.")
    columns: int = Field(4, ge=1, le=6, description="Panels in a row.")


class VorticityFigure(FigureSection, PointOfExperiment):
    """Figure 5: vorticity of a flow, one row a time, with columns for truth, measurement and each filter."""

    kind: Literal["vorticity"] = Field(description="vorticity: fields of truth and analyses.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, max_length=8, description="The measurements, counted from 1, at which the fields are shown."
    )


class AnimationFigure(FigureSection, PointOfExperiment):
    """The same over time, from step to step: an animated PNG, and its last picture as PDF."""

    kind: Literal["animation"] = Field(description="animation: fields of truth, forecasts and analyses over time.")
    seed: Seed = Field(description="The test seed that is shown.")
    cycles: int = Field(4, ge=1, le=50, description="How many of the first cycles are shown.")


class SpectraFigure(FigureSection, PointOfExperiment):
    """Energy spectra of a flow at one point of an experiment: of the truth, and of each filter's analyses."""

    kind: Literal["spectra"] = Field(description="spectra: energy against the wavenumber.")


Figure = Annotated[
    TrajectoryFigure | SweepFigure | RankFigure | VorticityFigure | AnimationFigure | SpectraFigure, Field(discriminator="kind")
]


def experiments_of(figure: Figure) -> list[str]:
    """The experiments that a figure shows."""
    return [panel.experiment for panel in figure.panels] if isinstance(figure, SweepFigure) else [figure.experiment]
