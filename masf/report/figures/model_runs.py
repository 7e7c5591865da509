"""A score against model runs a cycle, one line or point a filter."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from masf.report.figures.look import LABEL_SIZE, Look
from masf.report.figures.panels import (
    Drawn,
    end_below_scores,
    lost_runs,
    panel_title,
    score_figure,
    score_lines,
)
from masf.report.figures.points import LOST_SCORE, panel_rows, points_over_seeds, wide
from masf.study.figures.model_runs import ModelRunsFigure
from masf.study.study import Study

RUNS = "model_runs_per_cycle"
MARGIN = 1.3
"""How far the axis goes beyond the fewest and the most model runs, as a factor."""


def model_runs(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> Figure:
    """A score against model runs a cycle, means over seeds, the ensemble sizes of a filter
    joined.
    """
    look, shown = Look.of(study), _rows(study, definition, scores, costs)

    def draw(i: int, ax: Axes) -> Drawn:
        return _panel(definition.score, panel_title(definition.panels[i]), shown[i], look, ax)

    several = any(len(study.seeds(study.config.experiments[e])) > 1 for e in definition.experiments)
    return score_figure(shown, definition.columns, draw, over_seeds=several)


def model_runs_data(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> list[pd.DataFrame]:
    """What each panel plots, three columns a filter beside its model runs, one row an ensemble
    size.
    """
    return [
        wide(points_over_seeds(rows, definition.score, "members", RUNS), "members", "runs")
        for rows in _rows(study, definition, scores, costs)
    ]


def _rows(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> list[pd.DataFrame]:
    joined = scores.merge(costs[["cell", "filter", RUNS]], on=["cell", "filter"])
    return [
        panel_rows(study, definition, panel, definition.score, joined)
        for panel in definition.panels
    ]


def _panel(score: str, title: str, rows: pd.DataFrame, look: Look, ax: Axes) -> Drawn:
    """Means of a score over seeds against those of model runs."""
    finished = rows.dropna(subset=score)
    known = finished.dropna(subset=RUNS)
    lines = score_lines(ax, points_over_seeds(rows, score, "members", RUNS), look)
    lost_runs(ax, rows[RUNS], rows, look)
    ax.set_xscale("log")
    if (shown := rows[RUNS].where(rows[score].notna() | rows[LOST_SCORE].notna())).notna().any():
        ax.set_xlim(shown.min() / MARGIN, shown.max() * MARGIN)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("model runs a cycle")
    end_below_scores(ax, score, known[score])
    unknown = [label for label in look.colours if label in {*finished["label"]} - {*known["label"]}]
    if unknown:
        ax.text(
            0.02,
            0.02,
            "\n".join(["model runs unknown:", *unknown]),
            transform=ax.transAxes,
            fontsize=LABEL_SIZE,
            color="0.3",
        )
    return Drawn(score, title, lines)
