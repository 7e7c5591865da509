"""A score against what a cycle costs, one line or point a filter."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masf.report.figures.look import Look, label_size
from masf.report.figures.panels import (
    Drawn,
    number_log_axis,
    panel_over_seeds,
    panel_title,
    score_figure,
)
from masf.report.figures.points import (
    LOST_SCORE,
    chosen_filters,
    panel_rows,
    points_over_seeds,
    wide,
)
from masf.scores.run import SCORES
from masf.study.figures.model_runs import ModelRunsFigure
from masf.study.study import Study

COSTS = {
    "model_runs": "model runs",
    "cpu_seconds": "processor seconds",
    "seconds": "seconds",
}
"""What each cost is called; its column in costs.parquet is ``{cost}_per_cycle``."""
MARGIN = 1.3
"""How far the axis goes beyond the lowest and the highest cost, as a factor."""


def model_runs(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> Figure:
    """A score against what a cycle costs, means over seeds, the ensemble sizes of a filter
    joined.
    """
    look, shown = Look.of(study), _rows(study, definition, scores, costs)

    def draw(i: int, ax: Axes) -> Drawn:
        return _panel(definition, panel_title(definition.panels[i]), shown[i], look, ax)

    return score_figure(shown, definition, draw)


def model_runs_data(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> list[pd.DataFrame]:
    """What each panel plots, three columns a filter beside its cost, one row an ensemble size."""
    column = _column(definition)
    return [
        wide(points_over_seeds(rows, definition.score, "members", column), "members", end)
        for rows in _rows(study, definition, scores, costs)
        for end in [definition.cost.removeprefix("model_")]
    ]


def _column(definition: ModelRunsFigure) -> str:
    return f"{definition.cost}_per_cycle"


def _rows(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> list[pd.DataFrame]:
    cost = _column(definition)
    joined = scores.merge(costs[["cell", "filter", cost]], on=["cell", "filter"])
    if "shipped" in joined:  # nobody kept their seconds
        joined = joined[joined["shipped"].isna() | joined[cost].notna()]
    panels = [
        panel_rows(study, definition, panel, definition.score, joined)
        for panel in definition.panels
    ]
    chosen = chosen_filters(definition, panels)
    return [rows[rows["filter"].isin(chosen)] for rows in panels]


def _panel(
    definition: ModelRunsFigure, title: str, rows: pd.DataFrame, look: Look, ax: Axes
) -> Drawn:
    """Means of a score over seeds against those of a cost."""
    score, column, said = definition.score, _column(definition), COSTS[definition.cost]
    finished = rows.dropna(subset=score)
    known = finished.dropna(subset=column)
    ax.set_xscale("log")
    points = points_over_seeds(rows, score, "members", column)
    shown = rows[column].where(rows[score].notna() | rows[LOST_SCORE].notna())
    if shown.notna().any():
        ax.set_xlim(shown.min() / MARGIN, shown.max() * MARGIN)
    lines, notes = panel_over_seeds(
        ax, look, score, rows, points, by="members", x=column, style=definition.style
    )
    ax.set(xlabel=f"{said} a cycle", ylabel=SCORES[score])
    number_log_axis(ax, "x")
    unknown = [label for label in look.colours if label in {*finished["label"]} - {*known["label"]}]
    if unknown:
        ax.text(
            0.02,
            0.02,
            "\n".join([f"{said} unknown:", *unknown]),
            transform=ax.transAxes,
            fontsize=label_size(),
            color="0.3",
        )
    return Drawn(score, title, lines, notes=notes)
