"""What ``masf run`` shows: truth, measurements and estimates of one cell over time, and their
errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from masf.files.cell import build
from masf.files.truth import Truth, truth_of
from masf.observations.base import Observation
from masf.report.figures.look import legend_outside, lettered, page_width, rc_of, readable
from masf.report.figures.panels import number_log_axis
from masf.scores.run import score
from masf.study.figures.style import Style
from masf.systems.base import System

SHOWN_CYCLES = 15
"""Last cycles whose states are shown; errors are shown of all."""
SPREADS = 2.0
"""Standard deviations of the ensemble that bands show to either side."""
TRIED = 64
"""Components among which one is looked for that is measured by itself."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
"""Okabe and Ito (2008)."""


def first_look(
    problem: xr.Dataset, estimates: Mapping[str, xr.Dataset], spin_up_cycles: int
) -> Figure:
    """A row for each estimate, of one component that is measured by itself and one that is not,
    where there are such: truth, measurements, ensemble mean, and twice its spread to either side;
    below, the error of all over time.

    Args:
        problem: with its truth, as ``masf.simulate`` makes it.
        estimates: by what they are called, as ``masf.assimilate`` makes them.
        spin_up_cycles: how many of the first cycles scores leave out.
    """
    with plt.rc_context(rc_of(Style())):
        return _first_look(truth_of(problem), estimates, spin_up_cycles)


def _first_look(truth: Truth, estimates: Mapping[str, xr.Dataset], spin_up_cycles: int) -> Figure:
    system, observation = build(truth.settings)
    shown = shown_components(system, observation)
    figure, grid = plt.subplots(
        len(estimates) + 1,
        len(shown),
        figsize=(page_width(), 1.35 * len(estimates) + 2.2),
        squeeze=False,
        layout="constrained",
        height_ratios=[*[1.0] * len(estimates), 1.2],
    )
    for ax in grid[-1]:
        ax.remove()
    below = figure.add_subplot(grid[-1, 0].get_gridspec()[-1, :])
    for row, (label, data) in enumerate(estimates.items()):
        colour = COLOURS[row % len(COLOURS)]
        rmse = score(data, gap=truth.settings.gap, spin_up_cycles=spin_up_cycles)["rmse"]
        for column, (ax, component) in enumerate(zip(grid[row], shown.items(), strict=True)):
            _states(ax, truth, system, data, component, colour)
            place = row * len(shown) + column
            said = "diverged" if np.isnan(rmse) else f"RMSE {rmse:.2f}"
            title = f"{label}: {said}" if column == 0 else _measured_in_words(component[1])
            lettered(ax, ascii_lowercase[place % 26], title)
        _errors(below, system, data, label, colour)
    for column in grid[:-1].T:
        limits = [ax.get_ylim() for ax in column]
        for ax in column:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for ax in grid[len(estimates) - 1]:
        ax.set_xlabel(f"model time, last {min(SHOWN_CYCLES, truth.settings.cycles)} cycles")
    _finish_errors(below, truth, system, spin_up_cycles)
    lettered(below, ascii_lowercase[len(estimates) * len(shown) % 26], "error of the ensemble mean")
    handles = dict(zip(*reversed(grid[0][0].get_legend_handles_labels()), strict=True))
    legend_outside(figure, list(handles.values()), list(handles), above=True)
    return figure


def shown_components(system: System, observation: Observation) -> dict[int, int | None]:
    """The components that are shown, and of each the measurement that is of it alone; None where
    there is none: the first that is measured by itself, and the first that is not.
    """
    first = min(TRIED, system.dimension)
    found: dict[int, int | None] = dict.fromkeys(range(first))
    if observation.linear:
        units = np.eye(first, system.dimension)
        of_each = np.asarray(observation.apply(units))
        of_all = np.asarray(observation.apply(np.ones((1, system.dimension))))[0]
        for component in range(first):
            alone = np.flatnonzero((of_each[component] == 1) & (of_all == 1))
            found[component] = int(alone[0]) if len(alone) else None
    measured = next((i for i, row in found.items() if row is not None), None)
    unmeasured = next((i for i, row in found.items() if row is None), None)
    return {i: found[i] for i in (measured, unmeasured) if i is not None}


def _measured_in_words(row: int | None) -> str:
    return "not measured by itself" if row is None else "measured"


def _states(
    ax: Axes,
    truth: Truth,
    system: System,
    data: xr.Dataset,
    component: tuple[int, int | None],
    colour: str,
) -> None:
    """One component over the last cycles."""
    place, measurement = component
    steps = truth.settings.steps
    first = 0 if len(steps) <= SHOWN_CYCLES else int(steps[-SHOWN_CYCLES - 1])
    times = system.dt * np.arange(first, steps[-1] + 1)
    mean, spread = (
        data[key].values.reshape(len(truth.truth), -1)[first:, place] for key in ("mean", "spread")
    )
    ax.fill_between(
        times,
        mean - SPREADS * spread,
        mean + SPREADS * spread,
        color=colour,
        alpha=0.25,
        linewidth=0,
        label="mean ± 2 spreads",
    )
    ax.plot(times, truth.truth[first:, place], color="0.35", label="truth")
    ax.plot(times, mean, color=colour, label="ensemble mean")
    if measurement is not None:
        late = steps >= first
        ax.plot(
            system.dt * steps[late],
            truth.observation[late, measurement],
            "o",
            mfc="none",
            color="k",
            ms=3,
            mew=0.7,
            label="measurement",
        )
    ax.set_ylabel(f"${system.component_name(place)}$")
    ax.set_xlim(times[0], times[-1])


def _errors(ax: Axes, system: System, data: xr.Dataset, label: str, colour: str) -> None:
    rmse = data["rmse"].values
    scored = f"{label}: diverged" if data.attrs["diverged"] else label
    ax.plot(system.dt * np.arange(len(rmse)), rmse, color=colour, lw=0.9, label=scored)


def _finish_errors(ax: Axes, truth: Truth, system: System, spin_up_cycles: int) -> None:
    steps = truth.settings.steps
    ax.set_yscale("log")
    ax.set_xlim(0, system.dt * steps[-1])
    if spin_up_cycles:
        ax.axvspan(0, system.dt * steps[spin_up_cycles - 1], color="0.92", linewidth=0)
        ax.text(
            0.01, 0.02, "not scored", transform=ax.transAxes, color="0.4", va="bottom", size="small"
        )
    ax.set_xlabel("model time")
    ax.set_ylabel("RMSE")
    number_log_axis(ax, "y")
    legend = ax.legend(frameon=False, loc="upper right", ncol=3)
    for line, text in zip(legend.get_lines(), legend.get_texts(), strict=True):
        text.set_color(readable(line.get_color()))
