"""Energy spectra of a flow: the truth's, and those of each filter's analyses."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from masf.files.estimate import read_estimate
from masf.files.truth import read_truth
from masf.report.figures.look import Look, legend_outside, lettered, page_width
from masf.study.figures.spectra import SpectraFigure
from masf.study.study import Study
from masf.systems import flow
from masf.systems.registry import make_system

RESOLVED = 1e-10
"""Share of its largest value above which a shell of the truth's spectrum is shown: what is below is
rounding.
"""


def spectra(study: Study, definition: SpectraFigure) -> Figure:
    """Energy against the wavenumber, mean over analyses after spin-up and over seeds: of ensemble
    means, and of members.
    """
    cells = study.point_cells(definition)
    system = make_system(cells[0].settings.system, cells[0].settings.parameters)
    results, look = study.results, Look.of(study)

    def energy(states: np.ndarray) -> np.ndarray:
        """The spectrum (shells,) of states (..., 2, n, n), mean over all."""
        return flow.energy_spectrum(states.reshape(-1, *system.shape)).mean(axis=0)

    at = [cell.settings.steps[cell.spin_up_cycles :] for cell in cells]
    truths = [read_truth(results / cell.truth).truth for cell in cells]
    truth = np.mean([energy(states[s]) for states, s in zip(truths, at, strict=True)], axis=0)
    figure, axes = plt.subplots(
        1, 2, figsize=(page_width(), 2.8), sharey=True, layout="constrained"
    )
    # Beyond the last shell that the model resolves all lines would fall to zero.
    shells = np.flatnonzero(truth > RESOLVED * truth.max())
    shells = shells[shells > 0]
    for ax, letter, title in zip(axes, "ab", ("ensemble mean", "members"), strict=True):
        ax.loglog(shells, truth[shells], color="k", lw=2.5, alpha=0.5, label="truth")
        lettered(ax, letter, title)
        ax.set_xlabel("wavenumber $k$")
    for name in study.figure_filters(definition, definition.experiment):
        label, found = study.filters[name].label, []
        for cell, analyses in zip(cells, at, strict=True):
            data = read_estimate(results / cell.estimate(name), "member")
            if not data.attrs["diverged"]:
                found.append(
                    [
                        energy(data["mean"].values[analyses]),
                        energy(data["member"].values[:, cell.spin_up_cycles :]),
                    ]
                )
        if found:
            for ax, spectrum in zip(axes, np.mean(found, axis=0), strict=True):
                ax.plot(
                    shells,
                    spectrum[shells],
                    color=look.colours[label],
                    dashes=look.pattern(label),
                    label=label,
                )
    axes[0].set(
        xlim=(1, shells.max()),
        ylim=(truth[shells].min() / 5, 3 * truth.max()),
        ylabel="energy $E(k)$",
    )
    axes[1].set_xlim(1, shells.max())
    legend_outside(figure, *axes[0].get_legend_handles_labels())
    return figure
