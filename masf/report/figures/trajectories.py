"""Truth and estimate over time."""

from __future__ import annotations

from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple

from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.report.figures.look import PAGE_HEIGHT, Look, legend_outside, page_width
from masf.scores.run import score
from masf.study.figures.trajectories import TrajectoryFigure
from masf.study.study import Study
from masf.systems.registry import make_system

LEAST_HEIGHT = 1.1
"""Inches of a row, in which its three curves can still be told apart."""


def trajectories(study: Study, definition: TrajectoryFigure) -> Figure:
    """Truth and estimate: the attractor and the first three components over time, one row a filter,
    with its RMSE.
    """
    ((_, cell),) = definition.cells(study)
    # Not the cell's filters: another experiment may run more of them there.
    named = study.figure_filters(definition, definition.experiment)
    of_cell = {
        name: read_estimate(study.results / cell.estimate(name), every_step=True) for name in named
    }
    errors = {
        name: score(data, gap=cell.settings.gap, spin_up_cycles=cell.spin_up_cycles)["rmse"]
        for name, data in of_cell.items()
    }
    chosen = definition.of_part(
        sorted(named, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    )
    filters = [name for name in named if name in chosen]
    truth = read_truth(study.results / cell.truth)
    system = make_system(cell.settings.system, cell.settings.parameters)
    steps = cell.settings.steps
    first = 0 if definition.cycles >= len(steps) else steps[-definition.cycles - 1]
    times = np.arange(len(truth.truth)) * system.dt
    shown = steps >= first
    measured = steps[shown]
    look = Look.of(study)
    height = min(1.4, max(PAGE_HEIGHT / len(filters), LEAST_HEIGHT))
    figure, grid = plt.subplots(
        len(filters),
        4,
        figsize=(page_width(), height * len(filters) + 0.5),
        squeeze=False,
        layout="constrained",
        width_ratios=[1, 1.3, 1.3, 1.3],
        sharex="col",
        sharey="col",
    )
    described = study.config.observations[cell.observation_name]
    observed = described.operator == "identity" and described.transform is None
    for row, name in enumerate(filters):
        mean = of_cell[name]["mean"].values.reshape(len(truth.truth), -1)
        label = study.filters[name].label
        colour = look.colours[label]
        attractor, *series = grid[row]
        attractor.plot(truth.truth[first:, 0], truth.truth[first:, 2], color="0.6", lw=0.8)
        attractor.plot(mean[first:, 0], mean[first:, 2], color=colour, lw=0.8)
        for component, ax in enumerate(series):
            ax.plot(times[first:], truth.truth[first:, component], color="0.6", label="truth")
            ax.plot(times[first:], mean[first:, component], color=colour, label="ensemble mean")
            if observed:
                y = truth.observation[shown, component]
                ax.plot(
                    times[measured],
                    y,
                    "o",
                    mfc="none",
                    color="k",
                    ms=3,
                    mew=0.7,
                    label="measurement",
                )
        rmse = errors[name]
        title = f"{label}: diverged" if np.isnan(rmse) else f"{label}: RMSE {rmse:.2f}"
        attractor.set_title(f"({ascii_lowercase[row % 26]}) {title}", loc="left").set_in_layout(
            False
        )
        for ax, component in zip(grid[row], (2, 0, 1, 2), strict=True):
            ax.set_ylabel(f"${system.component_name(component)}$")
            sns.despine(ax=ax)
    for ax, text in zip(
        grid[-1], (f"${system.component_name(0)}$", *["model time"] * 3), strict=True
    ):
        ax.set_xlabel(text)
    handles = dict(zip(*reversed(grid[0][1].get_legend_handles_labels()), strict=True))
    # A mean has its filter's colour: the sample in the legend has all of them.
    handles["ensemble mean"] = tuple(row[1].lines[1] for row in grid)
    legend_outside(
        figure,
        list(handles.values()),
        list(handles),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
    )
    return figure
