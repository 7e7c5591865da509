"""Truth and errors of filters over place and time, on a ring."""

from __future__ import annotations

from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.report.figures.look import page_width
from masf.scores.run import score
from masf.study.figures.space_time import SpaceTimeFigure
from masf.study.study import Study
from masf.systems.registry import make_system

ROW_HEIGHT = 1.4
"""Inches."""
QUANTILE, TIMES = 0.98, 2.0
"""Colours of errors end at TIMES this quantile of the magnitudes of the best filter's errors: what
that filter does wrong is seen, and what is lost has the darkest colours.
"""


def space_time(study: Study, definition: SpaceTimeFigure) -> Figure:
    """The truth over place and time, and the error of each filter's ensemble mean, one panel each,
    over the last cycles.
    """
    ((_, cell),) = definition.cells(study)
    truth = read_truth(study.results / cell.truth).truth
    system = make_system(cell.settings.system, cell.settings.parameters)
    steps = cell.settings.steps
    first = 0 if definition.cycles >= len(steps) else int(steps[-definition.cycles - 1])
    named = study.figure_filters(definition, definition.experiment)
    data = {
        name: read_estimate(study.results / cell.estimate(name), every_step=True) for name in named
    }
    rmse = {
        name: score(one, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles)["rmse"]
        for name, one in data.items()
    }
    best_first = sorted(named, key=lambda name: np.nan_to_num(rmse[name], nan=np.inf))
    chosen = definition.of_part(best_first)
    errors = {
        study.filters[name].label: data[name]["mean"].values[first:] - truth[first:]
        for name in named
        if name in chosen
    }
    said = {study.filters[name].label: rmse[name] for name in named}
    panels = {"truth": truth[first:], **errors}
    columns = min(definition.columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(page_width(), ROW_HEIGHT * rows + 0.4),
        squeeze=False,
        layout="constrained",
        sharex=True,
        sharey=True,
    )
    limit = _limit(errors[study.filters[chosen[0]].label])
    extent = (first * system.dt, (len(truth) - 1) * system.dt, 0.5, truth.shape[1] + 0.5)
    images: dict[str, AxesImage] = {}
    for i, (ax, (label, values)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
        is_truth = label == "truth"
        images["truth" if is_truth else "error"] = ax.imshow(
            values.T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=extent,
            **(
                {"cmap": "viridis"}
                if is_truth
                else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            ),
        )
        words = label if is_truth else f"{label}: {_in_words(said[label])}"
        ax.set_title(f"({ascii_lowercase[i % 26]}) {words}", loc="left")
        ax.set_xticks(steps[steps >= first] * system.dt, minor=True)
        ax.tick_params(which="minor", length=2)
    for ax in list(grid.flat)[len(panels) :]:
        ax.set_axis_off()
    _name_axes(list(grid.flat)[: len(panels)], columns)
    truth_ax, *others = list(grid.flat)[: len(panels)]
    figure.colorbar(images["truth"], ax=truth_ax, label="truth", pad=0.01)
    if others:
        bar = figure.colorbar(
            images["error"], ax=others, label="error (mean − truth)", extend="both", pad=0.01,
            aspect=30,
        )  # fmt: skip
        bar.outline.set_linewidth(0.5)
    return figure


def _limit(errors: np.ndarray) -> float:
    """Where the colours of errors end."""
    finite = np.abs(errors[np.isfinite(errors)])
    return TIMES * float(np.quantile(finite, QUANTILE)) if finite.any() else 1.0


def _in_words(rmse: float) -> str:
    return "diverged" if np.isnan(rmse) else f"RMSE {rmse:.2f}"


def _name_axes(axes: list[Axes], columns: int) -> None:
    """Names the outer axes of a grid of panels."""
    for i, ax in enumerate(axes):
        if i % columns == 0:
            ax.set_ylabel("component")
        if i + columns >= len(axes):
            ax.set_xlabel("model time")
            ax.tick_params(labelbottom=True)
