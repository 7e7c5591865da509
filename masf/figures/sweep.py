"""A score against an axis of an experiment, one line a filter: over all seeds, or against time for a single run."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from masf.dataset import read_estimate
from masf.exactness import EXACTNESS
from masf.figures.look import PAGE_WIDTH, Look, legend_below, legend_beside, lettered
from masf.scores import FLOW_SCORES, SCORES
from masf.study import TIME, Panel, Study, SweepFigure
from masf.tables import axis_column, experiment_rows

AXIS_LABELS = {
    "dimension": "dimension $d$",
    "forcing": "forcing $F$",
    "gap": "measurement gap (steps)",
    "members": "ensemble size $N$",
    "dt": "time step",
}
LOGARITHMIC = {"dimension", "members"}
NARROW = 5
"""Of a score, largest over smallest, below which ticks at 1, 2, 5, 10, ... would be too few."""


def sweep(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> Figure:
    """A score against an axis, mean and standard deviation over seeds, one line a filter and one panel an experiment.

    Panels over time have legends of their own, with the score of each run; their circles are the analyses.
    """
    columns = min(definition.columns, len(definition.panels))
    rows = -(-len(definition.panels) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(PAGE_WIDTH, 2.0 * rows + 0.6), squeeze=False, layout="constrained", sharey=False
    )
    look = Look.of(study)
    one_legend = all(panel.axis != TIME for panel in definition.panels)
    shown: dict[str, Any] = {}
    for i, (panel, ax) in enumerate(zip(definition.panels, grid.flat, strict=False)):
        rows_shown = _rows(study, definition, panel, scores)
        if panel.axis == TIME:
            _over_time(study, definition, panel, rows_shown, look, ax)
        else:
            _over_seeds(definition, panel, rows_shown, look, ax)
        _score_axis(ax, definition.score_of(panel))
        lettered(ax, ascii_lowercase[i], _title(panel))
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
        if not one_legend:
            legend_beside(ax, handles, labels, "time average" if panel.axis == TIME else None)
        elif ax.get_legend() is not None:
            ax.get_legend().remove()
    for ax in list(grid.flat)[len(definition.panels) :]:
        ax.set_axis_off()
    if one_legend:
        order = [label for label in look.colours if label in shown]
        legend_below(figure, [shown[k] for k in order], order)
    return figure


def _rows(study: Study, definition: SweepFigure, panel: Panel, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores that a panel shows, with the filters' labels."""
    rows = experiment_rows(study, panel.experiment, scores)
    rows = rows[rows["cell"].isin([cell.path for cell in study.point_cells(panel, panel.seed)])]
    filters = study.figure_filters(definition, panel.experiment)
    if definition.score_of(panel) in EXACTNESS:  # the reference has no distance to itself
        filters = [name for name in filters if name != study.config.experiments[panel.experiment].reference]
    rows = rows[rows["filter"].isin(filters)]
    return rows.assign(label=[study.filters[str(f)].label for f in rows["filter"]])


def _title(panel: Panel) -> str:
    words = [f"{panel.observation.replace('_', ' ')} observed", *(f"{name} {value:g}" for name, value in panel.where.items())]
    return ", ".join([*words, f"seed {panel.seed}"] if panel.axis == TIME else words)


def _score_axis(ax: Axes, score_name: str) -> None:
    ax.set_ylabel(SCORES[score_name])
    if score_name in FLOW_SCORES:
        return
    # Filters differ by factors, and the free run is far from all others.
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > NARROW * low else MaxNLocator(5))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _over_seeds(definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes) -> None:
    """Means and standard deviations of a score over seeds."""
    score_name, column = definition.score_of(panel), axis_column(panel.axis)
    present = [label for label in look.colours if label in set(rows["label"])]
    sns.lineplot(
        rows, x=column, y=score_name, hue="label", style="label", hue_order=present, style_order=present,
        palette=look.colours, markers=look.markers, dashes=look.dashes, errorbar="sd", err_style="bars",
        err_kws={"elinewidth": 0.8, "capsize": 1.5}, ax=ax,
    )  # fmt: skip
    values = sorted(rows[column].unique())
    if panel.axis in LOGARITHMIC:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(AXIS_LABELS.get(panel.axis, panel.axis))
    if panel.guide is not None:
        _guide(ax, rows, column, score_name, panel.guide)


def _guide(ax: Axes, rows: pd.DataFrame, column: str, score_name: str, power: float) -> None:
    """A grey line through the middle of the panel that follows a power of the axis."""
    x = np.array(sorted(rows[column].unique()), dtype=float)
    positive = rows.loc[rows[score_name] > 0, score_name]
    if len(positive):
        y = x**power * np.exp(np.mean(np.log(positive)) - power * np.mean(np.log(x)))
        ax.plot(x, y, color="0.8", lw=3, zorder=0, solid_capstyle="butt")


def _over_time(study: Study, definition: SweepFigure, panel: Panel, rows: pd.DataFrame, look: Look, ax: Axes) -> None:
    """A score of one run at every step, or every measurement, with the run's score in the legend."""
    score_name = definition.score_of(panel)
    (cell,) = study.point_cells(panel, panel.seed)
    of_run = dict(zip(rows["filter"].astype(str), rows[score_name], strict=True))
    gap = cell.settings.gap
    for name in study.figure_filters(definition, panel.experiment):
        data = read_estimate(Path(study.config.results) / cell.path / f"{name}.nc", score_name)
        label, average = study.filters[name].label, of_run[name]
        values = data[score_name].values
        by_step = data[score_name].dims == ("model_time",)
        times = data["model_time" if by_step else "cycle_time"].values
        circles = np.arange(gap, len(times), gap) if by_step else np.arange(len(times))
        if score_name == "rmse":
            # A measurement time has two errors: the forecast's, then the analysis'.
            times, values = (np.insert(x, circles, y) for x, y in ((times, times[circles]), (values, data["rmse_forecast"])))
            circles += np.arange(1, len(circles) + 1)
        ax.plot(
            times, values, color=look.colours[label], dashes=look.pattern(label), lw=0.9, marker="o", mfc="white", mew=0.8, ms=3,
            markevery=list(circles), label=f"{label}  {average:.3f}" if np.isfinite(average) else f"{label}  diverged",
        )  # fmt: skip
    ax.set_xlabel("model time")
    if cell.spin_up_cycles:
        ax.axvspan(0, float(data["cycle_time"][cell.spin_up_cycles - 1]), color="0.93", lw=0, zorder=0)
    ax.margins(x=0.01)
