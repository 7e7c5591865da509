"""What figures share that plot scores over seeds: the rows of a panel, its title and score axis,
and a filter's line with its bars.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from masf.report.figures.look import LABEL_SIZE, PAGE_WIDTH, Look, labels_height
from masf.report.rows import experiment_rows, on_track
from masf.report.words import number_or_text
from masf.scores.exactness import EXACTNESS
from masf.scores.fields import FLOW_SCORES
from masf.scores.run import SCORES
from masf.study.figures.base import FigureSection, PointOfExperiment
from masf.study.study import Study

BESIDE = 0.8
"""Points from one filter to the next, so that error bars can be told apart."""
NARROW, WIDE = 5, 1000
"""Of a score, largest over smallest: where ticks at 1, 2, 5, 10, ... would be too few, and where
too many.
"""

LOST_SCORE = "lost_score"


def panel_rows(
    study: Study,
    definition: FigureSection,
    panel: PointOfExperiment,
    score: str,
    scores: pd.DataFrame,
    *,
    seed: int | None = None,
) -> pd.DataFrame:
    """The rows of ``scores`` that a panel of ``score`` shows, with the filters' labels; of one seed
    where it is given. Runs that lost track have their score in column LOST_SCORE instead.
    """
    rows = experiment_rows(study, panel.experiment, scores)
    rows = on_track(rows.assign(**{LOST_SCORE: rows[score].where(rows["lost"])}))
    rows = rows[rows["cell"].isin([cell.path for cell in study.point_cells(panel, seed)])]
    filters = study.figure_filters(definition, panel.experiment)
    if score in EXACTNESS:  # the reference has no distance to itself
        filters = [
            name for name in filters if name != study.config.experiments[panel.experiment].reference
        ]
    rows = rows[rows["filter"].isin(filters)]
    return rows.assign(label=[study.filters[str(f)].label for f in rows["filter"]])


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


def score_line(
    ax: Axes,
    x: pd.Index | pd.Series,
    mean: pd.Series,
    std: pd.Series,
    look: Look,
    label: str,
    place: float,
) -> Line2D:
    """A filter's line with its bars, ``place`` filters to the right of where it belongs."""
    aside = ScaledTranslation(place * BESIDE / 72, 0, ax.figure.dpi_scale_trans)
    drawn = ax.errorbar(
        x,
        mean,
        std,
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
