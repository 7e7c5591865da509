"""Stage plot: the figures of the config, in PDF and PNG, sized for a page of 7 inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from masf.dataset import read_estimate, read_truth
from masf.exactness import EXACTNESS
from masf.files import FileFault, replacing
from masf.palette import DASHES, looks
from masf.registry import make_system
from masf.scores import SCORES, score
from masf.study import ConfigFault, Panel, RankFigure, Study, SweepFigure, TrajectoryFigure
from masf.tables import axis_column, experiment_rows

PAGE_WIDTH = 7.0
"""Inches."""

AXIS_LABELS = {
    "dimension": "dimension $d$",
    "forcing": "forcing $F$",
    "gap": "measurement gap (steps)",
    "members": "ensemble size $N$",
    "dt": "time step",
}
LOGARITHMIC = {"dimension", "members"}

_STYLE: dict[Any, Any] = {
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

    @classmethod
    def of(cls, study: Study) -> Look:
        """The look of this study's filters, by label."""
        own = {study.filters[name].label: look for name, look in looks(study).items()}
        return cls(
            {label: look.colour for label, look in own.items()},
            {label: look.marker for label, look in own.items()},
            {label: DASHES[look.line] for label, look in own.items()},
        )


def draw(study: Study, name: str, scores: Path, outputs: Sequence[Path]) -> None:
    """Draws the figure ``name`` of the config into each of ``outputs``.

    Raises:
        ConfigFault: if the config has no such figure.
        FileFault: if the scores cannot be read.
    """
    if name not in study.config.figures:
        raise ConfigFault(f"figure {name!r}: choose one of {', '.join(study.config.figures) or 'none in this config'}")
    definition = study.config.figures[name]
    with sns.axes_style("ticks"), plt.rc_context(_STYLE):
        if isinstance(definition, SweepFigure):
            figure = sweep(study, definition, _read_scores(scores))
        elif isinstance(definition, RankFigure):
            figure = rank_histograms(study, definition)
        else:
            figure = trajectories(study, definition)
        for output in outputs:
            # No date in a PDF and no version in a PNG: the same data give the same file.
            metadata: dict[str, object] = {"CreationDate": None} if output.suffix == ".pdf" else {"Software": None}
            with replacing(output) as temporary:
                figure.savefig(temporary, format=output.suffix.removeprefix("."), metadata=metadata)
        plt.close(figure)


