"""Rank histograms."""

from __future__ import annotations

from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from masf.files.estimate import read_estimate
from masf.report.figures.look import Look, label_size, lettered, page_width
from masf.study.figures.ranks import RankFigure
from masf.study.study import Study


def rank_histograms(study: Study, definition: RankFigure) -> Figure:
    """How often the truth has each rank among the first members, over the flat line, one panel a
    filter.

    Bars are means over seeds of the histogram pooled over components and cycles after spin-up,
    lines their standard deviation.
    """
    cells = study.point_cells(definition)
    names = study.figure_filters(definition, definition.experiment)
    columns = min(definition.columns, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(page_width(), 1.5 * rows + 0.4),
        squeeze=False,
        layout="constrained",
        sharey=True,
    )
    look = Look.of(study)
    variable = "ranks" if definition.ensemble == "analysis" else "ranks_forecast"
    for i, (name, ax) in enumerate(zip(names, grid.flat, strict=False)):
        label = study.filters[name].label
        histograms = []
        for cell in cells:
            data = read_estimate(study.results / cell.estimate(name))
            if not data.attrs["diverged"]:
                counts = data[variable].values[cell.spin_up_cycles :].astype(np.float64).sum(axis=0)
                histograms.append(counts / counts.mean())
        if histograms:
            mean = np.mean(histograms, axis=0)
            deviation = np.std(histograms, axis=0, ddof=1) if len(histograms) > 1 else None
            ax.bar(
                np.arange(len(mean)),
                mean,
                1.0,
                yerr=deviation,
                color=look.colours[label],
                alpha=0.6,
                linewidth=0,
                error_kw={"elinewidth": 0.6},
            )
        missing = len(cells) - len(histograms)
        if missing:
            ax.text(
                0.5,
                0.9,
                f"diverged in {missing} of {len(cells)}",
                ha="center",
                transform=ax.transAxes,
                fontsize=label_size(),
            )
        ax.axhline(1.0, color="k", lw=0.8, ls="--")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        lettered(ax, ascii_lowercase[i % 26], label)
    for ax in list(grid.flat)[len(names) :]:
        ax.set_axis_off()
    figure.supxlabel(
        f"rank of the truth among members of the {definition.ensemble} ensemble", fontsize=8
    )
    figure.supylabel("frequency over uniform")
    return figure
