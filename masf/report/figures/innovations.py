"""Innovation statistics of estimates, with the truth known or not."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from masf.report.figures.look import lettered, page_width, rc_of
from masf.scores.innovations import Innovations
from masf.study.figures.style import Style

MEAN, VARIANCE, RANKS = "#0072B2", "#D55E00", "0.6"
ERRORS = 2
"""Standard errors that bars show to either side."""


def innovations(found: Sequence[tuple[str, Innovations]]) -> Figure:
    """Mean and variance of the normalised innovations of each measurement, over 0 and 1, and the
    rank histogram of the measurements, over the flat line: a row for each estimate, whose title
    says where it diverged. Bars are two standard errors.
    """
    with plt.rc_context(rc_of(Style())):
        return _innovations(found)


def _innovations(found: Sequence[tuple[str, Innovations]]) -> Figure:
    figure, grid = plt.subplots(
        len(found),
        2,
        figsize=(page_width(), 2.0 * len(found) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for row, (name, of_estimate) in enumerate(found):
        left, right = grid[row]
        _moments(left, of_estimate)
        _histogram(right, of_estimate)
        letters = [ascii_lowercase[(2 * row + i) % 26] for i in range(2)]
        lettered(left, letters[0], f"{name}: diverged" if of_estimate.diverged else name)
        lettered(right, letters[1], "rank histogram")
    grid[-1, 0].set_xlabel("measurement")
    grid[-1, 1].set_xlabel("rank among noisy forecast members")
    grid[0, 0].legend(frameon=False)
    return figure


def _moments(ax: Axes, found: Innovations) -> None:
    of_each = [found.only(j).statistics() for j in range(found.size)]
    places = 1 + np.arange(found.size)
    for key, right, colour, marker in (("mean", 0, MEAN, "o"), ("variance", 1, VARIANCE, "s")):
        values, errors = (np.array([each[k] for each in of_each]) for k in (key, f"{key}_error"))
        ax.axhline(right, color=colour, lw=0.8, ls="--")
        ax.errorbar(
            places,
            values,
            ERRORS * errors,
            fmt=marker,
            ms=3,
            color=colour,
            elinewidth=0.6,
            label=key,
        )
    ax.set_ylabel("normalised innovations")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _histogram(ax: Axes, found: Innovations) -> None:
    bins = found.ranked + 1
    shares, errors = bins * found.frequencies().T
    ax.bar(
        np.arange(bins),
        shares,
        1.0,
        yerr=ERRORS * errors,
        color=RANKS,
        linewidth=0,
        error_kw={"elinewidth": 0.6},
    )
    ax.axhline(1.0, color="k", lw=0.8, ls="--")
    ax.set_ylabel("frequency over uniform")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
