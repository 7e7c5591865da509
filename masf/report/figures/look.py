"""What all figures share: sizes, the look of each filter, letters, labels and legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from matplotlib.transforms import BboxTransformTo, ScaledTranslation, blended_transform_factory
from matplotlib.typing import ColorType
from scipy.optimize import isotonic_regression

from masf.report.palette import DASHES, looks
from masf.study.figures.style import Style
from masf.study.study import Study

PAGE_HEIGHT = 9.5
"""Inches."""
LABEL_SPACING = 1.2
"""From one label beside a panel to the next, as a multiple of their size."""
READABLE_CONTRAST = 4.5

FONT_SIZE, SMALL = 8.0, 7 / 8
"""Points, and how much smaller the numbers of axes and labels beside panels are."""


def rc_of(style: Style) -> dict[Any, Any]:
    """Matplotlib's settings for a figure of this style; while they hold, :func:`page_width` and
    :func:`label_size` follow them.
    """
    size = style.font_size or FONT_SIZE
    return {
        "figure.figsize": (style.inches, 0.6 * style.inches),
        **({} if style.font is None else {"font.family": style.font}),
        "font.size": size,
        "axes.labelsize": size,
        "axes.titlesize": size,
        "legend.fontsize": size,
        "figure.labelsize": size,
        "figure.titlesize": size,
        "xtick.labelsize": SMALL * size,
        "ytick.labelsize": SMALL * size,
        "lines.linewidth": 1.2,
        "lines.markersize": 5,
        "pdf.fonttype": 42,
        "savefig.dpi": 300,
    }


def page_width() -> float:
    """Inches that a figure is wide."""
    return float(plt.rcParams["figure.figsize"][0])


def label_size() -> float:
    """Points of labels beside a panel."""
    # Where no style holds, the setting may be a word.
    return FontProperties(size=plt.rcParams["xtick.labelsize"]).get_size_in_points()


def styled(study: Study, style: Style) -> Study:
    """The study, its filters called, coloured and ordered as a figure's style says."""
    own, taken = looks(study), set(style.labels.values())

    def label(name: str, usual: str) -> str:
        # A filter that is not in the figure may have the name that one in it gets.
        return style.labels.get(name, f"{usual} ({name})" if usual in taken else usual)

    filters = {
        name: definition.model_copy(
            update={
                "label": label(name, definition.label),
                "look": own[name].model_copy(
                    update={"colour": style.colours.get(name, own[name].colour)}
                )
                if name in own
                else definition.look,
            }
        )
        for name, definition in study.filters.items()
    }
    listed = study.config.filters
    ordered = [
        *(f for f in style.order if f in listed),
        *(f for f in listed if f not in style.order),
    ]
    config = study.config.model_copy(update={"filters": ordered})
    return Study(study.resolved.model_copy(update={"config": config, "filters": filters}))


@dataclass(frozen=True)
class Look:
    """Colours, markers and dashes of every filter, by label, as seaborn takes them; see
    masf.report.palette.
    """

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


