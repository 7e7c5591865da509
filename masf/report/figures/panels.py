"""What figures share that plot scores: the grid of their panels, titles and scales, and a filter's
line with its bars and marks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWN, CARETUP
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from masf.report.figures.look import (
    Look,
    label_ends,
    label_size,
    labels_height,
    legend_outside,
    lettered,
    page_width,
)
from masf.report.figures.points import LOST_SCORE, diverged_runs
from masf.report.words import number_or_text
from masf.scores.comparison import lacking
from masf.scores.fields import FLOW_SCORES
from masf.study.figures.base import PointOfExperiment
from masf.study.figures.scores import ScoreFigure
from masf.study.figures.style import MILLIMETRES_PER_INCH, Style

BESIDE = 0.8
"""Points from one filter to the next, so that error bars can be told apart."""
LEAST_TICKS = 5
"""Numbers along a logarithmic axis, so that it is seen to be one."""
DEEPEST_BAR = 0.5
"""How far below the lowest score a bar is shown, as a share of it: one may reach below zero."""

LETTERS_PER_POINT = 1.7
"""How many letters of a font of one point are a point wide, on average and at least."""
BAR_GOES_ON = "arrow at the border: the bar goes on"
"""What is said of such."""

LOG_SUBS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 2, 3, 5, 7),
    (1, 1.5, 2, 3, 4, 6),
    (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9),
)
"""Ticks in a decade, the coarsest first."""


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
    notes: list[str] = field(default_factory=list)
    """What is to be said below the panels."""


def score_figure(
    rows: Sequence[pd.DataFrame], definition: ScoreFigure, draw: Callable[[int, Axes], Drawn]
) -> Figure:
    """A figure of lettered panels of scores, whose lines are named at the right end of each row.
    Panels of one score in one row have the same vertical limits.

    Args:
        rows: what each panel shows, see masf.report.figures.points.
        definition: of the figure, which says how many panels stand in a row, and its style.
        draw: draws a panel, given its number, into its axes, and scales these.
    """
    style, columns = definition.style, definition.style.columns or definition.columns
    figure, axes = panel_grid([set(of_panel["label"]) for of_panel in rows], columns, style)
    drawn = []
    for i, ax in enumerate(axes):
        drawn.append(draw(i, ax))
        lettered(ax, ascii_lowercase[i], drawn[-1].title)
    in_rows = [slice(i, i + columns) for i in range(0, len(axes), columns)]
    for part in in_rows:
        _same_limits(axes[part], drawn[part])
    for ax in axes:
        if ax.get_yscale() == "log":
            number_log_axis(ax, "y")
    say_below(figure, _notes_of(drawn))
    if style.legend != "direct":
        if style.legend == "above":
            lines = {label: line for panel in drawn for label, line in panel.lines.items()}
            legend_outside(figure, list(lines.values()), list(lines), above=True)
        return figure
    figure.draw_without_rendering()  # panels have their sizes then
    for part in in_rows:
        _name_lines(axes[part], drawn[part])
    return figure


def _notes_of(drawn: Sequence[Drawn]) -> list[str]:
    """What is said of the panels, each thing once; ``{letter}`` stands for the panel's."""
    return list(
        dict.fromkeys(
            note.format(letter=letter)
            for letter, panel in zip(ascii_lowercase, drawn, strict=False)
            for note in panel.notes
        )
    )


def _same_limits(axes: Sequence[Axes], drawn: Sequence[Drawn]) -> None:
    for score in {panel.score for panel in drawn}:
        alike = [ax for ax, panel in zip(axes, drawn, strict=True) if panel.score == score]
        low, high = zip(*(ax.get_ylim() for ax in alike), strict=True)
        for ax in alike:
            ax.set_ylim(min(low), max(high))


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


