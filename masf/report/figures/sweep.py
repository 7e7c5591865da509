"""A score against an axis of an experiment, one line a filter: over all seeds, or against time for
a single run.
"""

from __future__ import annotations

from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from masf.files.estimate import read_estimate
from masf.files.truth import read_velocities
from masf.report.figures.look import Look, label_ends, lettered
from masf.report.figures.panels import (
    LOST_SCORE,
    end_below_scores,
    lost_runs,
    panel_grid,
    panel_rows,
    panel_title,
    say_what_bars_are,
    score_axis,
    score_line,
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
    panel an experiment.

    Lines are named at the right end of each row of panels; of panels over time, beside each, with
    the score of the run.
    """
    shown = [
        panel_rows(study, definition, panel, definition.score_of(panel), scores, seed=panel.seed)
        for panel in definition.panels
    ]
    look, columns = Look.of(study), definition.columns
    figure, axes = panel_grid([set(of_panel["label"]) for of_panel in shown], columns)
    drawn: list[dict[str, Line2D]] = []
    for i, (panel, of_panel, ax) in enumerate(zip(definition.panels, shown, axes, strict=True)):
        if panel.axis == TIME:
            drawn.append(_over_time(study, definition, panel, of_panel, look, ax))
        else:
            drawn.append(_over_seeds(definition, panel, of_panel, look, ax))
        score_axis(ax, definition.score_of(panel))
        lettered(ax, ascii_lowercase[i], _title(panel))
    if any(
        p.axis != TIME and len(study.seeds(study.config.experiments[p.experiment])) > 1
        for p in definition.panels
    ):
        say_what_bars_are(figure, shown)
    figure.draw_without_rendering()  # panels have their sizes then
    for i in range(0, len(shown), columns):
        part = slice(i, i + columns)
        _label(definition.panels[part], axes[part], drawn[part])
    return figure


def _label(panels: list[Panel], axes: list[Axes], drawn: list[dict[str, Line2D]]) -> None:
    """Names the lines of a row of panels: those over seeds once, beside the last such panel."""
    of_row: dict[str, Line2D] = {}
    last: Axes | None = None
    for panel, ax, lines in zip(panels, axes, drawn, strict=True):
        if panel.axis == TIME:
            label_ends(ax, lines, "time average")
        else:
            of_row, last = of_row | lines, ax
    if last is not None:
        label_ends(last, of_row)


def _title(panel: Panel) -> str:
    words = panel_title(panel)
    return f"{words}, seed {panel.seed}" if panel.axis == TIME else words


def _over_seeds(
    definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> dict[str, Line2D]:
    """Means and standard deviations of a score over seeds; the line of each filter. Filters stand a
    little side by side.
    """
    score_name, column = definition.score_of(panel), axis_column(panel.axis)
    present = [label for label in look.colours if label in set(rows["label"])]
    lines = {}
    for i, label in enumerate(present):
        points = (
            rows[rows["label"] == label]
            .groupby(column)[score_name]
            .agg(["mean", "std"])
            .dropna(subset="mean")
        )
        place = i - (len(present) - 1) / 2
        lines[label] = score_line(
            ax, points.index, points["mean"], points["std"], look, label, place
        )
    lost_runs(ax, rows[column], rows, look)
    values = sorted(rows[column].unique())
    if panel.axis in LOGARITHMIC:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.margins(x=0.08)
    ax.set_xlabel(AXIS_LABELS.get(panel.axis, panel.axis))
    end_below_scores(ax, score_name, rows[score_name])
    if panel.guide is not None:
        positive = rows.loc[rows[score_name] > 0, score_name]
        _guide(ax, np.array(values, dtype=float), positive, panel.guide)
    return lines


def _guide(ax: Axes, x: np.ndarray, positive: pd.Series, power: float) -> None:
    """A grey line through the middle of a panel's positive scores that follows a power of the
    axis.
    """
    if len(positive):
        y = x**power * np.exp(np.mean(np.log(positive)) - power * np.mean(np.log(x)))
        ax.plot(x, y, color="0.8", lw=3, zorder=0, solid_capstyle="butt")


def _over_time(
    study: Study, definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes
) -> dict[str, Line2D]:
    """A score of one run at every step, or every measurement; the line of each filter, by its name
    and the run's score.

    Runs that diverged are cut off where they leave the range of the others.
    """
    score_name = definition.score_of(panel)
    (cell,) = study.point_cells(panel, panel.seed)
    # A run is shown whether it kept the track or not.
    of_run = dict(
        zip(rows["filter"].astype(str), rows[score_name].fillna(rows[LOST_SCORE]), strict=True)
    )
    lost = set(rows.loc[rows[LOST_SCORE].notna(), "filter"])
    steps, finished, lines = cell.settings.steps, [], {}
    of_fields = score_name in FLOW_SCORES
    velocities = (
        read_velocities(study.results / cell.truth, cell.settings)[steps] if of_fields else None
    )
    for name in study.figure_filters(definition, panel.experiment):
        data = read_estimate(
            study.results / cell.estimate(name), *([] if of_fields else [score_name])
        )
        label, average = study.filters[name].label, of_run[name]
        if velocities is not None:
            by_step, values = (
                False,
                vorticity_scores(data["mean"].values[steps], velocities)[score_name],
            )
        else:
            by_step, values = data[score_name].dims == ("model_time",), data[score_name].values
        times = data["model_time" if by_step else "cycle_time"].values
        circles = steps.copy() if by_step else np.arange(len(times))
        if score_name == "rmse":
            # A measurement time has two errors: the forecast's, then the analysis'.
            times, values = (
                np.insert(x, circles, y)
                for x, y in ((times, times[circles]), (values, data["rmse_forecast"]))
            )
            circles += np.arange(1, len(circles) + 1)
        if np.isfinite(average):
            finished += [values.min(), values.max()]
        said = f"{average:.3f}" if np.isfinite(average) else "diverged"
        (lines[f"{label}  {said}{', lost track' if name in lost else ''}"],) = ax.plot(
            times,
            values,
            color=look.colours[label],
            dashes=look.pattern(label),
            lw=0.9,
            marker="o",
            mfc="white",
            mew=0.8,
            ms=3,
            markevery=list(circles),
        )
    if finished:
        low, high = min(finished), max(finished)
        pad = 0.05 * (high - low)
        ax.set_ylim(
            (low - pad, high + pad) if score_name in FLOW_SCORES else (low / 1.1, high * 1.1)
        )
    ax.set_xlabel("model time")
    if cell.spin_up_cycles:
        ax.axvspan(
            0, float(data["cycle_time"][cell.spin_up_cycles - 1]), color="0.93", lw=0, zorder=0
        )
    ax.margins(x=0.01)
    return lines
