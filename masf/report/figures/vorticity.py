"""Vorticity of a flow: truth, measurement and the mean of each filter, at a few times or from step
to step.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from masf.files.cell import build
from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.observations.base import checked_places
from masf.report.figures.look import label_size, page_width
from masf.scores.fields import structural_similarity
from masf.study.figures.vorticity import AnimationFigure, FieldsFigure, VorticityFigure
from masf.study.study import Study
from masf.systems import flow
from masf.systems.base import System

MOST_COLUMNS = 8
"""Fields side by side; more go below."""
LETTERS_PER_INCH = 18
"""Of the titles."""
MOST_ARROWS = 16
"""Measured velocities along each side of the box; of more, some are shown."""
LIMIT_QUANTILE = 0.998
"""Of the magnitudes of the truth's vorticity: where the colours end."""


@dataclass(frozen=True)
class Run:
    """What a figure shows of one cell: states (time, d) and measurements."""

    system: System
    cycle_steps: np.ndarray
    truth: np.ndarray
    measurements: np.ndarray
    places: np.ndarray
    velocities: bool
    """Whether the measurements are velocities, and not a function of these."""
    means: dict[str, np.ndarray]

    @classmethod
    def read(cls, study: Study, definition: FieldsFigure) -> Run:
        """The results of the filters that a figure shows, by label."""
        (cell,) = study.point_cells(definition, definition.seed)
        truth, (system, observation) = read_truth(study.results / cell.truth), build(cell.settings)
        assert system.grid is not None
        means = {
            study.filters[name].label: read_estimate(
                study.results / cell.estimate(name), every_step=definition.every_step
            )["mean"].values
            for name in study.figure_filters(definition, definition.experiment)
        }
        places = checked_places(observation, system.grid)
        return cls(
            system, cell.settings.steps, truth.truth, truth.observation, places, observation.linear,
            means,
        )  # fmt: skip

    def fields(self, steps: np.ndarray) -> dict[str, np.ndarray]:
        """Vorticity (time, n, n) at some steps: the truth's and that of each filter's mean, by what
        columns are called.
        """
        return {
            title: self.vorticity(states, steps)
            for title, states in {"truth": self.truth, **self.means}.items()
        }

    def vorticity(self, states: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """That of states (time, d) at some steps (steps, n, n)."""
        return flow.vorticity(states[steps].reshape(-1, *self.system.shape))


def vorticity(study: Study, definition: VorticityFigure) -> Figure:
    """Vorticity at some measurement times: of the truth and of each ensemble mean, with its SSIM;
    and the measured velocities, unless the measurements are a function of these.
    """
    run = Run.read(study, definition)
    steps = run.cycle_steps[np.array(definition.cycles) - 1]
    return _draw(run, steps, _limit(run, steps), MOST_COLUMNS)


def animation(study: Study, definition: AnimationFigure) -> Iterator[Figure]:
    """The same step by step, one figure a step; what is measured is shown from then on, and
    similarities where there is one.
    """
    run = Run.read(study, definition)
    steps = np.arange(run.cycle_steps[definition.cycles - 1] + 1)
    limit = _limit(run, steps)
    for step in steps:
        kind = "analysis" if step in run.cycle_steps else "forecast" if step else "initial ensemble"
        yield _draw(
            run,
            steps[[step]],
            limit,
            MOST_COLUMNS // 2,
            f"model time {step * run.system.dt:.2f}: {kind}",
        )


def _limit(run: Run, steps: np.ndarray) -> float:
    """Where the colours end."""
    return float(np.quantile(np.abs(run.vorticity(run.truth, steps)), LIMIT_QUANTILE))


def _draw(
    run: Run, steps: np.ndarray, limit: float, most_columns: int, title: str | None = None
) -> Figure:
    """Fields at some steps, one row each; their times are beside the rows, where there is no
    title.
    """
    shown = run.fields(steps)
    shown_truth = shown.pop("truth")
    # Of a function of velocities there is nothing that arrows could show.
    measured: dict[str, np.ndarray | None] = {"measurement": None} if run.velocities else {}
    fields: dict[str, np.ndarray | None] = {"truth": shown_truth, **measured, **shown}
    bands = -(-len(fields) // most_columns)
    columns = -(-len(fields) // bands)
    side = (page_width() - 1.0) / columns
    size = (page_width(), bands * (len(steps) * (side + 0.04) + 0.25))
    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure, grid = plt.subplots(
        bands * len(steps), columns, figsize=size, squeeze=False, layout=layout
    )
    n = run.system.shape[-1]
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[], xlim=(-0.5, n - 0.5), ylim=(-0.5, n - 0.5), aspect="equal")
        ax.set_visible(False)
    for j, (name, values) in enumerate(fields.items()):
        for i, step in enumerate(steps):
            ax = grid[j // columns * len(steps) + i, j % columns]
            ax.set_visible(True)
            cycle = int(np.searchsorted(run.cycle_steps, step, side="right")) - 1
            if i == 0:
                ax.set_title(
                    textwrap.fill(name, round(LETTERS_PER_INCH * side)), fontsize=label_size()
                )
            if j % columns == 0 and title is None:
                ax.set_ylabel(f"$t = {step * run.system.dt:.3g}$", fontsize=label_size())
            if values is None:
                if cycle >= 0:
                    _arrows(ax, run.measurements[cycle], run.places, n)
                else:
                    ax.text(
                        0.5,
                        0.5,
                        "none yet",
                        transform=ax.transAxes,
                        ha="center",
                        color="0.3",
                        fontsize=label_size(),
                    )
                continue
            image = ax.imshow(
                values[i],
                origin="lower",
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
            )
            if name in run.means and step in run.cycle_steps:
                similarity = structural_similarity(values[i], shown_truth[i])
                text = "diverged" if np.isnan(similarity) else f"SSIM {similarity:.2f}"
                box = {"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
                ax.text(
                    0.96,
                    0.95,
                    text,
                    transform=ax.transAxes,
                    ha="right",
                    va="top",
                    fontsize=0.9 * label_size(),
                    bbox=box,
                )
    bar = figure.colorbar(
        image, ax=grid, extend="both", aspect=25, pad=0.01, label="vorticity (1 / time unit)"
    )
    bar.outline.set_linewidth(0.5)
    if title is not None:
        figure.suptitle(title)
    return figure


def _arrows(ax: Axes, measured: np.ndarray, places: np.ndarray, n: int) -> None:
    """Measured velocities (m,), the first half u and the second v, as arrows at their places (m, 2)
    on an n x n grid; none where one of the two is missing.
    """
    velocity, places = measured.reshape(2, -1), places[: len(measured) // 2]
    whole = np.all(np.isfinite(velocity), axis=0)
    if not np.any(whole):
        return
    velocity, places = velocity[:, whole], places[whole]
    boxes = np.floor(places * min(1.0, MOST_ARROWS / n)).astype(int)
    shown = np.unique(boxes, axis=0, return_index=True)[1]
    spacing = n / np.sqrt(len(shown))
    scale = np.quantile(np.hypot(*velocity), 0.95) / spacing
    y, x = places[shown].T
    ax.quiver(
        x,
        y,
        *velocity[:, shown],
        angles="xy",
        scale_units="xy",
        scale=scale,
        width=0.012,
        pivot="mid",
    )