def legend_outside(
    figure: Figure,
    handles: list[Any],
    labels: list[str],
    *,
    above: bool = False,
    handler_map: dict[type, Any] | None = None,
) -> None:
    """A legend below the panels, or above them, in as few and as even rows as the page is wide
    enough for; the page grows for more than two.
    """
    for rows in range(1, len(labels) + 1):
        columns = -(-len(labels) // rows)
        legend = figure.legend(
            handles,
            labels,
            loc="outside upper center" if above else "outside lower center",
            ncol=columns,
            frameon=False,
            columnspacing=1.2,
            handler_map=handler_map,
        )
        extent = legend.get_window_extent()
        if columns == 1 or extent.width <= figure.bbox.width:
            figure.set_figheight(
                figure.get_figheight() + max(0.0, extent.height / figure.dpi - 0.4)
            )
            return
        legend.remove()


def labels_height(count: int) -> float:
    """Inches that this many labels beside a panel take."""
    return count * LABEL_SPACING * label_size() / 72


def label_ends(ax: Axes, lines: Mapping[str, Line2D], title: str | None = None) -> None:
    """Names lines to the right of a panel, near where each ends, with a sample of each; a panel
    needs no legend then.

    With a ``title`` it is a list instead, in the order of ``lines`` from above: what is said there
    tells more than where a line ends. Lines that end before the panel does, or are of another
    panel, are named without a leader to their end, and so are those of a list. The panel's scales,
    limits and height must be final.
    """
    if not lines:
        return
    figure = ax.figure
    ends = [_end(ax, line) for line in lines.values()]
    if title is not None:
        ends = [(0.0, 0.5 - 1e-6 * place) for place in range(len(ends))]
    spacing = LABEL_SPACING * label_size() / 72 / (ax.bbox.height / figure.dpi)
    overhang = max(0.0, len(lines) * spacing - 1) / 2
    places = spread([y for _, y in ends], spacing, -overhang, 1 + overhang)
    # Inches from the panel's right edge, and heights as shares of the panel's.
    beside = blended_transform_factory(
        figure.dpi_scale_trans + ScaledTranslation(1, 0, BboxTransformTo(ax.bbox)), ax.transAxes
    )
    for (label, line), (x, y), place in zip(lines.items(), ends, places, strict=True):
        sample = Line2D([], [])
        sample.update_from(line)
        sample.set(
            data=([0.14, 0.3, 0.46], [place] * 3), markevery=[1], transform=beside, clip_on=False
        )
        ax.add_artist(sample)
        ax.text(
            0.51,
            place,
            label,
            transform=beside,
            va="center",
            fontsize=label_size(),
            color=readable(line.get_color()),
        )
        if x > 0.9:
            leader = ConnectionPatch(
                (x, y),
                (0.12, place),
                ax.transAxes,
                beside,
                color=line.get_color(),
                lw=0.5,
                alpha=0.7,
            )
            leader.set_in_layout(False)
            ax.add_artist(leader)
    if title is not None:
        ax.text(
            0.51,
            places.max() + spacing,
            title,
            transform=beside,
            va="center",
            fontsize=label_size(),
            color="0.3",
        )


def _end(ax: Axes, line: Line2D) -> tuple[float, float]:
    """Where a line ends, as shares of the panel's sides; at the bottom left if it is of another
    panel or has no point.
    """
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    if line.axes is not ax or not np.isfinite(y).any():
        return 0.0, 0.0
    last = np.flatnonzero(np.isfinite(y))[-1]
    end = ax.transAxes.inverted().transform(line.get_transform().transform((x[last], y[last])))
    return float(end[0]), float(np.clip(end[1], 0, 1))


def spread(wanted: Sequence[float], spacing: float, low: float, high: float) -> np.ndarray:
    """Places as near as can be to the wanted ones, in their order and at least ``spacing`` apart,
    from ``low`` to ``high``.
    """
    order, steps = np.argsort(wanted, kind="stable"), spacing * np.arange(len(wanted))
    free = isotonic_regression(np.asarray(wanted, dtype=float)[order] - steps).x
    places = np.empty(len(wanted))
    places[order] = np.clip(free, low, high - steps[-1]) + steps
    return places


def readable(colour: ColorType) -> tuple[float, float, float]:
    """A colour as dark as text on white must be (contrast 4.5, WCAG 2.2), of the same hue."""
    rgb = np.array(to_rgb(colour))
    while _contrast_to_white(rgb) < READABLE_CONTRAST:
        rgb = 0.97 * rgb
    red, green, blue = rgb
    return red, green, blue


def _contrast_to_white(rgb: np.ndarray) -> float:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05))


def lettered(ax: Axes, letter: str, title: str) -> None:
    """Puts a letter and a title above a panel, and takes the lines from above and to its right."""
    ax.set_title(f"({letter}) {title}", loc="left")
    sns.despine(ax=ax)