def _read_scores(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise FileFault(path, f"cannot be read as scores ({error})", "run stage aggregate again") from error


def sweep(study: Study, definition: SweepFigure, scores: pd.DataFrame) -> Figure:
    """A score against an axis, mean and standard deviation over seeds, one line a filter and one panel an experiment."""
    columns = min(definition.columns, len(definition.panels))
    rows = -(-len(definition.panels) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(PAGE_WIDTH, 2.0 * rows + 0.6), squeeze=False, layout="constrained", sharey=False
    )
    look = Look.of(study)
    shown: dict[str, Any] = {}
    for i, (panel, ax) in enumerate(zip(definition.panels, grid.flat, strict=False)):
        _sweep_panel(study, definition, panel, scores, look, ax, ascii_lowercase[i])
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
        if ax.get_legend() is not None:
            ax.get_legend().remove()
    for ax in list(grid.flat)[len(definition.panels) :]:
        ax.set_axis_off()
    order = [label for label in look.colours if label in shown]
    _legend(figure, [shown[k] for k in order], order)
    return figure


def _legend(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """A legend below the panels, in as few and as even rows as the page is wide enough for; the page grows for more than two."""
    for rows in range(1, len(labels) + 1):
        columns = -(-len(labels) // rows)
        legend = figure.legend(handles, labels, loc="outside lower center", ncol=columns, frameon=False, columnspacing=1.2)
        extent = legend.get_window_extent()
        if columns == 1 or extent.width <= figure.bbox.width:
            figure.set_figheight(figure.get_figheight() + max(0.0, extent.height / figure.dpi - 0.4))
            return
        legend.remove()


def _letters(ax: Axes, letter: str, title: str) -> None:
    ax.set_title(f"({letter}) {title}", loc="left")
    sns.despine(ax=ax)


def _sweep_panel(
    study: Study, definition: SweepFigure, panel: Panel, scores: pd.DataFrame, look: Look, ax: Axes, letter: str
) -> None:
    rows = experiment_rows(study, panel.experiment, scores)
    rows = rows[rows["observation"] == panel.observation]
    score_name = panel.score or definition.score
    if score_name in EXACTNESS:  # the reference has no distance to itself
        rows = rows[rows["filter"] != study.config.experiments[panel.experiment].reference]
    column = axis_column(panel.axis)
    rows = rows.assign(label=[study.filters[str(f)].label for f in rows["filter"]])
    present = [label for label in look.colours if label in set(rows["label"])]
    sns.lineplot(
        rows, x=column, y=score_name, hue="label", style="label", hue_order=present, style_order=present,
        palette=look.colours, markers=look.markers, dashes=look.dashes, errorbar="sd", err_style="bars",
        err_kws={"elinewidth": 0.8, "capsize": 1.5}, ax=ax,
    )  # fmt: skip
    values = sorted(rows[column].unique())
    if panel.axis in LOGARITHMIC:
        ax.set_xscale("log")
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(AXIS_LABELS.get(panel.axis, panel.axis))
    ax.set_ylabel(SCORES[score_name])
    # Filters differ by factors, and the free run is far from all others.
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    if panel.guide is not None:
        _guide(ax, rows, column, score_name, panel.guide)
    _letters(ax, letter, f"{panel.observation.replace('_', ' ')} observed")


def _guide(ax: Axes, rows: pd.DataFrame, column: str, score_name: str, power: float) -> None:
    """A grey line through the middle of the panel that follows a power of the axis."""
    x = np.array(sorted(rows[column].unique()), dtype=float)
    positive = rows.loc[rows[score_name] > 0, score_name]
    if len(positive):
        y = x**power * np.exp(np.mean(np.log(positive)) - power * np.mean(np.log(x)))
        ax.plot(x, y, color="0.8", lw=3, zorder=0, solid_capstyle="butt")


def rank_histograms(study: Study, definition: RankFigure) -> Figure:
    """How often the truth has each rank among the first members, over the flat line, one panel a filter.

    Bars are means over seeds of the histogram pooled over components and cycles after spin-up, lines their standard deviation.
    """
    cells = study.figure_cells(definition)
    names = study.experiment_filters(study.config.experiments[definition.experiment])
    columns = min(definition.columns, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(PAGE_WIDTH, 1.5 * rows + 0.4), squeeze=False, layout="constrained", sharey=True
    )  # fmt: skip
    look = Look.of(study)
    variable = "ranks" if definition.ensemble == "analysis" else "ranks_forecast"
    for i, (name, ax) in enumerate(zip(names, grid.flat, strict=False)):
        label = study.filters[name].label
        histograms = []
        for cell in cells:
            data = read_estimate(Path(study.config.results) / cell.path / f"{name}.nc")
            if not data.attrs["diverged"]:
                counts = data[variable].values[cell.spin_up_cycles :].astype(np.float64).sum(axis=0)
                histograms.append(counts / counts.mean())
        if histograms:
            mean = np.mean(histograms, axis=0)
            deviation = np.std(histograms, axis=0, ddof=1) if len(histograms) > 1 else None
            ax.bar(
                np.arange(len(mean)), mean, 1.0, yerr=deviation, color=look.colours[label], alpha=0.6,
                linewidth=0, error_kw={"elinewidth": 0.6},
            )  # fmt: skip
        missing = len(cells) - len(histograms)
        if missing:
            ax.text(0.5, 0.9, f"diverged in {missing} of {len(cells)}", ha="center", transform=ax.transAxes, fontsize=7)
        ax.axhline(1.0, color="k", lw=0.8, ls="--")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _letters(ax, ascii_lowercase[i % 26], label)
    for ax in list(grid.flat)[len(names) :]:
        ax.set_axis_off()
    figure.supxlabel(f"rank of the truth among members of the {definition.ensemble} ensemble", fontsize=8)
    figure.supylabel("frequency over uniform", fontsize=8)
    return figure


def trajectories(study: Study, definition: TrajectoryFigure) -> Figure:
    """Truth and estimate: the attractor and the first three components over time, one row a filter, with its RMSE."""
    (cell,) = study.figure_cells(definition)
    # Not the cell's filters: another experiment may run more of them there.
    filters = study.experiment_filters(study.config.experiments[definition.experiment])
    folder = Path(study.config.results) / cell.path
    truth = read_truth(folder / "truth.nc")
    system = make_system(cell.settings.system, cell.settings.parameters)
    gap = cell.settings.gap
    first = max(0, len(truth.truth) - 1 - definition.cycles * gap)
    times = np.arange(len(truth.truth)) * system.dt
    measured = np.arange(gap, len(truth.truth), gap)
    measured = measured[measured >= first]
    look = Look.of(study)
    figure, grid = plt.subplots(
        len(filters), 4, figsize=(PAGE_WIDTH, 1.25 * len(filters) + 0.5), squeeze=False, layout="constrained",
        width_ratios=[1, 1.3, 1.3, 1.3], sharex="col", sharey="col",
    )  # fmt: skip
    observed = study.config.observations[cell.observation_name].operator == "identity"
    for row, name in enumerate(filters):
        data = read_estimate(folder / f"{name}.nc")
        mean = data["mean"].values.reshape(len(truth.truth), -1)
        label = study.filters[name].label
        colour = look.colours[label]
        attractor, *series = grid[row]
        attractor.plot(truth.truth[first:, 0], truth.truth[first:, 2], color="0.6", lw=0.8)
        attractor.plot(mean[first:, 0], mean[first:, 2], color=colour, lw=0.8)
        for component, ax in enumerate(series):
            ax.plot(times[first:], truth.truth[first:, component], color="0.6", label="truth")
            ax.plot(times[first:], mean[first:, component], color=colour, label="ensemble mean")
            if observed:
                y = truth.observation[measured // gap - 1, component]
                ax.plot(times[measured], y, "o", mfc="none", color="k", ms=3, mew=0.7, label="measurement")
        rmse = score(data, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles)["rmse"]
        title = f"{label}: diverged" if np.isnan(rmse) else f"{label}: RMSE {rmse:.2f}"
        series[0].set_title(f"({ascii_lowercase[row % 26]}) {title}", loc="left")
        for ax, component in zip(grid[row], (2, 0, 1, 2), strict=True):
            ax.set_ylabel(f"${system.component_name(component)}$")
            sns.despine(ax=ax)
    for ax, text in zip(grid[-1], (f"${system.component_name(0)}$", *["model time"] * 3), strict=True):
        ax.set_xlabel(text)
    handles, labels = grid[0][1].get_legend_handles_labels()
    _legend(figure, handles, labels)
    return figure
