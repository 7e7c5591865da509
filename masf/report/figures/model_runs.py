"""A score against model runs a cycle, one line or point a filter."""

from __future__ import annotations

from string import ascii_lowercase

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from masf.report.figures.look import LABEL_SIZE, Look, label_ends, lettered
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
from masf.study.figures.model_runs import ModelRunsFigure
from masf.study.study import Study

RUNS = "model_runs_per_cycle"
MARGIN = 1.3
"""How far the axis goes beyond the fewest and the most model runs, as a factor."""


def model_runs(
    study: Study, definition: ModelRunsFigure, scores: pd.DataFrame, costs: pd.DataFrame
) -> Figure:
    """A score against model runs a cycle, means over seeds, the ensemble sizes of a filter joined.

    Lines are named at the right end of each row of panels.
    """
    joined = scores.merge(costs[["cell", "filter", RUNS]], on=["cell", "filter"])
    shown = [
        panel_rows(study, definition, panel, definition.score, joined)
        for panel in definition.panels
    ]
    look, columns = Look.of(study), definition.columns
    figure, axes = panel_grid([set(of_panel["label"]) for of_panel in shown], columns)
    drawn: list[dict[str, Line2D]] = []
    for i, (panel, of_panel, ax) in enumerate(zip(definition.panels, shown, axes, strict=True)):
        drawn.append(_panel(definition.score, of_panel, look, ax))
        score_axis(ax, definition.score)
        lettered(ax, ascii_lowercase[i], panel_title(panel))
    if any(len(study.seeds(study.config.experiments[e])) > 1 for e in definition.experiments):
        say_what_bars_are(figure, shown)
    figure.draw_without_rendering()  # panels have their sizes then
    for i in range(0, len(shown), columns):
        of_row = {label: line for lines in drawn[i : i + columns] for label, line in lines.items()}
        label_ends(axes[i : i + columns][-1], of_row)
    return figure


def _panel(score: str, rows: pd.DataFrame, look: Look, ax: Axes) -> dict[str, Line2D]:
    """Means of a score over seeds against those of model runs; the line of each filter."""
    finished = rows.dropna(subset=score)
    known = finished.dropna(subset=RUNS)
    present = [label for label in look.colours if label in set(known["label"])]
    lines = {}
    for i, label in enumerate(present):
        of_size = known[known["label"] == label].groupby("members")
        points = of_size[[score, RUNS]].mean().sort_values(RUNS)
        std = of_size[score].std()[points.index]
        place = i - (len(present) - 1) / 2
        lines[label] = score_line(ax, points[RUNS], points[score], std, look, label, place)
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
    return lines