def panel_grid(
    labels: Sequence[Collection[str]], columns: int, style: Style
) -> tuple[Figure, list[Axes]]:
    """A figure of panels in rows of ``columns`` at most, and its panels in reading order.

    Args:
        labels: of each panel, the filters that it shows: rows are high enough to name all of theirs
            beside them.
        columns: how many panels stand in a row.
        style: of the figure.
    """
    columns = min(columns, len(labels))
    rows = -(-len(labels) // columns)
    most = max(len(set().union(*labels[i : i + columns])) for i in range(0, len(labels), columns))
    named = labels_height(most) if style.legend == "direct" else 0.0
    height = max(2.0, named + 0.6)
    if style.row_height is not None:
        height = style.row_height / MILLIMETRES_PER_INCH
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(page_width(), height * rows + 0.3),
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


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers for a logarithmic axis from ``low`` to ``high``: round ones, as few as can be but
    LEAST_TICKS.
    """
    for subs in LOG_SUBS:
        ticks = LogLocator(subs=subs).tick_values(low, high)
        inside = [float(t) for t in ticks if low <= t <= high]
        if len(inside) >= LEAST_TICKS:
            return inside
    # Less than a decade, in which no multiple of a power of ten stands often enough.
    ticks = MaxNLocator(LEAST_TICKS + 2, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(t) for t in ticks if low <= t <= high]


def number_log_axis(ax: Axes, which: str) -> None:
    """Numbers the logarithmic axis ``x`` or ``y`` of a panel, whose limits are final, and says that
    it is one.
    """
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    ticks = log_ticks(low, high)
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_label_text(f"{axis.get_label_text()} (log scale)")


def scale_of(score: str, style: Style) -> str:
    """The scale of a score: errors by their logarithm, where the style does not say, because
    filters differ by factors, and the free run is far from all others.
    """
    return style.scale or ("linear" if score in FLOW_SCORES else "log")


def apply_limits(ax: Axes, style: Style) -> None:
    """Ends the axes of a panel where the style says."""
    for which, limits in (("x", style.limits.x), ("y", style.limits.y)):
        if limits is not None:
            ax.set(**{f"{which}lim": limits})


def score_scale(
    ax: Axes, score: str, rows: pd.DataFrame, points: pd.DataFrame, style: Style
) -> None:
    """Scales the vertical axis of a panel of scores over seeds. Bars are inside, but for the ends
    of those that go far below the lowest score on a logarithmic axis, which are marked.
    """
    ax.set_yscale(scale_of(score, style))
    if ax.get_yscale() == "linear":
        return
    positive = [values[values > 0] for values in (rows[score], rows[LOST_SCORE])]
    if not any(len(values) for values in positive):
        return
    lowest = min(values.min() for values in positive if len(values))
    ends = points.loc[points["low"] > DEEPEST_BAR * lowest, "low"]
    ax.set_ylim(bottom=0.9 * min(lowest, ends.min() if len(ends) else lowest))


@dataclass(frozen=True)
class SideBySide:
    """Where filters stand in a panel: a little side by side, in the order of their looks."""

    ax: Axes
    look: Look
    labels: list[str]

    @classmethod
    def of(cls, ax: Axes, look: Look, labels: Iterable[str]) -> SideBySide:
        present = set(labels)
        return cls(ax, look, [label for label in look.colours if label in present])

    def aside(self, label: str) -> ScaledTranslation:
        """How far a filter stands from where it belongs."""
        place = self.labels.index(label) - (len(self.labels) - 1) / 2
        return ScaledTranslation(place * BESIDE / 72, 0, self.ax.figure.dpi_scale_trans)

    def lines(self, points: pd.DataFrame) -> dict[str, Line2D]:
        """The line of each filter with its bars, by its label.

        Args:
            points: as masf.report.figures.points.points_over_seeds gives them; hollow where a
                column ``whole`` is false.
        """
        return {
            label: self._line(points[points["label"] == label], label)
            for label in self.labels
            if label in set(points["label"])
        }

    def _line(self, points: pd.DataFrame, label: str) -> Line2D:
        points, colour = points.sort_values("x"), self.look.colours[label]
        drawn = self.ax.errorbar(
            points["x"],
            points["mean"],
            [points["mean"] - points["low"], points["high"] - points["mean"]],
            color=colour,
            dashes=self.look.pattern(label),
            marker=self.look.markers[label],
            mec="white",
            mew=0.3,
            elinewidth=0.8,
            capsize=1.2,
        )
        # Afterwards, because Matplotlib scales axes by what is drawn in their own coordinates.
        for artist in drawn.get_children():
            artist.set_transform(artist.get_transform() + self.aside(label))
        if "whole" in points and not points["whole"].all():
            part = points[~points["whole"]]
            marker = self.look.markers[label]
            self._marks(label, part["x"], part["mean"], marker, "white", clip_on=True)
        return drawn.lines[0]

    def lost_runs(self, x: pd.Series, rows: pd.DataFrame) -> None:
        """A hollow point for each run of a panel that lost track, at ``x``, one value a row; the
        filter's line is the mean of the others.
        """
        for label, own in rows.dropna(subset=LOST_SCORE).groupby("label"):
            marker = self.look.markers[str(label)]
            self._marks(str(label), x[own.index], own[LOST_SCORE], marker, "none")

    def diverged(self, runs: pd.DataFrame) -> None:
        """A cross at the top for each filter of which some run diverged, see
        masf.report.figures.points.diverged_runs.
        """
        self._at_border(runs, 0.985, "x")

    def cut_bars(self, points: pd.DataFrame) -> bool:
        """An arrow at the border for each bar that goes on beyond it, and whether there is any;
        limits must be final.
        """
        bottom, top = self.ax.get_ylim()
        inside = points[points["mean"].between(bottom, top)]
        below, above = inside[inside["low"] < bottom], inside[inside["high"] > top]
        self._at_border(below, 0.02, CARETDOWN)
        self._at_border(above, 0.98, CARETUP)
        return len(below) + len(above) > 0

    def _at_border(self, points: pd.DataFrame, height: float, marker: str | int) -> None:
        across = blended_transform_factory(self.ax.transData, self.ax.transAxes)
        for label, own in points.groupby("label"):
            self.ax.plot(
                own["x"],
                np.full(len(own), height),
                ls="none",
                marker=marker,
                color=self.look.colours[str(label)],
                ms=3.5,
                mew=1.0,
                transform=across + self.aside(str(label)),
                clip_on=False,
            )

    def _marks(
        self,
        label: str,
        x: pd.Series,
        y: pd.Series,
        marker: str,
        face: str,
        *,
        clip_on: bool = False,
    ) -> None:
        (drawn,) = self.ax.plot(
            x,
            y,
            ls="none",
            marker=marker,
            mfc=face,
            mec=self.look.colours[label],
            ms=4,
            clip_on=clip_on,
            zorder=3,
        )
        drawn.set_transform(drawn.get_transform() + self.aside(label))


def panel_over_seeds(
    ax: Axes,
    look: Look,
    score: str,
    rows: pd.DataFrame,
    points: pd.DataFrame,
    *,
    by: str,
    x: str,
    style: Style,
) -> tuple[dict[str, Line2D], list[str]]:
    """Draws what a panel has over seeds: lines, runs that lost track, and filters of which some
    run diverged; and scales the vertical axis.

    Args:
        ax: the panel, whose horizontal axis has its scale.
        look: of the filters.
        score: the vertical axis.
        rows: of the panel.
        points: of its lines.
        by: the column that tells the points of a line apart.
        x: the column of the horizontal axis.
        style: of the figure.

    Returns:
        The lines by their filters' labels, and what is to be said of the marks.
    """
    places = SideBySide.of(ax, look, rows["label"])
    lines = places.lines(points)
    places.lost_runs(rows[x], rows)
    score_scale(ax, score, rows, points, style)
    apply_limits(ax, style)
    diverged = diverged_runs(rows, by, x)
    places.diverged(diverged)
    cut = places.cut_bars(points)
    notes = []
    if points["high"].notna().any():
        notes.append("points and bars: mean and standard deviation over seeds")
    if rows[LOST_SCORE].notna().any():
        notes.append("hollow: runs that lost track, left out of means")
    if len(diverged):
        notes.append("×: some runs diverged")
    if lacking(rows).any():
        notes.append("some runs are missing")
    if cut:
        notes.append(BAR_GOES_ON)
    return lines, notes


def say_below(figure: Figure, notes: Iterable[str]) -> None:
    """Says something below the panels, in as many lines as it takes."""
    letters = LETTERS_PER_POINT * figure.get_figwidth() * 72 / label_size()
    if text := textwrap.fill("; ".join(notes), int(letters)):
        figure.supxlabel(text, fontsize=label_size(), color="0.3", x=0.01, ha="left")
