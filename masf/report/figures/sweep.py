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
    BAR_GOES_ON,
    Drawn,
    SideBySide,
    apply_limits,
    panel_over_seeds,
    panel_title,
    scale_of,
    score_figure,
)
from masf.report.figures.points import (
    LOST_SCORE,
    chosen_filters,
    over_time,
    panel_rows,
    points_over_seeds,
    points_relative,
    wide,
)
from masf.report.rows import axis_column
from masf.scores.comparison import CONFIDENCE
from masf.scores.fields import FLOW_SCORES, vorticity_scores
from masf.scores.run import SCORES
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
NEAR = 2.0
"""A companion shows what is within this factor of the filter that all are divided by."""


def sweep(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> Figure:
    """A score against an axis, mean and standard deviation over seeds, one line a filter and one
    panel an experiment; lines over time are named beside each panel, with the score of the run.
    """
    look, shown = Look.of(study), _rows(study, definition, scores)

    def draw(i: int, ax: Axes) -> Drawn:
        panel = definition.panels[i]
        if panel.axis == TIME:
            return _over_time(study, definition, panel, shown[i], look, ax)
        if definition.part == "relative":
            return _relative(study, definition, panel, shown[i], look, ax)
        return _over_seeds(definition, panel, shown[i], look, ax)

    return score_figure(shown, definition, draw)


def sweep_data(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> list[pd.DataFrame]:
    """What each panel plots: over seeds three columns a filter, one row a value of the axis; over
    time one column a filter.
    """
    return [
        over_time(*_run(study, definition, panel, rows).columns)
        if panel.axis == TIME
        else wide(
            _points(definition, panel, rows).rename(columns={axis_column(panel.axis): panel.axis}),
            panel.axis,
        )
        for panel, rows in zip(definition.panels, _rows(study, definition, scores), strict=True)
    ]


def _rows(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> list[pd.DataFrame]:
    """What each panel shows: of the filters that this part of the figure is of, and of the one that
    all are divided by.
    """
    panels = [
        panel_rows(study, definition, panel, definition.score_of(panel), scores, seed=panel.seed)
        for panel in definition.panels
    ]
    chosen = chosen_filters(definition, panels)
    if definition.part == "relative":
        chosen = [*chosen, str(definition.relative_to)]
    return [rows[rows["filter"].isin(chosen)] for rows in panels]


def _points(definition: SweepFigure, panel: Panel, rows: pd.DataFrame) -> pd.DataFrame:
    column, score = axis_column(panel.axis), definition.score_of(panel)
    if definition.part == "relative":
        return points_relative(rows, score, str(definition.relative_to), column)
    return points_over_seeds(rows, score, column, column)


def _over_seeds(
    definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> Drawn:
    """Means and standard deviations of a score over seeds."""
    score, column = definition.score_of(panel), axis_column(panel.axis)
    _scale_axis(ax, panel, rows[column])
    points = _points(definition, panel, rows)
    lines, notes = panel_over_seeds(
        ax, look, score, rows, points, by=column, x=column, style=definition.style
    )
    ax.set_ylabel(SCORES[score])
    if panel.guide is not None:
        positive = rows.loc[rows[score] > 0, score]
        _guide(ax, np.array(sorted(rows[column].unique()), dtype=float), positive, panel.guide)
    return Drawn(score, panel_title(panel), lines, notes=notes)


def _relative(
    study: Study, definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> Drawn:
    """Scores over those of another filter, with their paired confidence intervals."""
    score, other = definition.score_of(panel), study.filters[str(definition.relative_to)].label
    _scale_axis(ax, panel, rows[axis_column(panel.axis)])
    points = _points(definition, panel, rows)
    near = points["mean"].between(1 / NEAR, NEAR)
    shown = points[points["label"].isin(points.loc[near, "label"])]
    ax.axhline(1.0, color=look.colours[other], lw=0.8, zorder=1)
    places = SideBySide.of(ax, look, shown["label"])
    lines = places.lines(shown)
    ax.set_yscale(scale_of(score, definition.style))
    inside = points[near]
    ends = [1.0, *inside["mean"], *inside["low"].dropna(), *inside["high"].dropna()]
    low, high = np.clip([min(ends), max(ends)], 0.9 / NEAR, 1.1 * NEAR)
    ax.set_ylim(low / 1.03, high * 1.03)
    apply_limits(ax, definition.style)
    ax.set_ylabel(f"{SCORES[score]} / that of {other}")
    notes = [f"points and bars: mean ratio and its {CONFIDENCE:.0%} interval, paired by seed"]
    if not shown["whole"].all():
        notes.append("hollow: pairs with a run that diverged or lost track are left out")
    if places.cut_bars(shown):
        notes.append(BAR_GOES_ON)
    far = [label for label in look.colours if label in {*points["label"]} - {*shown["label"]}]
    if far:
        notes.append(f"nowhere within a factor of {NEAR:g} in ({{letter}}): {', '.join(far)}")
    return Drawn(score, panel_title(panel), lines, notes=notes)


def _scale_axis(ax: Axes, panel: Panel, values: pd.Series) -> None:
    """Scales and names the horizontal axis of a panel over seeds, with its values as ticks."""
    ticks, label = sorted(values.unique()), AXIS_LABELS.get(panel.axis, panel.axis)
    if panel.axis in LOGARITHMIC:
        ax.set_xscale("log")
        label = f"{label} (log scale)"
    ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    ax.set_xlabel(label)


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


def _run(study: Study, definition: SweepFigure, panel: Panel, rows: pd.DataFrame) -> _Run:
    """A score of one run at every step, or every measurement; of each filter that has a row."""
    score = definition.score_of(panel)
    (cell,) = study.point_cells(panel, panel.seed)
    steps, found = cell.settings.steps, {}
    of_fields = score in FLOW_SCORES
    velocities = (
        read_velocities(study.results / cell.truth, cell.settings)[steps] if of_fields else None
    )
    present = set(rows["filter"])
    for name in study.figure_filters(definition, panel.experiment):
        if name not in present:
            continue
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
    score, run = definition.score_of(panel), _run(study, definition, panel, rows)
    # A run is shown whether it kept the track or not.
    of_run = dict(
        zip(rows["filter"].astype(str), rows[score].fillna(rows[LOST_SCORE]), strict=True)
    )
    lost = set(rows.loc[rows[LOST_SCORE].notna(), "filter"])
    finished, lines = [], {}
    # As the axis goes: the highest score is on top, and above it those that have none.
    by_score = sorted(run.values, key=lambda name: -np.nan_to_num(of_run[name], nan=np.inf))
    for name in by_score:
        values = run.values[name]
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
    ax.set_yscale(scale_of(score, definition.style))
    ax.set(xlabel="model time", ylabel=SCORES[score])
    if run.spin_up_ends:
        ax.axvspan(0, run.spin_up_ends, color="0.93", lw=0, zorder=0)
    ax.margins(x=0.01)
    apply_limits(ax, definition.style)
    return Drawn(score, f"{panel_title(panel)}, seed {panel.seed}", lines, head="time average")
