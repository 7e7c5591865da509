"""Vorticity of a flow: truth, measurement and the analysis of each filter, at a few times."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from masf import flow
from masf.dataset import read_estimate, read_truth
from masf.figures.look import PAGE_WIDTH
from masf.localization import observation_places
from masf.simulation import build
from masf.study import Study, VorticityFigure

MOST_COLUMNS = 8
"""Fields side by side; more go below."""
LETTERS_PER_INCH = 18
"""Of the titles."""
MOST_ARROWS = 16
"""Measured velocities along each side of the box; of more, some are shown."""
LIMIT_QUANTILE = 0.998
"""Of the magnitudes of the truth's vorticity: where the colours end."""


def vorticity(study: Study, definition: VorticityFigure) -> Figure:
    """Vorticity at some measurement times: of the truth and of each ensemble mean, with its SSIM; and the measured velocities."""
    (cell,) = study.point_cells(definition, definition.seed)
    folder = Path(study.config.results) / cell.path
    truth, (system, observation) = read_truth(folder / "truth.nc"), build(cell.settings)
    at = np.array(definition.cycles) - 1
    steps = (at + 1) * cell.settings.gap

    def field(states: np.ndarray) -> np.ndarray:
        return flow.vorticity(states[steps].reshape(-1, *system.shape))

    fields: dict[str, np.ndarray | None] = {"truth": field(truth.truth), "measurement": None}
    similarity: dict[str, np.ndarray] = {}
    for name in study.figure_filters(definition, definition.experiment):
        data, label = read_estimate(folder / f"{name}.nc", "ssim"), study.filters[name].label
        fields[label], similarity[label] = field(data["mean"].values), data["ssim"].values[at]

    columns = min(MOST_COLUMNS, len(fields))
    bands = -(-len(fields) // columns)
    side = (PAGE_WIDTH - 1.0) / columns
    size = (PAGE_WIDTH, bands * (len(at) * (side + 0.04) + 0.25))
    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure, grid = plt.subplots(bands * len(at), columns, figsize=size, squeeze=False, layout=layout)
    limit = float(np.quantile(np.abs(field(truth.truth)), LIMIT_QUANTILE))
    assert system.grid is not None
    places = observation_places(observation, system.grid)
    times = steps * system.dt
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.set_visible(False)
    for j, (title, values) in enumerate(fields.items()):
        for i in range(len(at)):
            ax = grid[j // columns * len(at) + i, j % columns]
            ax.set_visible(True)
            if i == 0:
                ax.set_title(textwrap.fill(title, round(LETTERS_PER_INCH * side)), fontsize=7)
            if j % columns == 0:
                ax.set_ylabel(f"$t = {times[i]:.3g}$", fontsize=7)
            if values is None:
                _arrows(ax, truth.observation[at[i]], places, system.shape[-1])
                continue
            image = ax.imshow(values[i], origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            if title in similarity:
                text = "diverged" if np.isnan(similarity[title][i]) else f"{similarity[title][i]:.2f}"
                box = {"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
                ax.text(0.96, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=6, bbox=box)
    bar = figure.colorbar(image, ax=grid, extend="both", aspect=25, pad=0.01, label="vorticity (1 / time unit)")
    bar.outline.set_linewidth(0.5)
    return figure


def _arrows(ax: Axes, measured: np.ndarray, places: np.ndarray, n: int) -> None:
    """Measured velocities (m,), the first half u and the second v, as arrows at their places (m, 2) on an n x n grid."""
    velocity, places = measured.reshape(2, -1), places[: len(measured) // 2]
    boxes = np.floor(places * min(1.0, MOST_ARROWS / n)).astype(int)
    shown = np.unique(boxes, axis=0, return_index=True)[1]
    spacing = n / np.sqrt(len(shown))
    scale = np.quantile(np.hypot(*velocity), 0.95) / spacing
    y, x = places[shown].T
    ax.quiver(x, y, *velocity[:, shown], angles="xy", scale_units="xy", scale=scale, width=0.012, pivot="mid")
    ax.set(xlim=(-0.5, n - 0.5), ylim=(-0.5, n - 0.5), aspect="equal")
