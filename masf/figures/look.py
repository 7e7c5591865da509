"""What all figures share: sizes, the look of each filter, letters and legends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masf.palette import DASHES, looks
from masf.study import Study

PAGE_WIDTH = 7.0
"""Inches."""

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Look:
    """Colours, markers and dashes of every filter, by label, as seaborn takes them; see masf.palette."""

    colours: dict[str, str]
    markers: dict[str, str]
    dashes: dict[str, object]

    def pattern(self, label: str) -> Any:
        """The dashes of a filter as Matplotlib's own lines take them."""
        return self.dashes[label] or (None, None)

    @classmethod
    def of(cls, study: Study) -> Look:
        """The look of this study's filters, by label."""
        own = {study.filters[name].label: look for name, look in looks(study).items()}
        return cls(
            {label: look.colour for label, look in own.items()},
            {label: look.marker for label, look in own.items()},
            {label: DASHES[look.line] for label, look in own.items()},
        )


def legend_below(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """A legend below the panels, in as few and as even rows as the page is wide enough for; the page grows for more than two."""
    for rows in range(1, len(labels) + 1):
        columns = -(-len(labels) // rows)
        legend = figure.legend(handles, labels, loc="outside lower center", ncol=columns, frameon=False, columnspacing=1.2)
        extent = legend.get_window_extent()
        if columns == 1 or extent.width <= figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + max(0.0, extent.height / figure.dpi - 0.4))
            return
        legend.remove()


def legend_beside(ax: Axes, handles: list[Any], labels: list[str], title: str | None = None) -> None:
    """A legend of one panel, to its right."""
    ax.legend(
        handles, labels, title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), ncol=-(-len(labels) // 15), frameon=False,
        fontsize=7, title_fontsize=7, alignment="left", labelspacing=0.2, handlelength=2.0,
    )  # fmt: skip


def lettered(ax: Axes, letter: str, title: str) -> None:
    """Puts a letter and a title above a panel, and takes the lines from above and to its right."""
    ax.set_title(f"({letter}) {title}", loc="left")
    sns.despine(ax=ax)
