"""A score against an axis of an experiment, one line a filter: over all seeds, or against time for
a single run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from masf.files.estimate import read_estimate
from masf.files.truth import read_velocities
from masf.report.figures.look import Look
from masf.report.figures.panels import (
    Drawn,
    end_below_scores,
    lost_runs,
    panel_title,
    score_figure,
    score_lines,
)
from masf.report.figures.points import (
    LOST_SCORE,
    over_time,
    panel_rows,
    points_over_seeds,
    wide,
)
from masf.report.rows import axis_column
from masf.scores.fields import FLOW_SCORES, vorticity_scores
from masf.study.figures.sweep import TIME, Panel, SweepFigure
from masf.study.study import Study

AXIS_LABELS = {
    "dimension": "dimension $d$",
    "forcing": "forcing $F$",
    "gap": "measurement gap (steps)",
    "members": "ensemble size $N$",
    "dt": "time step",
}
LOGARITHMIC = {"dimension", "members"}


def sweep(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> Figure:
    """A score against an axis, mean and standard deviation over seeds, one line a filter and one
    panel an experiment; lines over time are named beside each panel, with the score of the run.
    """
    look, shown = Look.of(study), _rows(study, definition, scores)

    def draw(i: int, ax: Axes) -> Drawn:
        panel = definition.panels[i]
        if panel.axis == TIME:
            return _over_time(study, definition, panel, shown[i], look, ax)
        return _over_seeds(definition, panel, shown[i], look, ax)

    several = any(
        p.axis != TIME and len(study.seeds(study.config.experiments[p.experiment])) > 1
        for p in definition.panels
    )
    return score_figure(shown, definition.columns, draw, over_seeds=several)


def sweep_data(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> list[pd.DataFrame]:
    """What each panel plots: over seeds three columns a filter, one row a value of the axis; over
    time one column a filter.
    """
    return [
        over_time(*_run(study, definition, panel).columns)
        if panel.axis == TIME
        else wide(
            _points(definition, panel, rows).rename(columns={axis_column(panel.axis): panel.axis}),
            panel.axis,
        )
        for panel, rows in zip(definition.panels, _rows(study, definition, scores), strict=True)
    ]


def _rows(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> list[pd.DataFrame]:
    return [
        panel_rows(study, definition, panel, definition.score_of(panel), scores, seed=panel.seed)
        for panel in definition.panels
    ]


def _points(definition: SweepFigure, panel: Panel, rows: pd.DataFrame) -> pd.DataFrame:
    column = axis_column(panel.axis)
    return points_over_seeds(rows, definition.score_of(panel), column, column)


def _over_seeds(
    definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> Drawn:
    """Means and standard deviations of a score over seeds."""
    score, column = definition.score_of(panel), axis_column(panel.axis)
    lines = score_lines(ax, _points(definition, panel, rows), look)
    lost_runs(ax, rows[column], rows, look)
    values = sorted(rows[column].unique())
    if panel.axis in LOGARITHMIC:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    ax.set_xlabel(AXIS_LABELS.get(panel.axis, panel.axis))
    end_below_scores(ax, score, rows[score])
    if panel.guide is not None:
        positive = rows.loc[rows[score] > 0, score]
        _guide(ax, np.array(values, dtype=float), positive, panel.guide)
    return Drawn(score, panel_title(panel), lines)


def _guide(ax: Axes, x: np.ndarray, positive: pd.Series, power: float) -> None:
    """A grey line through the middle of a panel's positive scores that follows a power of the
    axis.
    """
    if len(positive):
        y = x**power * np.exp(np.mean(np.log(positive)) - power * np.mean(np.log(x)))
        ax.plot(x, y, color="0.8", lw=3, zorder=0, solid_capstyle="butt")


@dataclass(frozen=True)
class _Run:
    """A score of one run: times (n,), values (n,) by filter, and which of them are analyses."""

    times: np.ndarray
    values: dict[str, np.ndarray]
    analyses: np.ndarray
    spin_up_ends: float

    @property
    def columns(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self.times, self.values


def _run(study: Study, definition: SweepFigure, panel: Panel) -> _Run:
    """A score of one run at every step, or every measurement; of each filter."""
    score = definition.score_of(panel)
    (cell,) = study.point_cells(panel, panel.seed)
    steps, found = cell.settings.steps, {}
    of_fields = score in FLOW_SCORES
    velocities = (
        read_velocities(study.results / cell.truth, cell.settings)[steps] if of_fields else None
    )
    for name in study.figure_filters(definition, panel.experiment):
        data = read_estimate(study.results / cell.estimate(name), *([] if of_fields else [score]))
        if velocities is not None:
            by_step = False
            values = vorticity_scores(data["mean"].values[steps], velocities)[score]
        else:
            by_step, values = data[score].dims == ("model_time",), data[score].values
        times = data["model_time" if by_step else "cycle_time"].values
        analyses = steps.copy() if by_step else np.arange(len(times))
        if score == "rmse":
            # A measurement time has two errors: the forecast's, then the analysis'.
            times, values = (
                np.insert(x, analyses, y)
                for x, y in ((times, times[analyses]), (values, data["rmse_forecast"]))
            )
            analyses += np.arange(1, len(analyses) + 1)
        found[name] = values
    ends = float(data["cycle_time"][cell.spin_up_cycles - 1]) if cell.spin_up_cycles else 0.0
    return _Run(times, found, analyses, ends)


def _over_time(
    study: Study, definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> Drawn:
    """A score of one run over time; each filter's line is called by its name and the run's score.

    Runs that diverged are cut off where they leave the range of the others.
    """
    score, run = definition.score_of(panel), _run(study, definition, panel)
    # A run is shown whether it kept the track or not.
    of_run = dict(
        zip(rows["filter"].astype(str), rows[score].fillna(rows[LOST_SCORE]), strict=True)
    )
    lost = set(rows.loc[rows[LOST_SCORE].notna(), "filter"])
    finished, lines = [], {}
    for name, values in run.values.items():
        label, average = study.filters[name].label, of_run[name]
        if np.isfinite(average):
            finished += [values.min(), values.max()]
        said = f"{average:.3f}" if np.isfinite(average) else "diverged"
        (lines[f"{label}  {said}{', lost track' if name in lost else ''}"],) = ax.plot(
            run.times,
            values,
            color=look.colours[label],
            dashes=look.pattern(label),
            lw=0.9,
            marker="o",
            mfc="white",
            mew=0.8,
            ms=3,
            markevery=list(run.analyses),
        )
    if finished:
        low, high = min(finished), max(finished)
        pad = 0.05 * (high - low)
        ax.set_ylim((low - pad, high + pad) if score in FLOW_SCORES else (low / 1.1, high * 1.1))
    ax.set_xlabel("model time")
    if run.spin_up_ends:
        ax.axvspan(0, run.spin_up_ends, color="0.93", lw=0, zorder=0)
    ax.margins(x=0.01)
    return Drawn(score, f"{panel_title(panel)}, seed {panel.seed}", lines, head="time average")
