"""What figures share that plot scores: the grid of their panels, titles and score axes, and a
filter's line with its bars.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from masf.report.figures.look import (
    LABEL_SIZE,
    PAGE_WIDTH,
    Look,
    label_ends,
    labels_height,
    lettered,
)
from masf.report.figures.points import LOST_SCORE
from masf.report.words import number_or_text
from masf.scores.fields import FLOW_SCORES
from masf.scores.run import SCORES
from masf.study.figures.base import PointOfExperiment

BESIDE = 0.8
"""Points from one filter to the next, so that error bars can be told apart."""
NARROW, WIDE = 5, 1000
"""Of a score, largest over smallest: where ticks at 1, 2, 5, 10, ... would be too few, and where
too many.
"""


@dataclass(frozen=True)
class Drawn:
    """What is in a panel."""

    score: str
    title: str
    lines: dict[str, Line2D]
    """By what they are called."""
    head: str | None = None
    """What stands above these names where they are of this panel alone; None where a row of panels
    names its lines once.
    """


def score_figure(
    rows: Sequence[pd.DataFrame],
    columns: int,
    draw: Callable[[int, Axes], Drawn],
    *,
    over_seeds: bool,
) -> Figure:
    """A figure of lettered panels of scores, whose lines are named at the right end of each row.

    Args:
        rows: what each panel shows, see masf.report.figures.points.
        columns: how many panels stand in a row.
        draw: draws a panel, given its number, into its axes.
        over_seeds: whether some panel has points over several seeds.
    """
    figure, axes = panel_grid([set(of_panel["label"]) for of_panel in rows], columns)
    drawn = []
    for i, ax in enumerate(axes):
        drawn.append(draw(i, ax))
        score_axis(ax, drawn[-1].score)
        lettered(ax, ascii_lowercase[i], drawn[-1].title)
    if over_seeds:
        say_what_bars_are(figure, rows)
    figure.draw_without_rendering()  # panels have their sizes then
    for i in range(0, len(axes), columns):
        _name_lines(axes[i : i + columns], drawn[i : i + columns])
    return figure


def _name_lines(axes: Sequence[Axes], drawn: Sequence[Drawn]) -> None:
    """Names the lines of a row of panels: those that panels share once, beside the last of
    these.
    """
    of_row: dict[str, Line2D] = {}
    last: Axes | None = None
    for ax, panel in zip(axes, drawn, strict=True):
        if panel.head is not None:
            label_ends(ax, panel.lines, panel.head)
        else:
            of_row, last = of_row | panel.lines, ax
    if last is not None:
        label_ends(last, of_row)


def panel_grid(labels: Sequence[Collection[str]], columns: int) -> tuple[Figure, list[Axes]]:
    """A figure of panels in rows of ``columns`` at most, and its panels in reading order.

    Args:
        labels: of each panel, the filters that it shows: rows are high enough to name all of theirs
            beside them.
        columns: how many panels stand in a row.
    """
    columns = min(columns, len(labels))
    rows = -(-len(labels) // columns)
    most = max(len(set().union(*labels[i : i + columns])) for i in range(0, len(labels), columns))
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(PAGE_WIDTH, max(2.0, labels_height(most) + 0.6) * rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for ax in list(grid.flat)[len(labels) :]:
        ax.set_axis_off()
    return figure, list(grid.flat)[: len(labels)]


def panel_title(panel: PointOfExperiment) -> str:
    """What is chosen in a panel, in words."""
    chosen = (f"{name} {number_or_text(value)}" for name, value in panel.where.items())
    return ", ".join([f"{panel.observation.replace('_', ' ')} observed", *chosen])


def score_axis(ax: Axes, score: str) -> None:
    """Names and scales the vertical axis; what is drawn must be there."""
    ax.set_ylabel(SCORES[score])
    if score in FLOW_SCORES:
        return
    # Filters differ by factors, and the free run is far from all others.
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    subs = (1, 2, 5) if high < WIDE * low else (1,)
    ax.yaxis.set_major_locator(LogLocator(subs=subs) if high > NARROW * low else MaxNLocator(5))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def end_below_scores(ax: Axes, score: str, values: pd.Series) -> None:
    """Ends a logarithmic axis below the lowest score: a deviation above its mean would take it down
    without end.
    """
    positive = values[values > 0]
    if score not in FLOW_SCORES and len(positive):
        ax.set_ylim(bottom=0.9 * positive.min())


def score_lines(ax: Axes, points: pd.DataFrame, look: Look) -> dict[str, Line2D]:
    """The line of each filter with its bars, by its label; filters stand a little side by side.

    Args:
        ax: the panel.
        points: as masf.report.figures.points.points_over_seeds gives them.
        look: of the filters, in their order.
    """
    present = [label for label in look.colours if label in set(points["label"])]
    return {
        label: _line(ax, points[points["label"] == label], look, label, i - (len(present) - 1) / 2)
        for i, label in enumerate(present)
    }


def _line(ax: Axes, points: pd.DataFrame, look: Look, label: str, place: float) -> Line2D:
    """A filter's line with its bars, ``place`` filters to the right of where it belongs."""
    aside = ScaledTranslation(place * BESIDE / 72, 0, ax.figure.dpi_scale_trans)
    points = points.sort_values("x")
    drawn = ax.errorbar(
        points["x"],
        points["mean"],
        [points["mean"] - points["low"], points["high"] - points["mean"]],
        color=look.colours[label],
        dashes=look.pattern(label),
        marker=look.markers[label],
        mec="white",
        mew=0.3,
        elinewidth=0.8,
        capsize=1.2,
    )
    # Afterwards, because Matplotlib scales axes by what is drawn in their own coordinates.
    for artist in drawn.get_children():
        artist.set_transform(artist.get_transform() + aside)
    return drawn.lines[0]


def lost_runs(ax: Axes, x: pd.Series, rows: pd.DataFrame, look: Look) -> None:
    """A hollow point for each run of a panel that lost track, at ``x``, one value a row; the
    filter's line is the mean of the others.
    """
    for label, own in rows.dropna(subset=LOST_SCORE).groupby("label"):
        ax.plot(
            x[own.index],
            own[LOST_SCORE],
            ls="none",
            marker=look.markers[str(label)],
            mfc="none",
            mec=look.colours[str(label)],
            ms=4,
            clip_on=False,
        )


def say_what_bars_are(figure: Figure, shown: Iterable[pd.DataFrame]) -> None:
    """Says below the panels what points and bars are, of the rows ``shown`` in panels."""
    lost = any(rows[LOST_SCORE].notna().any() for rows in shown)
    figure.supxlabel(
        "points and bars: mean and standard deviation over seeds"
        + ("; hollow points: runs that lost track, left out of them" if lost else ""),
        fontsize=LABEL_SIZE,
        color="0.3",
        x=0.01,
        ha="left",
    )
